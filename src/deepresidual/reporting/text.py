"""Text in drawings: what fits into so many pixels, in a font that has its characters."""

from __future__ import annotations

import bisect
from functools import cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.ft2font import FT2Font
from PIL import ImageDraw, ImageFont

from deepresidual.runtime.printable import printable

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


def fitting(name: str, behind: str, size: int, room: int) -> str:
    """Return ``name`` with ``behind`` after it, the name cut where both do not fit into ``room`` pixels."""
    name = printable(name)
    if width_of(name + behind, size) <= room:
        return name + behind
    # A longer text is never narrower, so the longest that fits can be found by halving.
    fits = bisect.bisect_right(
        range(min(len(name), room)), room, key=lambda length: width_of(f"{name[:length]}…{behind}", size)
    )
    return f"{name[: max(0, fits - 1)]}…{behind}"


def width_of(text: str, size: int) -> int:
    """Return the width of a line of text in pixels."""
    return int(np.ceil(font_of(text, size).getlength(text)))


def write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, color: str) -> None:
    """Write a line of text; ``at`` is its upper left corner."""
    draw.text(at, text, font=font_of(text, size), fill=color)


def font_of(text: str, size: int) -> ImageFont.FreeTypeFont:
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
