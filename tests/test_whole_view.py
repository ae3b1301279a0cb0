"""Whole images in a square: sizes against exact arithmetic and detectron2's rule, pixels, JSON, errors."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepresidual.data.augment import apply, center_choice, window_of
from deepresidual.errors import ConfigurationError
from deepresidual.preprocess import Channels, MeanImage, Preprocess
from tests.conftest import examples
from tests.data.pictures import noise

SIDES = st.integers(1, 5000)
# As cameras and COCO have them, and strips.
SIZES = [(480, 640), (640, 427), (600, 800), (375, 500), (2448, 3264), (1080, 1920), (51, 1999), (3, 4000)]


def whole(crop_px: int = 40, resize_px: int = 24, channels: Channels = "rgb") -> Preprocess:
    count = 1 if channels == "gray" else 3
    mean, std = (0.2, 0.5, 0.9)[:count], (0.25,) * count
    return Preprocess(crop_px, resize_px, mean, std, channels=channels, fit="whole")


# -- sizes -----------------------------------------------------------------------------------------------


@given(height=SIDES, width=SIDES, crop_px=st.integers(1, 2000), share=st.floats(0.01, 1))
def test_a_whole_image_is_the_largest_that_fits(height: int, width: int, crop_px: int, share: float) -> None:
    resize_px = max(1, int(crop_px * share))
    rows, columns = whole(crop_px, resize_px).whole_size(height, width)
    assert 1 <= rows <= crop_px
    assert 1 <= columns <= crop_px
    scale = min(Fraction(resize_px, min(height, width)), Fraction(crop_px, max(height, width)))
    for side, length in ((rows, height), (columns, width)):
        # Rounded to the nearest pixel, but at least one.
        assert side == 1 or abs(side - length * scale) <= Fraction(1, 2) + Fraction(1, 10**9)
        assert side >= math.floor(length * scale)


@pytest.mark.parametrize("shorter", [200, 600, 640, 800])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_sides_are_rounded_as_by_detectron2(height: int, width: int, shorter: int) -> None:
    # ResizeShortestEdge: each side + 0.5, cut. torchvision's GeneralizedRCNNTransform rounds down instead,
    # so its images are up to a pixel smaller.
    scale = shorter / min(height, width)
    scale *= min(1, 1333 / (max(height, width) * scale))
    theirs = int(height * scale + 0.5), int(width * scale + 0.5)
    ours = whole(1333, shorter).whole_size(height, width)
    assert ours == theirs
    scale = min(shorter / min(height, width), 1333 / max(height, width))
    of_torchvision = math.floor(height * scale), math.floor(width * scale)
    assert all(0 <= mine - its <= 1 for mine, its in zip(ours, of_torchvision, strict=True))


# -- pixels ----------------------------------------------------------------------------------------------


@settings(max_examples=examples(60))
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    crop_px=st.integers(1, 48),
    share=st.floats(0.2, 1),
    channels=st.sampled_from(["rgb", "bgr", "gray"]),
)
def test_the_view_of_evaluation_is_that_of_its_choice(
    height: int, width: int, crop_px: int, share: float, channels: Channels
) -> None:
    record = whole(crop_px, max(1, int(crop_px * share)), channels)
    pixels = record.to_channels(noise(height, width))
    view, choice = record.center_view(pixels), center_choice(record, height, width)
    assert np.array_equal(apply(pixels, choice, record, crop_px), view)
    window = window_of(choice, height, width, record, crop_px)
    assert window.filled == record.whole_size(height, width)
    corners, _ = window.shown(np.array([[0, 0, width, height]], np.float32))
    np.testing.assert_allclose(corners, [[0, 0, window.filled[1], window.filled[0]]], rtol=1e-5)


def test_the_image_lies_in_the_upper_left_corner_of_the_mean_colour() -> None:
    record = whole(40, 24)
    pixels = noise(30, 60)
    view = record.center_view(pixels)
    assert record.whole_size(30, 60) == (20, 40)
    assert np.array_equal(view[:20], record.resize(pixels, (0, 0, 60, 30), 40, 20))
    assert (view[20:] == [51, 128, 230]).all()


def test_an_image_of_its_size_is_not_filtered() -> None:
    pixels = noise(24, 40)
    view = whole(40, 24).center_view(pixels)
    assert np.array_equal(view[:24], pixels)


# -- the record ------------------------------------------------------------------------------------------


@given(crop_px=st.integers(1, 512), resize_px=st.integers(1, 512))
def test_the_record_goes_through_json_and_earlier_ones_mean_the_crop(crop_px: int, resize_px: int) -> None:
    record = whole(max(crop_px, resize_px), min(crop_px, resize_px))
    document = json.loads(json.dumps(record.to_dict()))
    assert Preprocess.from_dict(document) == record
    assert document.pop("fit") == "whole"
    earlier = {**document, "crop_px": record.resize_px, "resize_px": record.crop_px}
    cropped = Preprocess.from_dict(earlier)
    assert cropped.fit == "crop"
    assert cropped.to_dict() == earlier


@given(crop_px=st.integers(1, 2000), share=st.floats(0.01, 1), other=st.integers(1, 2000))
def test_another_side_keeps_the_ratio(crop_px: int, share: float, other: int) -> None:
    resize_px = max(1, int(crop_px * share))
    record = whole(crop_px, resize_px).at_size(other)
    assert (record.fit, record.crop_px) == ("whole", other)
    assert abs(record.resize_px - resize_px * other / crop_px) <= 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fit": "squash"}, r"^fit is 'squash'; expected one of crop, whole$"),
        ({"crop_px": 20}, r"^crop_px is 20 and resize_px is 24; expected 1 ≤ resize_px ≤ crop_px ≤ 16384$"),
        ({"fit": "crop"}, r"^crop_px is 40 and resize_px is 24; expected 1 ≤ crop_px ≤ resize_px ≤ 16384$"),
        (
            {"mean_image": MeanImage.from_array(np.full((40, 40, 3), 0.5)).to_dict(), "mean": [0.5] * 3},
            r"^mean_image is given for whole images; expected a mean of channels$",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Preprocess.from_dict({**whole().to_dict(), **fields})
