"""Images that stay in memory: the very batches of the loader, or none."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from deepresidual.data.loader import training_batches
from deepresidual.data.resident import InMemoryImages, can_be_resident
from deepresidual.data.sampler import TrainingOrder
from deepresidual.preprocess import Channels, MeanImage, Preprocess
from deepresidual.recipe import Augment
from tests.data.pictures import InMemory, encode, noise

CPU = torch.device("cpu")


def pictures(*sides: tuple[int, int]) -> InMemory:
    return InMemory(tuple(encode(noise(*side, seed=n), "PNG") for n, side in enumerate(sides)))


def record(crop_px: int, channels: Channels = "rgb", resize_px: int | None = None) -> Preprocess:
    count = 1 if channels == "gray" else 3
    return Preprocess(crop_px, resize_px or crop_px, (0.5,) * count, (0.25,) * count, channels=channels)


@pytest.mark.parametrize(
    "augment",
    [
        Augment("pad", flip=True),
        Augment("pad", flip=True, pad_fill="mean"),
        Augment("pad", pad_px=0),
        Augment("center"),
    ],
)
@pytest.mark.parametrize(("native", "crop", "channels"), [(16, 16, "rgb"), (8, 16, "gray"), (20, 16, "bgr")])
def test_batches_are_those_of_the_loader(
    augment: Augment, native: int, crop: int, channels: Channels
) -> None:
    split, preprocess = pictures(*[(native, native)] * 7), record(crop, channels)
    order = TrainingOrder(
        3, len(split), 4, 2, 9, repeats=2, side_px=lambda step: crop if step % 2 else crop - 4
    )
    assert can_be_resident(split, preprocess, augment)
    images = InMemoryImages.read(split, preprocess, augment, CPU)
    assert images is not None
    resident = list(images.batches(order))
    loaded = list(training_batches(split, preprocess, augment, order, num_workers=0))
    assert len(resident) == len(loaded) == 7
    for ours, theirs in zip(resident, loaded, strict=True):
        assert torch.equal(ours.pixels, theirs.pixels)
        assert torch.equal(ours.targets, theirs.targets)
        assert torch.equal(ours.positions, theirs.positions)
        assert torch.equal(ours.places, theirs.places)
        assert ours.keys == theirs.keys


def test_batches_are_those_of_the_loader_around_a_mean_image() -> None:
    image = MeanImage.from_array(np.random.default_rng(0).random((16, 16, 3)))
    split = pictures(*[(16, 16)] * 7)
    preprocess = dataclasses.replace(record(16), mean=image.average(), mean_image=image)
    augment = Augment("pad", flip=True, pad_fill="mean")
    images = InMemoryImages.read(split, preprocess, augment, CPU)
    assert images is not None
    order = TrainingOrder(3, len(split), 7, 0, 4)
    for ours, theirs in zip(
        images.batches(order), training_batches(split, preprocess, augment, order, num_workers=0), strict=True
    ):
        assert torch.equal(ours.pixels, theirs.pixels)


def test_a_rank_has_its_part() -> None:
    split, augment = pictures(*[(8, 8)] * 6), Augment("pad")
    images = InMemoryImages.read(split, record(8), augment, CPU)
    assert images is not None
    (whole,) = images.batches(TrainingOrder(0, 6, 4, 0, 1))
    parts = [next(images.batches(TrainingOrder(0, 6, 4, 0, 1, rank=rank, num_ranks=2))) for rank in (0, 1)]
    assert torch.equal(torch.cat([part.pixels for part in parts]), whole.pixels)


@pytest.mark.parametrize("sides", [((8, 8), (8, 9)), ((8, 9), (8, 9)), ((8, 8), (9, 9))])
def test_images_that_are_not_alike_and_square_are_loaded(sides: tuple[tuple[int, int], ...]) -> None:
    assert InMemoryImages.read(pictures(*sides), record(8), Augment("pad"), CPU) is None


def test_a_damaged_image_is_left_to_the_loader_to_name() -> None:
    split = InMemory((*pictures((8, 8)).contents, b"no image"))
    assert InMemoryImages.read(split, record(8), Augment("pad"), CPU) is None


@pytest.mark.parametrize(
    "augment",
    [
        Augment("random-resized"),
        Augment("pad", policy="trivial-augment"),
        Augment("pad", color_jitter=0.4),
        Augment("pad", pca_lighting=0.1),
        Augment("pad", erasing=0.1),
    ],
)
def test_what_varies_images_in_other_ways_is_loaded(augment: Augment) -> None:
    assert not can_be_resident(pictures((8, 8)), record(8), augment)


def test_what_is_cut_off_is_loaded() -> None:
    assert not can_be_resident(pictures((8, 8)), record(8, resize_px=10), Augment("pad"))


def test_more_than_a_gigabyte_is_loaded() -> None:
    split = InMemory((b"",) * 10_000)
    assert can_be_resident(split, record(128), Augment("pad"))
    assert not can_be_resident(split, record(200), Augment("pad"))
