"""Draw the mask of an object over its image: a translucent surface with a crisp outline.

Work is done on the part of the picture that the mask reaches to, a byte for each of its pixels: a hundred
masks of a photo are drawn one after the other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.masks import Crop

_SURFACE = 0.35
"""Opacity of the surface: what is below stays visible."""

_HALO_COLOR, _HALO_OPACITY = "#000000", 0.35
_DIAGONAL = 0.414  # of the steps go to all eight neighbours, so that what is taken off is an octagon


def paint_mask(
    canvas: NDArray[np.uint8], mask: Crop, color: str, line_px: int, *, has_surface: bool = True
) -> None:
    """Paint a mask, in place.

    Args:
        canvas: ``(H, W, 3)`` uint8 RGB.
        mask: The mask, in pixels of the canvas.
        color: Its colour.
        line_px: Width of its outline, which lies inside of it; a darker one of a pixel lies outside.
        has_surface: Whether what it covers is tinted.
    """
    height, width = canvas.shape[:2]
    rows, columns = mask.pixels.shape
    left, top = max(0, mask.left - 1), max(0, mask.top - 1)
    right, bottom = min(width, mask.left + columns + 1), min(height, mask.top + rows + 1)
    if right <= left or bottom <= top:
        return
    # With a margin of a pixel, in which the halo lies; at the edges of the picture it is cut off.
    covered = np.pad(mask.pixels.astype(np.bool_), 1)
    around = ~_step(~covered, is_square=False)
    inner = _shrunk(covered, line_px)
    x0, y0 = left - (mask.left - 1), top - (mask.top - 1)
    seen = (slice(y0, y0 + bottom - top), slice(x0, x0 + right - left))
    part = canvas[top:bottom, left:right]
    _tint(part, (around & ~covered)[seen], _HALO_COLOR, _HALO_OPACITY)
    if has_surface:
        _tint(part, inner[seen], color, _SURFACE)
    _tint(part, (covered & ~inner)[seen], color, 1)


def enlarged(mask: Crop, factor: int) -> Crop:
    """Return a mask of a picture that is enlarged by a whole factor; its pixels become squares."""
    if factor == 1:
        return mask
    pixels = mask.pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    return Crop(mask.left * factor, mask.top * factor, pixels)


def _shrunk(covered: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """Return what is left of a surface when so many pixels are taken off at its edges, ``(h, w)``."""
    left, diagonal = covered, 0
    for step in range(1, steps + 1):
        turn = round(_DIAGONAL * step)
        left = _step(left, is_square=turn > diagonal)
        diagonal = turn
    return left


def _step(covered: NDArray[np.bool_], *, is_square: bool) -> NDArray[np.bool_]:
    """Return the pixels whose four neighbours, or eight, are covered, too; beyond the edges all are."""
    across = covered.copy()
    across[:, 1:] &= covered[:, :-1]
    across[:, :-1] &= covered[:, 1:]
    down = across if is_square else covered
    left = across.copy()
    left[1:] &= down[:-1]
    left[:-1] &= down[1:]
    return left


def _tint(part: NDArray[np.uint8], where: NDArray[np.bool_], color: str, opacity: float) -> None:
    """Lay a colour over some pixels of ``(h, w, 3)``, in place."""
    shades = np.arange(256)
    for channel, value in enumerate(bytes.fromhex(color[1:])):
        mixed = np.rint(shades + (value - shades) * opacity).astype(np.uint8)
        plane = part[:, :, channel]
        plane[where] = mixed[plane[where]]
