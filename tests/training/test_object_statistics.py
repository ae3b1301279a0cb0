"""What a run says of the objects that it learns from: how many, of what, and how large they are seen."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from deepresidual.data.source import open_source
from deepresidual.data.source.base import EncodedSample
from deepresidual.preprocess import Preprocess
from deepresidual.training.object_statistics import (
    ObjectStatistics,
    object_statistics,
    objects_in_words,
)
from tests.annotated_photos import Photos
from tests.detectors import write_masks

WHOLE = Preprocess(crop_px=64, resize_px=64, mean=(0.5,) * 3, std=(0.25,) * 3, fit="whole")


def a_split() -> Photos:
    """Return four photos: a cat of 40×10 pixels, a dog of 80 a side in a larger photo, none, a cat."""
    sides = [(128, 96), (96, 256), (64, 64), (64, 64)]
    return Photos(sides, [(0, 0, 40, 10), (10, 10, 90, 90), (), (0, 0, 4, 4)], [0, 1, 0, 0])


def test_objects_are_counted_and_measured_as_the_network_sees_them() -> None:
    found = object_statistics(a_split(), 2, WHOLE)
    assert (found.num_images, found.is_all) == (4, True)
    assert found.counts.tolist() == [1, 1, 0, 1]
    assert found.by_class.tolist() == [2, 1]
    # Sides of 128 and 256 pixels are seen as 64.
    np.testing.assert_allclose(found.sizes_px, [20 / 2, 80 / 4, 4])


def test_of_many_images_some_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepresidual.training.object_statistics._MOST_READ", 2)
    found = object_statistics(a_split(), 2, WHOLE)
    assert (found.num_images, found.is_all, found.counts.tolist()) == (2, False, [1, 1])


def test_an_image_that_cannot_be_read_is_left_out() -> None:
    class Damaged(Photos):
        def read(self, index: int) -> EncodedSample:
            sample = super().read(index)
            return EncodedSample(sample.key, b"no image", sample.target) if index == 1 else sample

    found = object_statistics(Damaged([(64, 64)] * 3, [(0, 0, 8, 8)] * 3), 1, WHOLE)
    assert (found.num_images, found.is_all) == (2, False)


def statistics(
    counts: list[int], by_class: list[int], sizes: list[float], **fields: bool
) -> ObjectStatistics:
    return ObjectStatistics(
        len(counts), fields.get("is_all", True), np.array(counts), np.array(by_class), np.array(sizes)
    )


def test_a_few_lines_say_it() -> None:
    found = statistics([3, 0, 6], [5, 4], [10.0] * 4 + [20.0] * 5)
    assert objects_in_words(found, ["cat", "dog"], WHOLE, "photos") == [
        "9 objects: cat 5, dog 4",
        "3.0 in each, 6 at most",
        "seen at 64 px they are 10 to 20 px large, half of them over 20",
    ]


@pytest.mark.parametrize(
    ("num_masks", "line"),
    [
        (9, "their masks are learned, too; --task detect learns boxes alone"),
        (8, "their masks are learned, too; 1 of 9 objects have none and teaches its box alone"),
        (2, "their masks are learned, too; 7 of 9 objects have none and teach their boxes alone"),
    ],
)
def test_masks_are_said_to_be_learned(num_masks: int, line: str) -> None:
    found = dataclasses.replace(statistics([9], [9], [10.0] * 9), num_masks=num_masks)
    assert objects_in_words(found, ["cat"], WHOLE, "photos")[2] == line


def test_masks_are_counted_without_those_of_crowds(tmp_path: Path) -> None:
    root = write_masks(tmp_path / "shapes", 6, 1)
    document = json.loads((root / "instances_train.json").read_text())
    document["annotations"][0]["segmentation"] = []
    document["annotations"][1]["iscrowd"] = 1
    (root / "instances_train.json").write_text(json.dumps(document))
    found = object_statistics(open_source(str(root)).split("train"), 2, WHOLE)
    assert found.num_masks == len(document["annotations"]) - 2 == int(found.counts.sum()) - 1


def test_a_shorter_side_of_its_own_is_named() -> None:
    wide = dataclasses.replace(WHOLE, resize_px=800, crop_px=1333)
    (*_, last) = objects_in_words(statistics([2], [2], [10.0, 30.0]), ["cat"], wide, "photos")
    assert last.startswith("seen at 800 px, or the longer side at 1,333 px, they are ")


def test_many_classes_are_told_by_the_rarest_and_the_most_frequent() -> None:
    found = statistics([28], list(range(8)), [30.0] * 28, is_all=False)
    (first, *_) = objects_in_words(found, list("abcdefgh"), WHOLE, "images")
    assert first == "28 objects in 1 of the images: 0 (a) to 7 (h) of a class"


def test_tiny_objects_are_pointed_out() -> None:
    found = statistics([10], [10], [6.0] * 2 + [30.0] * 8)
    assert objects_in_words(found, ["cat"], WHOLE, "photos")[-1] == (
        "20% are below 8 px, and few of such are found; --image-px shows them larger"
    )


def test_images_without_any_object_are_named() -> None:
    found = statistics([0, 0], [0], [])
    assert objects_in_words(found, ["cat"], WHOLE, "photos") == ["none of the photos has an object"]
