"""Batches: the same bits from any number of workers, and bad samples that nobody can overlook."""

from __future__ import annotations

import pickle
import random
import signal
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from deepresidual.data.augment import choose
from deepresidual.data.decode import decode
from deepresidual.data.formats import EXPECTED
from deepresidual.data.loader import BadSample, Batch, evaluation_batches, training_batches
from deepresidual.data.sampler import TrainingOrder
from deepresidual.data.source import EncodedSample
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.preprocess import Channels, Preprocess
from deepresidual.recipe import Augment
from deepresidual.runtime.random import SampleRandom
from tests.data.pictures import InMemory, encode, noise, waves

_COUNT = 11


def _files(*, bad: dict[int, bytes] | None = None, unreadable: frozenset[int] = frozenset()) -> InMemory:
    contents = [encode(noise(20 + index, 31 - index, seed=index), "PNG") for index in range(_COUNT)]
    for index, content in (bad or {}).items():
        contents[index] = content
    return InMemory(tuple(contents), unreadable=unreadable)


def _record(channels: Channels = "rgb") -> Preprocess:
    count = 1 if channels == "gray" else 3
    return Preprocess(16, 18, (0.5,) * count, (0.25,) * count, channels=channels)


def _training(
    split: InMemory, *, first_step: int = 0, last_step: int = 5, seed: int = 8, num_workers: int = 0
) -> list[Batch]:
    order = TrainingOrder(seed, len(split), 4, first_step, last_step)
    augment = Augment("random-resized", flip=True)
    batches = list(training_batches(split, _record(), augment, order, num_workers=num_workers))
    for batch in batches:
        batch.require_all_good()
    return batches


def _evaluation(split: InMemory, *, batch_size: int = 4, num_workers: int = 0) -> list[Batch]:
    return list(evaluation_batches(split, _record(), batch_size=batch_size, num_workers=num_workers))


def _check_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.targets, other.targets)
        assert torch.equal(one.indices, other.indices)
        assert one.keys == other.keys
        assert one.bad == other.bad


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_give_the_same_bits_in_training(num_workers: int) -> None:
    _check_same(_training(_files(), num_workers=num_workers), _training(_files()))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_give_the_same_bits_in_evaluation(num_workers: int) -> None:
    split = _files(bad={5: b""})
    _check_same(_evaluation(split, num_workers=num_workers), _evaluation(split))


def test_resuming_at_a_step_gives_the_same_batches() -> None:
    _check_same(_training(_files(), first_step=3, last_step=9), _training(_files(), last_step=9)[3:])


def test_another_seed_gives_other_views_of_the_same_sample() -> None:
    one_sample = InMemory(_files().contents[:1])
    first, second = _training(one_sample, seed=1), _training(one_sample, seed=2)
    assert not torch.equal(first[0].pixels, second[0].pixels)


def test_another_epoch_gives_other_views_of_the_same_sample() -> None:
    # One sample: each of the four in a batch comes from an epoch of its own.
    views = _training(InMemory(_files().contents[:1]))[0].pixels
    assert len({view.numpy().tobytes() for view in views}) == 4


def test_a_batch_holds_pixels_labels_indices_and_keys() -> None:
    split, record = _files(), _record()
    batches = _evaluation(split)
    assert [len(batch) for batch in batches] == [4, 4, 3]
    for batch in batches:
        assert (batch.pixels.dtype, batch.pixels.shape) == (torch.uint8, (len(batch), 16, 16, 3))
        assert batch.targets.dtype == batch.indices.dtype == torch.int64
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(_COUNT))
    assert torch.cat([batch.targets for batch in batches]).tolist() == [index % 3 for index in range(_COUNT)]
    assert [key for batch in batches for key in batch.keys] == [f"image-{index}" for index in range(_COUNT)]
    for index, pixels in enumerate(torch.cat([batch.pixels for batch in batches])):
        original = noise(20 + index, 31 - index, seed=index)
        np.testing.assert_array_equal(pixels.numpy(), record.center_view(original))


def test_training_labels_and_keys_belong_to_their_indices() -> None:
    for batch in _training(_files()):
        assert batch.keys == [f"image-{index}" for index in batch.indices.tolist()]
        assert batch.targets.tolist() == [index % 3 for index in batch.indices.tolist()]


def test_gray_batches_have_one_channel() -> None:
    batch = next(evaluation_batches(_files(), _record("gray"), batch_size=4, num_workers=0))
    assert batch.pixels.shape == (4, 16, 16, 1)


def test_evaluation_hands_over_the_bad_samples_and_keeps_the_good() -> None:
    split = _files(bad={1: b"", 6: b"%PDF-1.7"}, unreadable=frozenset({7}))
    batches = _evaluation(split)
    assert [batch.indices.tolist() for batch in batches] == [[0, 2, 3], [4, 5], [8, 9, 10]]
    assert [bad for batch in batches for bad in batch.bad] == [
        BadSample(1, "image-1", "the file is empty (0 bytes)"),
        BadSample(6, "image-6", "not an image that can be used (found PDF); expected " + EXPECTED),
        BadSample(7, "sample 7", "image-7 cannot be read (Input/output error)"),
    ]


def test_a_batch_may_consist_of_bad_samples_alone() -> None:
    batches = _evaluation(_files(bad={0: b"", 1: b""}), batch_size=2)
    assert len(batches[0]) == 0
    assert batches[0].targets.tolist() == batches[0].indices.tolist() == []
    assert [bad.index for bad in batches[0].bad] == [0, 1]
    assert [len(batch) for batch in batches[1:]] == [2, 2, 2, 2, 1]


def test_a_bad_batch_raises_for_its_first_sample_when_asked() -> None:
    batch = _evaluation(_files(bad={2: b"", 3: b"text"}))[0]
    with pytest.raises(
        DataError, match=r"^image-2: the file is empty \(0 bytes\); repair or remove this file, then start a"
    ):
        batch.require_all_good()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_sample_stops_training_and_is_named(num_workers: int) -> None:
    with pytest.raises(DataError, match=r"^image-4: damaged PNG .*; repair or remove this file"):
        _training(_files(bad={4: _files().contents[4][:60]}), num_workers=num_workers)


def test_an_unreadable_file_stops_training_and_is_named() -> None:
    with pytest.raises(DataError, match=r"image-9 cannot be read \(Input/output error\)"):
        _training(_files(unreadable=frozenset({9})))


def test_training_goes_on_up_to_the_bad_sample() -> None:
    order = TrainingOrder(8, _COUNT, 4, 0, 5)
    bad_index = list(order)[1][0].sample
    batches = training_batches(_files(bad={bad_index: b""}), _record(), Augment(), order, num_workers=0)
    assert len(next(batches)) == 4
    with pytest.raises(DataError, match=rf"^image-{bad_index}: the file is empty"):
        next(batches).require_all_good()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loading_leaves_the_global_random_states_alone(num_workers: int) -> None:
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state(legacy=False))  # noqa: NPY002
    _training(_files(), num_workers=num_workers)
    after = torch.get_rng_state(), random.getstate(), str(np.random.get_state(legacy=False))  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


@pytest.mark.parametrize("how", ["close", "forget"])
def test_a_run_may_end_before_all_batches_were_taken(how: str) -> None:
    order = TrainingOrder(0, _COUNT, 4, 0, 1000)
    batches = training_batches(_files(), _record(), Augment(), order, num_workers=2)
    assert len(next(batches)) == 4
    assert _data_threads()
    if how == "close":
        batches.close()
    else:
        del batches
    assert not _threads_left()


def test_no_thread_outlives_the_last_batch() -> None:
    _training(_files(), num_workers=2)
    _evaluation(_files(), num_workers=2)
    assert not _threads_left()


def test_an_interrupt_while_waiting_for_a_batch_ends_the_threads() -> None:
    class Interrupted(InMemory):
        def read(self, index: int) -> EncodedSample:
            time.sleep(0.05)
            return super().read(index)

    order = TrainingOrder(0, _COUNT, 8, 0, 1000)
    split = Interrupted(_files().contents)
    batches = training_batches(split, _record(), Augment(), order, num_workers=2)
    timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        for _ in batches:
            pass
    # Eight samples of 0.05 s each are what a thread has begun; 1,000 batches would take a minute and more.
    assert time.monotonic() - began < 5
    assert not _threads_left()
    timer.join()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_that_no_sample_is_to_blame_for_is_raised_at_its_place(num_workers: int) -> None:
    @dataclass(frozen=True)
    class Broken(InMemory):
        def read(self, index: int) -> EncodedSample:
            if index == 9:
                raise RuntimeError("a mistake in the program")
            return super().read(index)

    batches = evaluation_batches(Broken(_files().contents), _record(), batch_size=4, num_workers=num_workers)
    assert [len(next(batches)), len(next(batches))] == [4, 4]
    with pytest.raises(RuntimeError, match="^a mistake in the program$"):
        next(batches)
    assert not _threads_left()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_augmentation_that_does_not_fit_is_an_error_and_no_bad_sample(num_workers: int) -> None:
    order = TrainingOrder(8, _COUNT, 4, 0, 5)
    augment = Augment("scale-jitter", min_side_px=15)
    batches = training_batches(_files(), _record(), augment, order, num_workers=num_workers)
    with pytest.raises(ConfigurationError, match=r"^min_side_px is 15 and the training images have 16 px"):
        next(batches)


@pytest.mark.parametrize("num_workers", [0, 1, 2, 5])
def test_large_batches_are_put_together_from_parts_in_order(num_workers: int) -> None:
    contents = tuple(encode(noise(16, 16, seed=index), "PNG") for index in range(43))
    split = InMemory((*contents[:21], b"", *contents[22:]))
    (batch, rest) = evaluation_batches(
        split, Preprocess(16, 16, (0.5,) * 3, (0.25,) * 3), batch_size=41, num_workers=num_workers
    )
    expected = [index for index in range(41) if index != 21]
    assert batch.indices.tolist() == batch.places.tolist() == expected
    for index, pixels in zip(expected, batch.pixels, strict=True):
        np.testing.assert_array_equal(pixels.numpy(), noise(16, 16, seed=index))
    assert rest.indices.tolist() == [41, 42]


def test_every_kind_of_variation_gives_the_same_bits_from_any_number_of_workers() -> None:
    photos = InMemory(tuple(encode(waves(90 + index, 120), "JPEG") for index in range(_COUNT)))
    augment = Augment(
        "scale-jitter",
        flip=True,
        min_side_px=16,
        max_side_px=40,
        color_jitter=0.4,
        pca_lighting=0.1,
        policy="rand-augment",
        erasing=0.5,
    )
    runs = [
        list(
            training_batches(photos, _record(), augment, TrainingOrder(8, _COUNT, 4, 0, 8), num_workers=count)
        )
        for count in (0, 1, 3)
    ]
    _check_same(runs[1], runs[0])
    _check_same(runs[2], runs[0])


def test_the_size_of_the_images_may_change_from_step_to_step() -> None:
    order = TrainingOrder(8, _COUNT, 4, 0, 3, side_px=lambda step: 8 * (step + 1))
    batches = training_batches(_files(), _record(), Augment("random-resized"), order, num_workers=2)
    assert [tuple(batch.pixels.shape) for batch in batches] == [(4, 8, 8, 3), (4, 16, 16, 3), (4, 24, 24, 3)]


def test_photos_are_seen_through_a_smaller_decoding_in_training_alone() -> None:
    photo = waves(200, 240)
    split = InMemory((encode(photo, "JPEG", quality=95),) * 4)
    record = _record()
    whole = decode(split.contents[0])
    for batch in evaluation_batches(split, record, batch_size=4, num_workers=0):
        for pixels in batch.pixels:
            np.testing.assert_array_equal(pixels.numpy(), record.center_view(whole))
    # The mild crops `center` and `pad` show what evaluation shows, bit for bit.
    order = TrainingOrder(0, 4, 4, 0, 1)
    for pixels in next(training_batches(split, record, Augment("center"), order, num_workers=0)).pixels:
        np.testing.assert_array_equal(pixels.numpy(), record.center_view(whole))
    (batch,) = training_batches(split, record, Augment("random-resized"), order, num_workers=0)
    for index, pixels in zip(batch.indices.tolist(), batch.pixels, strict=True):
        choice = choose(Augment("random-resized"), SampleRandom(0, 0, index), 200, 240, record, 16)
        exact = record.resize(whole, choice.box, 16, 16).astype(int)
        assert np.abs(pixels.numpy() - exact).mean() < 12


def _data_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("residual-data")]


def _threads_left() -> list[threading.Thread]:
    """Return the threads that are left once those that were told to end have had the time to."""
    for thread in _data_threads():
        thread.join(timeout=10)
    return _data_threads()


def test_a_data_error_survives_the_way_between_processes() -> None:
    error = DataError("found", expected="allowed", remedy="do")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # made one line above
    assert type(copy) is DataError
    assert (str(copy), copy.found, copy.expected, copy.remedy) == (str(error), "found", "allowed", "do")
