"""Draw an explanation: the image as the network saw it, and beside it the heat map over it.

The image under the heat is gray, so colour means heat and nothing else. The colours are those of magma, whose
lightness grows with the value, so the map reads the same in a gray print and for readers who do not tell red
from green.
"""

from __future__ import annotations

import io
from functools import cache

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from deepresidual.errors import DataError
from deepresidual.explanation.activation_maps import enlarged
from deepresidual.explanation.files import Explanation, FileExplanation
from deepresidual.explanation.layers import LAST_MAP
from deepresidual.reporting.palette import INK
from deepresidual.reporting.text import fitting, width_of, write

_COLORS = "magma"
_HEAT = 0.62  # share of the heat's colour; the rest is the image

# Measures in pixels.
_PANEL = 224  # smaller views are enlarged by a whole factor until they have as many
_MARGIN, _GAP = 16, 14
_TITLE, _TEXT, _CAPTION = 20, 14, 13
_BAR_WIDTH = 14
_SOFT, _PAPER = "#5b6675", "white"


def draw_explanation(explanation: Explanation | FileExplanation) -> bytes:
    """Return a PNG: title with class and probability, the view, the heat map over it, and its scale.

    Args:
        explanation: An explanation, or the result of a file that has one.

    Raises:
        DataError: The file could not be used.
    """
    if isinstance(explanation, FileExplanation):
        if explanation.explanation is None:
            raise DataError(f"{explanation.path}: {explanation.error}")
        explanation = explanation.explanation
    view = explanation.view
    factor = -(-_PANEL // len(view)) if len(view) < _PANEL else 1
    photo = view.repeat(factor, axis=0).repeat(factor, axis=1)
    side = len(photo)
    heat = enlarged(explanation.values[None], side)[0].numpy()
    scale_width = _BAR_WIDTH + 6 + width_of("none", _CAPTION)
    width = 2 * _MARGIN + 2 * side + 2 * _GAP + scale_width
    top = _MARGIN + _TITLE + 8 + _TEXT + 12
    image = Image.new("RGB", (width, top + side + 6 + _CAPTION + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(image)

    room = width - 2 * _MARGIN
    title = fitting(explanation.label, f"  {explanation.probability:.1%}", _TITLE, room)
    write(draw, (_MARGIN, _MARGIN), title, _TITLE, INK)
    layer = "the last map" if explanation.layer == LAST_MAP else explanation.layer
    about = f"{explanation.method} of {layer}"
    if explanation.label != explanation.predicted:
        percent = f" {explanation.predicted_probability:.1%}"
        about = fitting(f"{about}; predicted: {explanation.predicted}", percent, _TEXT, room)
    write(draw, (_MARGIN, _MARGIN + _TITLE + 8), about, _TEXT, _SOFT)

    left, right = _MARGIN, _MARGIN + side + _GAP
    image.paste(Image.fromarray(np.ascontiguousarray(photo)), (left, top))
    image.paste(Image.fromarray(overlay(photo, heat)), (right, top))
    below = top + side + 6
    found = "evidence for the class" if heat.max() > 0 else "nothing speaks for the class"
    write(draw, (left, below), "what the network saw", _CAPTION, _SOFT)
    write(draw, (right, below), found, _CAPTION, _SOFT)

    at = right + side + _GAP
    ramp = np.linspace(1, 0, side, dtype=np.float32)[:, None].repeat(_BAR_WIDTH, axis=1)
    image.paste(Image.fromarray(overlay(np.full((*ramp.shape, 3), 128, np.uint8), ramp)), (at, top))
    write(draw, (at + _BAR_WIDTH + 6, top - 2), "most", _CAPTION, _SOFT)
    write(draw, (at + _BAR_WIDTH + 6, top + side - _CAPTION - 2), "none", _CAPTION, _SOFT)
    return png(np.asarray(image))


def overlay(photo: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a photo in gray with heat over it.

    Args:
        photo: ``(H, W, 3)`` uint8 RGB.
        heat: ``(H, W)`` float32, 0 to 1.

    Returns:
        ``(H, W, 3)`` uint8 RGB.
    """
    gray = np.asarray(Image.fromarray(np.ascontiguousarray(photo)).convert("L"), np.float32)[:, :, None]
    colors = _colors()[np.rint(heat * 255).astype(np.uint8)]
    faint = 64 + gray / 2  # with all of its contrast a bright object would pass for heat in a gray print
    blended: NDArray[np.uint8] = np.rint((1 - _HEAT) * faint + _HEAT * colors).astype(np.uint8)
    return blended


@cache
def _colors() -> NDArray[np.float32]:
    """Return the colours of the map, ``(256, 3)``, 0 to 255, from no heat to the most."""
    colors: NDArray[np.float32] = mpl.colormaps[_COLORS](np.arange(256))[:, :3].astype(np.float32) * 255
    return colors


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return ``(H, W, 3)`` uint8 RGB as a PNG file."""
    file = io.BytesIO()
    # The smallest file takes twenty times as long, and saves a sixth.
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", compress_level=3)
    return file.getvalue()
