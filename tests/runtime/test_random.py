"""Random numbers as pure functions: that they are random, independent, and always the same."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deepresidual.runtime.random import (
    NUM_UNIFORMS,
    SampleRandom,
    network_seed,
    order_of_epoch,
    sample_generator,
    sample_uniforms,
    samples_digest,
    step_generator,
)

COUNT = 100_000
INDICES = np.arange(COUNT)
NO_REPEATS = np.zeros(COUNT, dtype=np.int64)

# Five standard deviations of what chance allows: one of the tests below would fail by chance once in a
# hundred thousand choices of seeds, and the seeds are fixed.
SIGMAS = 5


def drawn(seed: int = 0, epoch: int = 0, repeat: int = 0) -> NDArray[np.float64]:
    return sample_uniforms(seed, epoch, INDICES, NO_REPEATS + repeat)


def correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    return float(np.corrcoef(first, second)[0, 1] * np.sqrt(len(first)))


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
@pytest.mark.parametrize("number", range(NUM_UNIFORMS))
def test_every_number_of_a_sample_is_uniform(number: int, seed: int) -> None:
    values = drawn(seed)[:, number]
    assert values.min() >= 0
    assert values.max() < 1
    assert abs(values.mean() - 0.5) < SIGMAS * np.sqrt(1 / 12 / COUNT)
    assert abs(values.var() - 1 / 12) < SIGMAS * np.sqrt(1 / 180 / COUNT)
    bins = 100
    observed = np.bincount((values * bins).astype(int), minlength=bins)
    chi_square = float(((observed - COUNT / bins) ** 2 / (COUNT / bins)).sum())
    assert abs(chi_square - (bins - 1)) < SIGMAS * np.sqrt(2 * (bins - 1))


@pytest.mark.parametrize("bit", [0, 1, 10, 30, 51, 52])
def test_low_bits_are_as_random_as_high_ones(bit: int) -> None:
    words = (drawn() * 2.0**53).astype(np.uint64)
    ones = int(((words >> np.uint64(bit)) & np.uint64(1)).sum())
    assert abs(ones - words.size / 2) < SIGMAS * np.sqrt(words.size) / 2


def test_the_numbers_of_a_sample_are_independent_of_each_other() -> None:
    values = drawn()
    pairs = [(first, second) for first in range(NUM_UNIFORMS) for second in range(first)]
    assert max(abs(correlation(values[:, one], values[:, two])) for one, two in pairs) < SIGMAS


@pytest.mark.parametrize("distance", [1, 2, 64, 256])
def test_neighbouring_samples_are_independent(distance: int) -> None:
    values = drawn()[:, 0]
    assert abs(correlation(values[:-distance], values[distance:])) < SIGMAS


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}, {"repeat": 1}, {"seed": 1, "epoch": 1}])
def test_seeds_epochs_and_repeats_are_independent(other: dict[str, int]) -> None:
    first, second = drawn()[:, 0], drawn(**other)[:, 0]
    assert abs(correlation(first, second)) < SIGMAS
    assert not np.isin(first, second).any()


def test_consecutive_epochs_of_a_sample_are_uniform_too() -> None:
    values = np.array(
        [sample_uniforms(0, epoch, np.array([7]), np.array([0]))[0, 0] for epoch in range(5000)]
    )
    assert abs(values.mean() - 0.5) < SIGMAS * np.sqrt(1 / 12 / len(values))
    assert abs(correlation(values[:-1], values[1:])) < SIGMAS


@given(
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 10**6),
    indices=st.lists(st.integers(0, 10**9), min_size=1, max_size=8),
    repeat=st.integers(0, 63),
)
def test_a_sample_draws_the_same_alone_and_among_others(
    seed: int, epoch: int, indices: list[int], repeat: int
) -> None:
    together = sample_uniforms(seed, epoch, np.array(indices), np.full(len(indices), repeat))
    for index, row in zip(indices, together, strict=True):
        alone = sample_uniforms(seed, epoch, np.array([index]), np.array([repeat]))[0]
        assert alone.tolist() == row.tolist()
        assert list(SampleRandom(seed, epoch, index, repeat).uniforms) == row.tolist()


def test_the_uniforms_are_these_on_every_machine() -> None:
    # Were they to change, a run resumed under another version would see other images.
    values = sample_uniforms(2026, 3, np.array([7, 8]), np.array([0, 1]))
    assert (values * 1e6).astype(int).tolist() == [
        [551164, 744525, 179649, 274674],
        [831570, 490689, 816983, 731242],
    ]


def test_uses_have_streams_of_their_own() -> None:
    words = {
        sample_generator(0, 0, 0).integers(2**62),
        step_generator(0, 0).integers(2**62),
        network_seed(0, 0, 0),
        int(order_of_epoch(0, 0, 2**16)[0]),
    }
    assert len(words) == 4


def test_a_repeat_has_a_generator_of_its_own() -> None:
    words = {sample_generator(0, 0, 0, repeat).integers(2**62) for repeat in range(8)}
    assert len(words) == 8


def test_the_seed_of_the_network_fits_torch_and_differs_by_all_of_its_arguments() -> None:
    seeds = {network_seed(seed, step, part) for seed in range(4) for step in range(4) for part in range(4)}
    assert len(seeds) == 64
    assert all(0 <= seed < 2**63 for seed in seeds)


# -- digest --------------------------------------------------------------------------------------------

POSITIONS = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 10**7), st.integers(0, 63)), min_size=1, max_size=30
)
MODULUS = 2**64


def digest(step: int, positions: list[tuple[int, int, int]]) -> int:
    return samples_digest(step, np.array(positions, dtype=np.int64).reshape(-1, 3))


@given(POSITIONS, st.integers(0, 10**6), st.data())
def test_the_digest_does_not_depend_on_order_or_division(
    positions: list[tuple[int, int, int]], step: int, data: st.DataObject
) -> None:
    whole = digest(step, positions)
    shuffled = positions.copy()
    random.Random(0).shuffle(shuffled)  # noqa: S311  # a shuffle is enough
    cut = data.draw(st.integers(0, len(positions)))
    assert (digest(step, shuffled[:cut]) + digest(step, shuffled[cut:])) % MODULUS == whole


@given(POSITIONS, st.integers(0, 10**6), st.data())
def test_the_digest_tells_another_step_and_another_sample(
    positions: list[tuple[int, int, int]], step: int, data: st.DataObject
) -> None:
    whole = digest(step, positions)
    assert digest(step + 1, positions) != whole
    place, column = data.draw(st.integers(0, len(positions) - 1)), data.draw(st.integers(0, 2))
    for changed in (
        positions[:place] + positions[place + 1 :],
        [*positions, positions[place]],
        [
            *positions[:place],
            tuple(value + (at == column) for at, value in enumerate(positions[place])),
            *positions[place + 1 :],
        ],
    ):
        assert digest(step, changed) != whole  # type: ignore[arg-type]  # mypy forgets the length


def test_the_digest_tells_samples_that_swapped_their_steps() -> None:
    first, second = [(0, 5, 0)], [(0, 9, 0)]
    straight = digest(1, first) + digest(2, second)
    assert (straight - digest(1, second) - digest(2, first)) % MODULUS


def test_nothing_seen_is_zero() -> None:
    assert digest(3, []) == 0


def test_digests_do_not_collide() -> None:
    seen = {
        digest(step, [(epoch, index, 0)]) for step in range(20) for epoch in range(20) for index in range(50)
    }
    assert len(seen) == 20 * 20 * 50
