"""The order of samples: a stream of whole epochs, a pure function of the seed and the position."""

from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.data.sampler import (
    SampleIndex,
    SequentialOrder,
    TrainingOrder,
    balanced_order,
    steps_until_epoch,
)
from deepresidual.runtime.random import order_of_epoch, sample_generator, sample_uniforms

_NUM_SAMPLES = st.integers(1, 60)
_BATCH_SIZE = st.integers(1, 80)
_SEEDS = st.integers(0, 2**63 - 1)


def _stream(order: TrainingOrder) -> list[SampleIndex]:
    return list(chain.from_iterable(order))


@given(seed=_SEEDS, num_samples=_NUM_SAMPLES, batch_size=_BATCH_SIZE, num_epochs=st.integers(1, 4))
def test_every_sample_comes_exactly_once_an_epoch(
    seed: int, num_samples: int, batch_size: int, num_epochs: int
) -> None:
    last_step = steps_until_epoch(num_epochs, num_samples, batch_size)
    stream = _stream(TrainingOrder(seed, num_samples, batch_size, 0, last_step))
    for epoch in range(num_epochs):
        positions = stream[epoch * num_samples : (epoch + 1) * num_samples]
        assert {position.epoch for position in positions} == {epoch}
        assert sorted(position.sample for position in positions) == list(range(num_samples))


@given(
    num_samples=_NUM_SAMPLES, batch_size=_BATCH_SIZE, first_step=st.integers(0, 50), count=st.integers(0, 9)
)
def test_every_batch_of_training_is_full(
    num_samples: int, batch_size: int, first_step: int, count: int
) -> None:
    order = TrainingOrder(3, num_samples, batch_size, first_step, first_step + count)
    assert [len(batch) for batch in order] == [batch_size] * count
    assert len(order) == count


@given(
    seed=_SEEDS,
    num_samples=_NUM_SAMPLES,
    batch_size=_BATCH_SIZE,
    last_step=st.integers(1, 20),
    data=st.data(),
)
def test_resuming_at_a_step_gives_the_rest_of_the_stream(
    seed: int, num_samples: int, batch_size: int, last_step: int, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, last_step))
    whole = list(TrainingOrder(seed, num_samples, batch_size, 0, last_step))
    assert list(TrainingOrder(seed, num_samples, batch_size, step, last_step)) == whole[step:]


@given(seed=_SEEDS, num_samples=_NUM_SAMPLES, size=st.sampled_from([1, 7, 32]))
def test_the_batch_size_only_cuts_the_stream(seed: int, num_samples: int, size: int) -> None:
    one_by_one = _stream(TrainingOrder(seed, num_samples, 1, 0, 4 * size))
    assert _stream(TrainingOrder(seed, num_samples, size, 0, 4)) == one_by_one


def test_the_same_order_can_be_read_again() -> None:
    order = TrainingOrder(1, 10, 4, 0, 5)
    assert list(order) == list(order)


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    orders = {tuple(order_of_epoch(seed, epoch, 50)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_each_sample_of_each_epoch_has_random_numbers_of_its_own() -> None:
    numbers = {
        sample_generator(seed, epoch, index).integers(2**63)
        for seed in range(4)
        for epoch in range(4)
        for index in range(4)
    }
    assert len(numbers) == 64


def test_the_random_numbers_are_these_on_every_machine() -> None:
    # Were they to change, a run resumed under another version would silently repeat and skip samples.
    assert order_of_epoch(0, 0, 8).tolist() == [1, 3, 7, 6, 0, 4, 2, 5]
    assert order_of_epoch(2026, 3, 8).tolist() == [4, 2, 6, 1, 0, 7, 3, 5]
    assert sample_generator(2026, 3, 7).integers(1000, size=4).tolist() == [596, 917, 517, 830]


@given(epoch=st.integers(0, 50), num_samples=st.integers(1, 10**7), batch_size=st.integers(1, 4096))
def test_an_epoch_is_over_at_the_first_step_that_has_seen_all_of_it(
    epoch: int, num_samples: int, batch_size: int
) -> None:
    step = steps_until_epoch(epoch, num_samples, batch_size)
    assert isinstance(step, int)
    assert step * batch_size >= epoch * num_samples
    assert (step - 1) * batch_size < epoch * num_samples


@pytest.mark.parametrize(("epoch", "steps"), [(0.0, 0), (0.5, 25), (0.51, 26), (1, 50), (2.25, 113)])
def test_parts_of_an_epoch_are_counted_in_steps(epoch: float, steps: int) -> None:
    assert steps_until_epoch(epoch, 100, 2) == steps


@given(num_samples=st.integers(0, 100), batch_size=_BATCH_SIZE)
def test_evaluation_takes_every_sample_once_in_order(num_samples: int, batch_size: int) -> None:
    order = SequentialOrder(num_samples, batch_size)
    batches = list(order)
    assert list(chain.from_iterable(batches)) == [SampleIndex(0, index) for index in range(num_samples)]
    assert len(batches) == len(order)
    assert all(len(batch) == batch_size for batch in batches[:-1])


def test_the_last_batch_of_evaluation_is_as_short_as_it_is() -> None:
    assert [len(batch) for batch in SequentialOrder(10, 4)] == [4, 4, 2]
    assert [len(batch) for batch in SequentialOrder(8, 4)] == [4, 4]


# -- repeats -------------------------------------------------------------------------------------------


@given(seed=_SEEDS, num_samples=st.integers(1, 60), batch_size=_BATCH_SIZE, repeats=st.integers(1, 6))
def test_each_sample_comes_as_often_as_it_is_repeated(
    seed: int, num_samples: int, batch_size: int, repeats: int
) -> None:
    last_step = steps_until_epoch(2, num_samples, batch_size)
    stream = _stream(TrainingOrder(seed, num_samples, batch_size, 0, last_step, repeats))
    for epoch in range(2):
        positions = stream[epoch * num_samples : (epoch + 1) * num_samples]
        assert {position.epoch for position in positions} == {epoch}
        views = [(position.sample, position.repeat) for position in positions]
        assert len(set(views)) == num_samples
        # Whole pairs of samples come all their times; only the end of the epoch may cut the last pair.
        whole = num_samples // (2 * repeats) * 2
        seen = order_of_epoch(seed, epoch, num_samples)[:whole].tolist()
        assert set(views) >= {(sample, repeat) for sample in seen for repeat in range(repeats)}
        assert len({sample for sample, _ in views}) <= whole + 2


@given(num_samples=st.integers(4, 60), batch_size=_BATCH_SIZE, repeats=st.integers(2, 5))
def test_neighbours_are_never_the_same_sample_because_neighbours_are_mixed(
    num_samples: int, batch_size: int, repeats: int
) -> None:
    last_step = steps_until_epoch(1, num_samples, batch_size)
    stream = _stream(TrainingOrder(5, num_samples, batch_size, 0, last_step, repeats))[:num_samples]
    assert all(first.sample != second.sample for first, second in pairwise(stream))


def test_the_views_of_a_sample_are_near_each_other() -> None:
    stream = _stream(TrainingOrder(0, 48, 12, 0, 4, repeats=3))
    first, second = order_of_epoch(0, 0, 48)[:2].tolist()
    assert [(position.sample, position.repeat) for position in stream[:6]] == [
        (first, 0), (second, 0), (first, 1), (second, 1), (first, 2), (second, 2),
    ]  # fmt: skip


def test_the_views_of_a_sample_have_random_numbers_of_their_own() -> None:
    stream = _stream(TrainingOrder(0, 48, 12, 0, 4, repeats=3))
    assert len({position.uniforms for position in stream}) == 48


# -- ranks and sides -----------------------------------------------------------------------------------


@given(
    seed=_SEEDS,
    num_samples=_NUM_SAMPLES,
    part=st.integers(1, 20),
    num_ranks=st.integers(1, 5),
    repeats=st.integers(1, 4),
)
def test_the_parts_of_all_ranks_are_the_batch_of_one(
    seed: int, num_samples: int, part: int, num_ranks: int, repeats: int
) -> None:
    batch_size = part * num_ranks
    whole = list(TrainingOrder(seed, num_samples, batch_size, 2, 6, repeats))
    parts = [
        list(TrainingOrder(seed, num_samples, batch_size, 2, 6, repeats, rank, num_ranks))
        for rank in range(num_ranks)
    ]
    assert [list(chain.from_iterable(step)) for step in zip(*parts, strict=True)] == whole


@given(num_samples=_NUM_SAMPLES, batch_size=_BATCH_SIZE, num_ranks=st.integers(1, 5))
def test_ranks_share_an_evaluation_in_whole_batches(
    num_samples: int, batch_size: int, num_ranks: int
) -> None:
    whole = list(SequentialOrder(num_samples, batch_size))
    parts = [list(SequentialOrder(num_samples, batch_size, rank, num_ranks)) for rank in range(num_ranks)]
    assert parts == [whole[rank::num_ranks] for rank in range(num_ranks)]


def test_every_position_carries_the_side_of_its_step() -> None:
    order = TrainingOrder(0, 10, 4, 1, 4, side_px=lambda step: 100 + step)
    assert [{position.side_px for position in batch} for batch in order] == [{101}, {102}, {103}]


def test_without_a_side_the_usual_one_is_meant() -> None:
    assert {position.side_px for position in _stream(TrainingOrder(0, 10, 4, 0, 3))} == {0}


@given(seed=_SEEDS, num_samples=_NUM_SAMPLES, repeats=st.integers(1, 4))
def test_the_numbers_of_a_sample_are_those_it_would_draw_alone(
    seed: int, num_samples: int, repeats: int
) -> None:
    for position in _stream(TrainingOrder(seed, num_samples, 7, 3, 6, repeats)):
        alone = sample_uniforms(
            seed, position.epoch, np.array([position.sample]), np.array([position.repeat])
        )
        assert position.uniforms == tuple(alone[0].tolist())


# -- all classes equally often ----------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(0, 50), st.lists(st.integers(1, 40), min_size=2, max_size=6))
def test_a_balanced_epoch_has_all_classes_equally_often(seed: int, epoch: int, counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    order, repeats = balanced_order(seed, epoch, labels)
    assert len(order) == len(labels)
    places = np.bincount(labels[order], minlength=len(counts))
    assert places.max() - places.min() <= 1
    # Of a class no sample comes once more before all others have come, and each time is counted.
    for label, count in enumerate(counts):
        times = np.bincount(order[labels[order] == label] - sum(counts[:label]), minlength=count)
        assert times.max() - times.min() <= 1
    pairs = set(zip(order.tolist(), repeats.tolist(), strict=True))
    assert len(pairs) == len(order)
    assert all((sample, repeat - 1) in pairs for sample, repeat in pairs if repeat)


LABELS = np.array([0] * 20 + [1] * 3 + [2] * 7)


def test_a_balanced_stream_is_the_same_from_any_step_on_any_ranks() -> None:
    whole = list(TrainingOrder(3, 30, 8, 0, 12, labels=LABELS))
    assert list(TrainingOrder(3, 30, 8, 5, 12, labels=LABELS)) == whole[5:]
    parts = [list(TrainingOrder(3, 30, 8, 0, 12, rank=rank, num_ranks=2, labels=LABELS)) for rank in (0, 1)]
    assert [first + second for first, second in zip(*parts, strict=True)] == whole
    assert whole != list(TrainingOrder(4, 30, 8, 0, 12, labels=LABELS))


@pytest.mark.parametrize("repeats", [1, 2])
def test_samples_that_come_again_have_random_numbers_of_their_own(repeats: int) -> None:
    order = TrainingOrder(3, 30, 10, 0, 3, repeats, labels=LABELS)
    drawn = [position.uniforms for batch in order for position in batch]
    assert len(set(drawn)) == len(drawn)
