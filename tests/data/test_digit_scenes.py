"""Scenes of digits: the same bits everywhere, boxes that fit the ink, and no digit in two splits."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from deepresidual.data.decode import decode
from deepresidual.data.objects import areas_of
from deepresidual.data.source import SampleSource, Split, open_source
from deepresidual.data.source.annotated.digit_scenes import NUM_SCENES, DigitScenes
from deepresidual.data.source.annotated.split import objects_of
from deepresidual.data.source.base import fingerprint_of
from deepresidual.data.source.digits import bundled_digits
from deepresidual.errors import DataError


@pytest.fixture(scope="module")
def scenes() -> SampleSource:
    return open_source("digit-scenes")


def pixels_of(split: Split, index: int) -> np.ndarray:
    return decode(split.read(index).content)[..., 0]


def test_the_scenes_are_a_data_set_with_boxes(scenes: SampleSource) -> None:
    assert (scenes.name, scenes.task, scenes.location) == ("digit-scenes", "detection", "digit-scenes")
    assert scenes.classes == tuple("0123456789")
    assert {name: len(split) for name, split in scenes.splits.items()} == NUM_SCENES
    assert (scenes.validation_split, scenes.evaluation_split) == ("val", "test")


def test_the_scenes_are_these_on_every_machine(scenes: SampleSource) -> None:
    digest = hashlib.sha256()
    for split in scenes.splits.values():
        for index in range(0, len(split), 97):
            digest.update(pixels_of(split, index).tobytes())
            digest.update(objects_of(split, index).boxes.astype("<f4").tobytes())
            digest.update(objects_of(split, index).labels.astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "e5332161eb273c3e"


def test_a_scene_is_read_as_it_is_known_without_reading_it(scenes: SampleSource) -> None:
    test = scenes.split("test")
    for index in (0, 999):
        sample = test.read(index)
        assert (sample.key, sample.target) == (test.key(index), objects_of(test, index))
        assert decode(sample.content).shape == (64, 64, 3)


def test_the_fingerprint_is_the_same_each_time(scenes: SampleSource) -> None:
    again = open_source("digit-scenes")
    found = {name: fingerprint_of(split) for name, split in scenes.splits.items()}
    assert found == {name: fingerprint_of(split) for name, split in again.splits.items()}
    assert len(set(found.values())) == 3


def test_there_are_scenes_without_a_digit_and_such_with_four(scenes: SampleSource) -> None:
    train = scenes.split("train")
    counts = np.bincount([len(objects_of(train, index)) for index in range(len(train))])
    assert len(counts) == 5
    assert 0.08 < counts[0] / len(train) < 0.14
    assert counts[1:].min() > 700


def test_every_class_comes_about_as_often(scenes: SampleSource) -> None:
    for name, split in scenes.splits.items():
        labels = np.concatenate([objects_of(split, index).labels for index in range(len(split))])
        counts = np.bincount(labels, minlength=10)
        assert counts.min() > 0.6 * counts.mean(), name


def test_a_box_is_tight_around_the_ink_that_stands_out(scenes: SampleSource) -> None:
    """Of scenes with one digit: what is brighter than noise can be lies in the box, and reaches its edges."""
    test = scenes.split("test")
    alone = [index for index in range(len(test)) if len(objects_of(test, index)) == 1][:100]
    for index in alone:
        pixels = pixels_of(test, index).astype(int)
        left, top, right, bottom = objects_of(test, index).boxes[0].astype(int).tolist()
        assert 10 <= bottom - top <= 28
        outside = np.ones_like(pixels, dtype=bool)
        outside[top:bottom, left:right] = False
        inside = pixels[top:bottom, left:right]
        # A quarter of the ink is the edge; noise is 139 at most, ink 180 at least.
        assert inside.max() >= 150
        assert pixels[outside].max() <= 139 + (255 - 139) // 4
        background = np.median(pixels[outside])
        edges = (inside[0].max(), inside[-1].max(), inside[:, 0].max(), inside[:, -1].max())
        assert min(edges) > background


def test_boxes_share_a_tenth_of_the_smaller_one_at_most(scenes: SampleSource) -> None:
    train = scenes.split("train")
    for index in range(len(train)):
        boxes = objects_of(train, index).boxes
        assert ((boxes >= 0) & (boxes <= 64)).all()
        for row, box in enumerate(boxes[:-1]):
            rest = boxes[row + 1 :]
            cut = np.concatenate([np.maximum(rest[:, :2], box[:2]), np.minimum(rest[:, 2:], box[2:])], axis=1)
            assert (areas_of(cut) <= 0.1 * np.minimum(areas_of(rest), areas_of(box[None]))).all()


def test_no_digit_is_in_two_splits_and_test_has_the_test_digits(scenes: SampleSource) -> None:
    used = {}
    for name, split in scenes.splits.items():
        assert isinstance(split, DigitScenes)
        used[name] = set(split.digits_shown)
    assert used["train"].isdisjoint(used["val"] | used["test"])
    assert used["val"].isdisjoint(used["test"])
    digits = open_source("digits")
    keys = bundled_digits().keys
    test_keys = {digits.split("test").key(index) for index in range(len(digits.split("test")))}
    assert {keys[row] for row in used["test"]} <= test_keys
    assert {keys[row] for row in used["train"] | used["val"]}.isdisjoint(test_keys)
    assert len(used["train"]) > 1250  # nearly all there are


def test_a_slip_of_the_name_is_answered() -> None:
    with pytest.raises(DataError, match=r"digit-scene does not exist; did you mean digit-scenes\?"):
        open_source("digit-scene")
