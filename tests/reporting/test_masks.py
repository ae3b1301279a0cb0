"""Drawn masks: where they lie, how wide their outline is, and that nothing else changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deepresidual.data.masks import Crop, Masks
from deepresidual.data.objects import Objects
from deepresidual.reporting.boxes import class_color, paint_objects
from deepresidual.reporting.masks import enlarged, paint_mask
from tests.reporting.test_boxes import GRAY, NAMES, rgb

RED = "#ff0000"
SQUARE = Crop(10, 20, np.ones((30, 40), np.uint8))


def painted(mask: Crop, line_px: int = 3, *, has_surface: bool = True) -> NDArray[np.uint8]:
    canvas = np.full((80, 100, 3), 100, np.uint8)
    paint_mask(canvas, mask, RED, line_px, has_surface=has_surface)
    return canvas


def test_the_outline_lies_inside_and_the_surface_is_translucent() -> None:
    canvas = painted(SQUARE)
    assert (canvas[20:50, 10:13] == (255, 0, 0)).all()
    assert (canvas[47:50, 10:50] == (255, 0, 0)).all()
    assert (canvas[23:47, 13:47] == np.rint([100 + 155 * 0.35, 65, 65])).all()
    assert (canvas[19, 10:50] == 65).all()  # a dark line of a pixel
    assert (canvas[19, :9] == 100).all()  # and no more
    assert (canvas[:18] == 100).all()
    assert (painted(SQUARE, has_surface=False)[23:47, 13:47] == 100).all()


def test_a_hole_has_an_outline_of_its_own() -> None:
    pixels = np.ones((30, 40), np.uint8)
    pixels[12:18, 15:25] = 0
    canvas = painted(Crop(10, 20, pixels), 2)
    assert (canvas[34, 25 - 2 : 25] == (255, 0, 0)).all()
    assert (canvas[35, 30] == 100).all()


def test_a_slanting_outline_is_as_wide_as_an_upright_one() -> None:
    rows, columns = np.mgrid[:200, :200]
    distance = np.hypot(rows - 99.5, columns - 99.5)
    canvas = np.zeros((200, 200, 3), np.uint8)
    paint_mask(canvas, Crop(0, 0, (distance < 90).astype(np.uint8)), RED, 8, has_surface=False)
    is_line = (canvas == (255, 0, 0)).all(axis=2)
    assert is_line[(distance > 83.5) & (distance < 89)].all()
    assert not is_line[distance < 81].any()


@given(
    st.integers(-50, 120), st.integers(-50, 120), st.integers(0, 60), st.integers(0, 60), st.integers(1, 9)
)
def test_a_mask_changes_what_it_covers_and_a_pixel_around(
    left: int, top: int, width: int, height: int, line_px: int
) -> None:
    canvas = painted(Crop(left, top, np.ones((height, width), np.uint8)), line_px)
    changed = (canvas != 100).any(axis=2)
    covered = np.zeros((80, 100), np.bool_)
    covered[max(0, top) : max(0, top + height), max(0, left) : max(0, left + width)] = True
    assert changed[covered].all()
    near = np.zeros((80, 100), np.bool_)
    near[max(0, top - 1) : max(0, top + height + 1), max(0, left - 1) : max(0, left + width + 1)] = True
    assert not changed[~near].any()


@pytest.mark.parametrize("factor", [1, 3])
def test_pixels_become_squares(factor: int) -> None:
    mask = enlarged(Crop(2, 3, np.eye(2, dtype=np.uint8)), factor)
    assert (mask.left, mask.top, mask.pixels.shape) == (2 * factor, 3 * factor, (2 * factor, 2 * factor))
    assert mask.pixels.sum() == 2 * factor**2


def an_object(box: tuple[float, float, float, float], corners: list[tuple[float, float]]) -> Objects:
    masks = Masks.of([[np.array(corners, np.float64)]]).on((480, 640))
    return Objects(np.array([box], np.float32), np.zeros(1, np.int64), scores=np.array([0.9]), masks=masks)


def test_an_object_is_drawn_by_its_mask_with_a_thin_box() -> None:
    triangle = an_object((100, 200, 300, 400), [(100, 400), (300, 400), (300, 200)])
    canvas = paint_objects(GRAY, triangle, NAMES)
    color = rgb(class_color(0))
    assert (canvas[300, 201] == color).all()  # the outline of the mask
    assert (canvas[350, 250] != 128).any()  # its surface
    assert (canvas[240, 150] == 128).all()  # of its box, and not of its mask
    thin, wide = (
        int((paint_objects(GRAY, each, NAMES)[300, 90:115] != 128).any(axis=1).sum())
        for each in (triangle, dataclasses.replace(triangle, masks=None))
    )
    assert 1 <= thin < wide


def test_of_a_view_the_pixels_in_it_are_drawn() -> None:
    crop = Crop(40, 50, np.ones((60, 70), np.uint8))
    seen = Objects(np.array([[40, 50, 110, 110]]), np.zeros(1, np.int64), crops=(crop,))
    canvas = paint_objects(GRAY, seen, NAMES)
    assert (canvas[80, 75] != 128).any()
    assert (canvas[120, 120] == 128).all()


def test_small_masks_are_enlarged_further_by_a_whole_factor() -> None:
    photo = np.full((256, 256, 3), 128, np.uint8)
    corners = [(10.0, 10.0), (20.0, 10.0), (20.0, 20.0), (10.0, 20.0)]
    masks = Masks.of([[np.array(corners)]]).on((256, 256))
    small = Objects(np.array([[10, 10, 20, 20]]), np.zeros(1, np.int64), masks=masks)
    assert paint_objects(photo, dataclasses.replace(small, masks=None), NAMES).shape == (512, 512, 3)
    assert paint_objects(photo, small, NAMES).shape == (1024, 1024, 3)
    large = np.full((480, 640, 3), 128, np.uint8)
    masks = Masks.of([[np.array(corners)]]).on((480, 640))
    assert paint_objects(large, dataclasses.replace(small, masks=masks), NAMES).shape == large.shape
