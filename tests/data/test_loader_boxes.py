"""Batches of images with boxes: the same from any number of threads and from any step, bad ones included."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from deepresidual.data.loader import Batch, evaluation_batches, training_batches
from deepresidual.data.objects import Objects, ObjectsBatch
from deepresidual.data.sampler import TrainingOrder
from deepresidual.data.source import EncodedSample
from deepresidual.data.source.base import Row
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Augment
from deepresidual.runtime.random import SampleRandom
from tests.data.pictures import encode, noise

WHOLE = Preprocess(32, 24, (0.5,) * 3, (0.25,) * 3, fit="whole")
AUGMENTS = [
    Augment("large-scale-jitter", flip=True, min_scale=0.5, max_scale=2.0),
    Augment("multi-scale", flip=True, min_side_px=8, max_side_px=32),
]


@dataclass(frozen=True)
class Boxed:
    """Images with a box in the middle of each second one."""

    contents: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.contents)

    @property
    def labels(self) -> list[int]:
        return [0] * len(self)

    def key(self, index: int) -> str:
        return f"image-{index}.png"

    def rows(self) -> Iterator[Row]:
        for index, content in enumerate(self.contents):
            yield self.key(index), index, len(content)

    def read(self, index: int) -> EncodedSample:
        boxes = np.array([[5, 4, 13 + index, 16]], np.float32)[: index % 2]
        return EncodedSample(
            self.key(index), self.contents[index], Objects(boxes, np.zeros(len(boxes), np.int64))
        )


def boxed(*, bad: tuple[int, ...] = ()) -> Boxed:
    contents = [encode(noise(20 + index, 31 - index, seed=index), "PNG") for index in range(11)]
    return Boxed(tuple(b"no image" if index in bad else file for index, file in enumerate(contents)))


def training(
    split: Boxed, augment: Augment, *, first: int = 0, last: int = 5, num_workers: int = 0
) -> list[Batch]:
    order = TrainingOrder(8, len(split), 4, first, last)
    return list(training_batches(split, WHOLE, augment, order, num_workers=num_workers))


def as_values(batch: Batch) -> list[Any]:
    """Return all that a batch holds, to be compared."""
    assert isinstance(batch.targets, ObjectsBatch)
    boxes = [(each.to_dict(["thing"]), each.window, each.seed) for each in batch.targets]
    return [batch.pixels.tolist(), boxes, batch.positions.tolist(), batch.keys, batch.bad]


def same(first: list[Batch], second: list[Batch]) -> bool:
    return [as_values(batch) for batch in first] == [as_values(batch) for batch in second]


@pytest.mark.parametrize("augment", AUGMENTS, ids=lambda augment: augment.crop)
@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_threads_give_the_same_bits_and_a_resumed_epoch_too(augment: Augment, num_workers: int) -> None:
    whole = training(boxed(), augment)
    assert same(training(boxed(), augment, num_workers=num_workers), whole)
    # Eleven images in batches of four: the second batch begins in the middle of the first epoch.
    assert same(training(boxed(), augment, first=1, num_workers=num_workers), whole[1:])


@pytest.mark.parametrize("num_workers", [0, 3])
def test_evaluation_shows_every_image_whole(num_workers: int) -> None:
    batches = list(evaluation_batches(boxed(), WHOLE, batch_size=4, num_workers=num_workers))
    assert [index for batch in batches for index in batch.indices.tolist()] == list(range(11))
    for batch in batches:
        for index, objects in zip(batch.indices.tolist(), batch.targets, strict=True):
            back = objects.unseen()
            np.testing.assert_allclose(back.boxes, boxed().read(index).target.boxes, atol=1e-4)
            assert objects.window.filled == WHOLE.whole_size(20 + index, 31 - index)


def test_regions_are_drawn_by_seed_epoch_and_image() -> None:
    (batch,) = training(boxed(), AUGMENTS[0], last=1)
    for (epoch, index, repeat), objects in zip(batch.positions.tolist(), batch.targets, strict=True):
        assert objects.seed == SampleRandom(8, epoch, index, repeat).regions_seed
    seeds = [each.seed for batch in training(boxed(), AUGMENTS[0]) for each in batch.targets]
    assert len(set(seeds)) == len(seeds) == 20


def test_bad_samples_are_handed_over_and_the_others_keep_their_boxes() -> None:
    whole, lost = training(boxed(), AUGMENTS[0]), training(boxed(bad=(3, 4)), AUGMENTS[0])
    for before, after in zip(whole, lost, strict=True):
        kept = [row for row, key in enumerate(before.keys) if key in after.keys]
        assert torch.equal(after.pixels, before.pixels[kept])
        assert [each.seed for each in after.targets] == [before.targets[row].seed for row in kept]
        assert {bad.index for bad in after.bad} == set(before.indices.tolist()) & {3, 4}
    assert sum(len(batch.bad) for batch in lost) >= 2


def test_a_batch_may_consist_of_bad_samples_alone() -> None:
    for batch in evaluation_batches(boxed(bad=(0, 1, 2, 3)), WHOLE, batch_size=4, num_workers=0):
        assert len(batch) + len(batch.bad) in (3, 4)
        assert len(batch.targets) == len(batch)
    (first, *_) = training(boxed(bad=tuple(range(11))), AUGMENTS[0])
    assert (len(first), len(first.bad), len(first.targets)) == (0, 4, 0)
