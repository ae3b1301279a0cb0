"""Batches: the same bits from any number of workers, and bad samples that nobody can overlook."""

from __future__ import annotations

import pickle
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from residual.data.loader import BadSample, Batch, evaluation_batches, training_batches
from residual.data.sampler import TrainingOrder
from residual.data.source import EncodedSample
from residual.errors import DataError
from residual.preprocess import Channels, Preprocess
from residual.recipe import Augment
from tests.data.pictures import encode, noise

_COUNT = 11


@dataclass(frozen=True)
class Files:
    """A split in memory; ``unreadable`` are samples whose source fails."""

    contents: tuple[bytes, ...]
    unreadable: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.contents)

    def read(self, index: int) -> EncodedSample:
        if index in self.unreadable:
            raise DataError(f"image-{index} cannot be read (Input/output error)")
        return EncodedSample(f"image-{index}", self.contents[index], label=index % 3)


def _files(*, bad: dict[int, bytes] | None = None, unreadable: frozenset[int] = frozenset()) -> Files:
    contents = [encode(noise(20 + index, 31 - index, seed=index), "PNG") for index in range(_COUNT)]
    for index, content in (bad or {}).items():
        contents[index] = content
    return Files(tuple(contents), unreadable)


def _record(channels: Channels = "rgb") -> Preprocess:
    count = 1 if channels == "gray" else 3
    return Preprocess(16, 18, (0.5,) * count, (0.25,) * count, channels=channels)


def _training(
    split: Files, *, first_step: int = 0, last_step: int = 5, seed: int = 8, num_workers: int = 0
) -> list[Batch]:
    order = TrainingOrder(seed, len(split), 4, first_step, last_step)
    augment = Augment("random-resized", flip=True)
    batches = list(training_batches(split, _record(), augment, order, num_workers=num_workers))
    for batch in batches:
        batch.require_all_good()
    return batches


def _evaluation(split: Files, *, batch_size: int = 4, num_workers: int = 0) -> list[Batch]:
    return list(evaluation_batches(split, _record(), batch_size=batch_size, num_workers=num_workers))


def _check_same(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.labels, other.labels)
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
    one_sample = Files(_files().contents[:1])
    first, second = _training(one_sample, seed=1), _training(one_sample, seed=2)
    assert not torch.equal(first[0].pixels, second[0].pixels)


def test_another_epoch_gives_other_views_of_the_same_sample() -> None:
    # One sample: each of the four in a batch comes from an epoch of its own.
    views = _training(Files(_files().contents[:1]))[0].pixels
    assert len({view.numpy().tobytes() for view in views}) == 4


def test_a_batch_holds_pixels_labels_indices_and_keys() -> None:
    split, record = _files(), _record()
    batches = _evaluation(split)
    assert [len(batch) for batch in batches] == [4, 4, 3]
    for batch in batches:
        assert (batch.pixels.dtype, batch.pixels.shape) == (torch.uint8, (len(batch), 16, 16, 3))
        assert batch.labels.dtype == batch.indices.dtype == torch.int64
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(_COUNT))
    assert torch.cat([batch.labels for batch in batches]).tolist() == [index % 3 for index in range(_COUNT)]
    assert [key for batch in batches for key in batch.keys] == [f"image-{index}" for index in range(_COUNT)]
    for index, pixels in enumerate(torch.cat([batch.pixels for batch in batches])):
        original = noise(20 + index, 31 - index, seed=index)
        np.testing.assert_array_equal(pixels.numpy(), record.center_view(original))


def test_training_labels_and_keys_belong_to_their_indices() -> None:
    for batch in _training(_files()):
        assert batch.keys == [f"image-{index}" for index in batch.indices.tolist()]
        assert batch.labels.tolist() == [index % 3 for index in batch.indices.tolist()]


def test_gray_batches_have_one_channel() -> None:
    batch = next(evaluation_batches(_files(), _record("gray"), batch_size=4, num_workers=0))
    assert batch.pixels.shape == (4, 16, 16, 1)


def test_evaluation_hands_over_the_bad_samples_and_keeps_the_good() -> None:
    split = _files(bad={1: b"", 6: b"GIF89a"}, unreadable=frozenset({7}))
    batches = _evaluation(split)
    assert [batch.indices.tolist() for batch in batches] == [[0, 2, 3], [4, 5], [8, 9, 10]]
    assert [bad for batch in batches for bad in batch.bad] == [
        BadSample(1, "image-1", "the file is empty (0 bytes)"),
        BadSample(6, "image-6", "not an image that can be used (found GIF); expected JPEG, PNG, WebP or BMP"),
        BadSample(7, "sample 7", "image-7 cannot be read (Input/output error)"),
    ]


def test_a_batch_may_consist_of_bad_samples_alone() -> None:
    batches = _evaluation(_files(bad={0: b"", 1: b""}), batch_size=2)
    assert len(batches[0]) == 0
    assert batches[0].labels.tolist() == batches[0].indices.tolist() == []
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


def test_a_run_may_end_before_all_batches_were_taken() -> None:
    order = TrainingOrder(0, _COUNT, 4, 0, 1000)
    batches = training_batches(_files(), _record(), Augment(), order, num_workers=1)
    assert len(next(batches)) == 4
    del batches  # pytest makes an error of anything that the workers complain about


def test_a_data_error_survives_the_way_between_processes() -> None:
    error = DataError("found", expected="allowed", remedy="do")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # made one line above
    assert type(copy) is DataError
    assert (str(copy), copy.found, copy.expected, copy.remedy) == (str(error), "found", "allowed", "do")
