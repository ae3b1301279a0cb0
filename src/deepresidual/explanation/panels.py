"""Lay out pictures of one photo side by side under a title, with captions; at most 1,600 pixels wide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from deepresidual.explanation.drawing import overlay, png
from deepresidual.reporting.palette import INK
from deepresidual.reporting.text import fitting, width_of, write

_WIDEST = 1600
_USUAL_PX = 480  # small images are enlarged, by whole factors, until the longer side has as many
_PIXELS_SEEN = 2  # from this factor on pixels become squares, as they are
_MARGIN, _GAP = 16, 14
_TITLE, _TEXT, _CAPTION = 20, 14, 13
_BAR_WIDTH = 14
_SOFT, _PAPER = "#5b6675", "white"


@dataclass(frozen=True, eq=False)
class Panel:
    """One of the pictures.

    Attributes:
        pixels: ``(h, w, 3)`` uint8 RGB; all of a sheet have one size.
        captions: Lines below it.
    """

    pixels: NDArray[np.uint8]
    captions: tuple[str, ...]


def panel_of(photo: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Return a photo in the size of a panel, of which so many stand side by side.

    Photos are resized; small images are enlarged by a whole factor, and show their pixels.
    """
    room = (_WIDEST - 2 * _MARGIN - columns * _GAP - _scale_width()) // columns
    height, width = photo.shape[:2]
    longer = max(height, width)
    factor = min(room / longer, room / width)
    if factor >= _PIXELS_SEEN:
        times = max(1, min(int(factor), math.ceil(_USUAL_PX / longer)))
        return np.ascontiguousarray(photo.repeat(times, axis=0).repeat(times, axis=1))
    return resized(photo, max(1, round(height * factor)), max(1, round(width * factor)))


def resized(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Return an image in another size; one that has it as it is."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels)).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(image)


def sheet(
    title: tuple[str, str], about: str, panels: Sequence[Panel], columns: int, *, has_scale: bool = False
) -> bytes:
    """Return a PNG of panels in rows below a title.

    Args:
        title: Its first part, which is cut where it is too long, and what follows it.
        about: A line below it.
        panels: All of one size.
        columns: How many stand side by side.
        has_scale: Whether the scale of heat stands beside the first row.
    """
    height, width = panels[0].pixels.shape[:2]
    rows = -(-len(panels) // columns)
    lines = max(len(panel.captions) for panel in panels)
    below = 6 + lines * (_CAPTION + 4)
    across = columns * width + (columns - 1) * _GAP + (_GAP + _scale_width() if has_scale else 0)
    top = _MARGIN + _TITLE + 8 + _TEXT + 12
    size = (across + 2 * _MARGIN, top + rows * (height + below) + (rows - 1) * _GAP + _MARGIN)
    image = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(image)
    write(draw, (_MARGIN, _MARGIN), fitting(*title, _TITLE, across), _TITLE, INK)
    write(draw, (_MARGIN, _MARGIN + _TITLE + 8), fitting(about, "", _TEXT, across), _TEXT, _SOFT)
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        left, upper = _MARGIN + column * (width + _GAP), top + row * (height + below + _GAP)
        image.paste(Image.fromarray(np.ascontiguousarray(panel.pixels)), (left, upper))
        for number, caption in enumerate(panel.captions):
            at = (left, upper + height + 6 + number * (_CAPTION + 4))
            write(draw, at, fitting(caption, "", _CAPTION, width), _CAPTION, _SOFT)
    if has_scale:
        left = _MARGIN + columns * (width + _GAP)
        ramp = np.linspace(1, 0, height, dtype=np.float32)[:, None].repeat(_BAR_WIDTH, axis=1)
        bar = overlay(np.full((*ramp.shape, 3), 128, np.uint8), ramp)
        image.paste(Image.fromarray(bar), (left, top))
        write(draw, (left + _BAR_WIDTH + 6, top - 2), "most", _CAPTION, _SOFT)
        write(draw, (left + _BAR_WIDTH + 6, top + height - _CAPTION - 2), "none", _CAPTION, _SOFT)
    return png(np.asarray(image))


def _scale_width() -> int:
    return _BAR_WIDTH + 6 + width_of("none", _CAPTION)
