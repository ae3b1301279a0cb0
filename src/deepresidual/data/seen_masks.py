"""Masks as a view shows them: resized, mirrored and turned with the same numbers as the pixels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepresidual.data.augment.window import Affine, Window
from deepresidual.data.masks import Crop
from deepresidual.preprocess.resizing import resized

_HALF = 128  # of 255: from which share of a pixel on it is the object's


def seen_mask(mask: Crop, window: Window) -> Crop:
    """Return the pixels of a mask in a view: those that it covers by half or more.

    Args:
        mask: The mask in pixels of the upright image.
        window: The view.
    """
    seen = _placed(mask, window)
    if window.turned and seen.pixels.size:
        seen = _turned(seen, window)
    return Crop(seen.left, seen.top, (seen.pixels >= _HALF).astype(np.uint8)).tight()


def _placed(mask: Crop, window: Window) -> Crop:
    """Return the mask in the view before it is turned, its pixels from 0 to 255."""
    nothing = Crop(0, 0, np.zeros((0, 0), np.uint8))
    if not mask.pixels.size:
        return nothing
    (across, down), (shift_x, shift_y) = window.scale, window.shift
    left, top, right, bottom = window.inside
    is_mirrored = across < 0
    if is_mirrored:
        across, shift_x = -across, window.side_px - shift_x
        left, right = window.side_px - right, window.side_px - left
    columns = _pixels(mask.left, mask.pixels.shape[1], across, shift_x, (left, right))
    rows = _pixels(mask.top, mask.pixels.shape[0], down, shift_y, (top, bottom))
    if columns[0] >= columns[1] or rows[0] >= rows[1]:
        return nothing
    height, width = window.image
    around, first_x, first_y = _with_margin(mask, max(1 / across, 1 / down), height, width)
    box = tuple(
        min(max((pixel - shift) / scale, 0), side) - first
        for pixel, shift, scale, side, first in (
            (columns[0], shift_x, across, width, first_x),
            (rows[0], shift_y, down, height, first_y),
            (columns[1], shift_x, across, width, first_x),
            (rows[1], shift_y, down, height, first_y),
        )
    )
    limits = (around.shape[1], around.shape[0])
    box = tuple(min(max(edge, 0), limits[place % 2]) for place, edge in enumerate(box))
    size = (columns[1] - columns[0], rows[1] - rows[0])
    if box[2] <= box[0] or box[3] <= box[1]:
        return nothing
    pixels = np.asarray(resized(around, (box[0], box[1], box[2], box[3]), *size, Image.Resampling.BILINEAR))
    first = columns[0]
    if is_mirrored:
        pixels, first = pixels[:, ::-1], window.side_px - columns[1]
    return Crop(first, rows[0], pixels)


def _pixels(first: int, count: int, scale: float, shift: float, inside: tuple[int, int]) -> tuple[int, int]:
    """Return from which to which pixel of the view ``count`` pixels of the image reach, along an axis."""
    low, high = first * scale + shift, (first + count) * scale + shift
    return max(math.floor(low), inside[0]), min(math.ceil(high), inside[1])


def _with_margin(mask: Crop, pixel: float, height: int, width: int) -> tuple[NDArray[np.uint8], int, int]:
    """Return the mask, 0 to 255, with as much around it as a filter reads, and where that begins.

    Args:
        mask: The mask.
        pixel: Pixels of the image that a pixel of the view shows.
        height: Of the image.
        width: Of the image.
    """
    reach = math.ceil(2 * max(1.0, pixel)) + 1
    rows, columns = mask.pixels.shape
    left, top = max(0, mask.left - reach), max(0, mask.top - reach)
    right, bottom = min(width, mask.left + columns + reach), min(height, mask.top + rows + reach)
    around = np.zeros((bottom - top, right - left), np.uint8)
    around[mask.top - top : mask.top - top + rows, mask.left - left : mask.left - left + columns] = (
        mask.pixels * np.uint8(255)
    )
    return around, left, top


def _turned(mask: Crop, window: Window) -> Crop:
    """Return the mask after all that turns the view, each step cutting off what leaves it."""
    side = window.side_px
    view = np.zeros((side, side), np.uint8)
    rows, columns = mask.pixels.shape
    view[mask.top : mask.top + rows, mask.left : mask.left + columns] = mask.pixels
    image = Image.fromarray(view)
    for move in window.turned:
        image = image.transform(
            (side, side), Image.Transform.AFFINE, _inverse(move), Image.Resampling.BILINEAR
        )
    return Crop(0, 0, np.asarray(image))


def _inverse(move: Affine) -> Affine:
    """Return the map of new places to old ones, as Pillow takes it."""
    a, b, c, d, e, f = move
    whole = a * e - b * d
    return (e / whole, -b / whole, (b * f - e * c) / whole, -d / whole, a / whole, (d * c - a * f) / whole)
