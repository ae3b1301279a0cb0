"""Draw an explanation: the image as the network saw it, and beside it the heat map over it.

The image under the heat is gray, so colour means heat and nothing else. The colours are those of magma, whose
lightness grows with the value, so the map reads the same in a gray print and for readers who do not tell red
from green.
"""

from __future__ import annotations

import bisect
import io
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.ft2font import FT2Font
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deepresidual.errors import DataError
from deepresidual.explanation.activation_maps import enlarged
from deepresidual.explanation.files import Explanation, FileExplanation
from deepresidual.explanation.layers import LAST_MAP
from deepresidual.reporting.palette import INK
from deepresidual.runtime.printable import printable

_COLORS = "magma"
_HEAT = 0.62  # share of the heat's colour; the rest is the image

# Measures in pixels.
_PANEL = 224  # smaller views are enlarged by a whole factor until they have as many
_MARGIN, _GAP = 16, 14
_TITLE, _TEXT, _CAPTION = 20, 14, 13
_BAR_WIDTH = 14
_SOFT, _PAPER = "#5b6675", "white"

# Fonts for characters that the one of matplotlib lacks: the first that is installed and has them.
_OTHER_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Microsoft YaHei",
    "Arial Unicode MS",
)


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
    scale_width = _BAR_WIDTH + 6 + _width("none", _CAPTION)
    width = 2 * _MARGIN + 2 * side + 2 * _GAP + scale_width
    top = _MARGIN + _TITLE + 8 + _TEXT + 12
    image = Image.new("RGB", (width, top + side + 6 + _CAPTION + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(image)

    room = width - 2 * _MARGIN
    title = _fitting(explanation.label, f"  {explanation.probability:.1%}", _TITLE, room)
    _write(draw, (_MARGIN, _MARGIN), title, _TITLE, INK)
    layer = "the last map" if explanation.layer == LAST_MAP else explanation.layer
    about = f"{explanation.method} of {layer}"
    if explanation.label != explanation.predicted:
        percent = f" {explanation.predicted_probability:.1%}"
        about = _fitting(f"{about}; predicted: {explanation.predicted}", percent, _TEXT, room)
    _write(draw, (_MARGIN, _MARGIN + _TITLE + 8), about, _TEXT, _SOFT)

    left, right = _MARGIN, _MARGIN + side + _GAP
    image.paste(Image.fromarray(np.ascontiguousarray(photo)), (left, top))
    image.paste(Image.fromarray(overlay(photo, heat)), (right, top))
    below = top + side + 6
    found = "evidence for the class" if heat.max() > 0 else "nothing speaks for the class"
    _write(draw, (left, below), "what the network saw", _CAPTION, _SOFT)
    _write(draw, (right, below), found, _CAPTION, _SOFT)

    at = right + side + _GAP
    ramp = np.linspace(1, 0, side, dtype=np.float32)[:, None].repeat(_BAR_WIDTH, axis=1)
    image.paste(Image.fromarray(overlay(np.full((*ramp.shape, 3), 128, np.uint8), ramp)), (at, top))
    _write(draw, (at + _BAR_WIDTH + 6, top - 2), "most", _CAPTION, _SOFT)
    _write(draw, (at + _BAR_WIDTH + 6, top + side - _CAPTION - 2), "none", _CAPTION, _SOFT)
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


# -- text --------------------------------------------------------------------------------------------------


def _fitting(name: str, behind: str, size: int, room: int) -> str:
    """Return ``name`` with ``behind`` after it, the name cut where both do not fit into ``room`` pixels."""
    name = printable(name)
    if _width(name + behind, size) <= room:
        return name + behind
    # A longer text is never narrower, so the longest that fits can be found by halving.
    fits = bisect.bisect_right(
        range(min(len(name), room)), room, key=lambda length: _width(f"{name[:length]}…{behind}", size)
    )
    return f"{name[: max(0, fits - 1)]}…{behind}"


def _width(text: str, size: int) -> int:
    return int(np.ceil(_font(text, size).getlength(text)))


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, color: str) -> None:
    draw.text(at, text, font=_font(text, size), fill=color)


def _font(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font that has every character of ``text``, else the usual one, which shows boxes."""
    usual = str(Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
    if not text.isascii() and not _has_all(usual, text):
        return _sized(next((path for path in _other_fonts() if _has_all(path, text)), usual), size)
    return _sized(usual, size)


@cache
def _sized(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


@cache
def _characters(path: str) -> frozenset[int]:
    return frozenset(FT2Font(path).get_charmap())


def _has_all(path: str, text: str) -> bool:
    return _characters(path).issuperset(map(ord, text))


@cache
def _other_fonts() -> tuple[str, ...]:
    # Only now: the first use lists all fonts of the machine, which takes seconds.
    from matplotlib.font_manager import fontManager

    installed = {entry.name: entry.fname for entry in fontManager.ttflist}
    return tuple(installed[name] for name in _OTHER_FONTS if name in installed)
