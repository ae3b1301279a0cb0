"""Masks follow the pixels: a white shape and its mask are the same in every view."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deepresidual.data.augment import apply, center_choice, choose, window_of
from deepresidual.data.augment.window import Window
from deepresidual.data.masks import Crop, Masks, Runs
from deepresidual.data.objects import Objects
from deepresidual.data.seen_masks import seen_mask
from deepresidual.preprocess import Fit, Preprocess
from deepresidual.recipe import WHOLE_CROPS, Augment, CropKind, Policy
from deepresidual.runtime.random import SampleRandom
from tests.conftest import examples

HEIGHT, WIDTH = 90, 70
SIDE = 64


def letter(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Return an L with a hole, which looks different in every direction, ``(H, W)``."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[20:75, 12:30] = 1
    pixels[55:75, 12:60] = 1
    pixels[60:68, 18:26] = 0
    return pixels


def whole(crop: Crop, side_px: int = SIDE) -> NDArray[np.uint8]:
    pixels = np.zeros((side_px, side_px), np.uint8)
    rows, columns = crop.pixels.shape
    pixels[crop.top : crop.top + rows, crop.left : crop.left + columns] = crop.pixels
    return pixels


def record(fit: Fit) -> Preprocess:
    resize_px = 72 if fit == "crop" else 56
    return Preprocess(SIDE, resize_px, (0.0,), (1.0,), channels="gray", fit=fit)


def iou(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    either = (one | other).sum()
    return 1.0 if not either else float((one & other).sum() / either)


@settings(max_examples=examples(80))
@given(
    crop=st.sampled_from(get_args(CropKind)),
    policy=st.sampled_from(get_args(Policy)),
    seed=st.integers(0, 10_000),
)
def test_a_mask_is_where_the_pixels_are(crop: CropKind, policy: Policy, seed: int) -> None:
    """A white shape on black, seen, and its mask, seen: a few pixels of the edges differ.

    Pixels of which the shape covers half are on neither side: along an edge a whole row of them can be.
    """
    preprocess = record("whole" if crop in WHOLE_CROPS else "crop")
    augment = Augment(
        crop=crop,
        flip=True,
        policy=policy,
        min_side_px=64 if crop == "multi-scale" else 80,
        max_side_px=96,
    )
    choice = choose(augment, SampleRandom(seed, 0, 1), HEIGHT, WIDTH, preprocess, SIDE)
    geometric = tuple(
        each for each in choice.operations if each.kind.startswith(("rotate", "shear", "translate"))
    )
    choice = type(choice)(**{**vars(choice), "operations": geometric, "fill": "black"})
    pixels = letter()
    view = apply(pixels[:, :, None] * np.uint8(255), choice, preprocess, SIDE)[:, :, 0]
    mask = seen_mask(
        Runs.of_crop(Crop(0, 0, pixels), (HEIGHT, WIDTH)).crop(),
        window_of(choice, HEIGHT, WIDTH, preprocess, SIDE),
    )
    shown = (view >= 128).astype(np.uint8)
    clear = np.abs(view.astype(int) - 128) > 16
    if shown.sum() > 80:
        assert iou(whole(mask)[clear], shown[clear]) > 0.9


@pytest.mark.parametrize("fit", ["crop", "whole"])
def test_the_view_of_evaluation_shows_the_mask_to_the_pixel(fit: Fit) -> None:
    preprocess = record(fit)
    choice = center_choice(preprocess, HEIGHT, WIDTH)
    pixels = letter()
    view = apply(pixels[:, :, None] * np.uint8(255), choice, preprocess, SIDE)[:, :, 0]
    window = window_of(choice, HEIGHT, WIDTH, preprocess, SIDE)
    mask = seen_mask(Crop(0, 0, pixels).tight(), window)
    np.testing.assert_array_equal(whole(mask), (view >= 128).astype(np.uint8))


def test_a_mirrored_view_mirrors_the_mask() -> None:
    pixels = letter(SIDE * 2, SIDE * 2)
    usual, mirrored = (
        Window((SIDE * 2, SIDE * 2), SIDE, (sign * 0.5, 0.5), (shift, 0.0), (0, 0, SIDE, SIDE))
        for sign, shift in ((1, 0.0), (-1, float(SIDE)))
    )
    crop = Crop(0, 0, pixels).tight()
    np.testing.assert_array_equal(whole(seen_mask(crop, mirrored)), whole(seen_mask(crop, usual))[:, ::-1])


def objects_of(pixels: NDArray[np.uint8]) -> Objects:
    """Return one object of these pixels, and one without a mask."""
    height, width = pixels.shape
    crop = Crop(0, 0, pixels).tight()
    masks = Masks.of([Runs.of_crop(crop, (height, width)), None])
    return Objects(np.array([crop.box, (0, 0, 20, 20)]), np.array([0, 1]), masks=masks)


def test_objects_of_a_view_have_the_pixels_of_their_masks() -> None:
    window = Window((HEIGHT, WIDTH), SIDE, (1.0, 1.0), (0.0, -20.0), (0, 0, SIDE, SIDE))
    seen = objects_of(letter()).seen(window)
    assert seen.masks is None
    assert seen.crops is not None
    assert len(seen) == 1  # the other lies above the view
    (mask,) = seen.crops
    assert mask is not None
    np.testing.assert_array_equal(whole(mask), letter()[20 : 20 + SIDE, :SIDE][:SIDE])
    assert seen.boxes[0].tolist() == list(mask.box)


def test_the_box_of_a_turned_view_lies_around_what_is_seen_of_the_mask() -> None:
    turned = (0.0, 1.0, 0.0, -1.0, 0.0, float(SIDE))  # a quarter
    window = Window((SIDE, SIDE), SIDE, (1.0, 1.0), (0.0, 0.0), (0, 0, SIDE, SIDE), (turned,))
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[10:30, 5:45] = 1
    seen = objects_of(pixels)[:1].seen(window)
    assert seen.boxes[0].tolist() == [10, SIDE - 45, 30, SIDE - 5]
    assert seen.crops is not None
    assert seen.crops[0] is not None
    np.testing.assert_array_equal(whole(seen.crops[0]), np.rot90(pixels))


def test_an_object_of_which_a_view_shows_no_pixel_is_neither_object_nor_background() -> None:
    """Its box reaches into the view, and what is left of the mask is less than half a pixel."""
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[0, :] = pixels[:40, 0] = 1
    window = Window((SIDE, SIDE), SIDE, (1.0, 1.0), (-10.0, -10.0), (0, 0, SIDE - 10, SIDE - 10))
    seen = objects_of(pixels)[:1].seen(window)
    assert seen.crowd.tolist() == [True]


def test_masks_go_with_the_objects_that_are_chosen() -> None:
    found = objects_of(letter())
    assert found[np.array([1, 0])].masks is not None
    assert found[np.array([False, True])].to_dict(("a", "b")) == [{"label": "b", "box": [0, 0, 20, 20]}]
    (document,) = found[:1].to_dict(("a", "b"))
    assert document["mask"]["size"] == [HEIGHT, WIDTH]
