"""Write a mask of pixels as one polygon, where one draws the same pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from deepresidual.data.masks import Crop, Polygon, Runs

_Corner: TypeAlias = tuple[int, int]


def outline_of(runs: Runs) -> Polygon | None:
    """Return the polygon along the edges of the pixels of a mask; ``None`` where one does not draw the mask.

    So it is of a mask in several parts, with a hole, or whose pixels touch at a corner alone.
    """
    crop = runs.crop()
    polygon = _traced(crop) if crop.pixels.size else None
    return polygon if polygon is not None and Runs.drawn([polygon], runs.size) == runs else None


def _traced(crop: Crop) -> Polygon | None:
    """Return the corners of the only outline of some pixels, clockwise; ``None``: there are several."""
    after: dict[_Corner, _Corner] = {}
    count = 0
    for starts, ends in _edges(crop):
        after.update(zip(starts, ends, strict=True))
        count += len(starts)
    if len(after) < count:  # two edges begin where pixels touch at a corner
        return None
    corners: list[_Corner] = []
    first = place = next(iter(after))
    before = (0, 0)
    while place in after:
        following = after.pop(place)
        step = (following[0] - place[0], following[1] - place[1])
        if step != before:
            corners.append(place)
        before, place = step, following
    if after or place != first:
        return None
    polygon: Polygon = np.array(corners, np.float64) + np.array((crop.left, crop.top))
    return polygon


def _edges(crop: Crop) -> Iterator[tuple[list[_Corner], list[_Corner]]]:
    """Yield where the edges between pixels inside and outside start and end, the inside to their right."""
    padded = np.pad(crop.pixels.astype(np.int8), 1)
    down, across = np.diff(padded, axis=0), np.diff(padded, axis=1)
    for changes, sign, start, end in (
        (down, 1, (-1, 0), (0, 0)),  # above a pixel, to the right
        (down, -1, (0, 0), (-1, 0)),  # below one, to the left
        (across, -1, (0, -1), (0, 0)),  # right of one, down
        (across, 1, (0, 0), (0, -1)),  # left of one, up
    ):
        rows, columns = np.nonzero(changes == sign)
        starts, ends = (
            list(zip((columns + across_by).tolist(), (rows + down_by).tolist(), strict=True))
            for across_by, down_by in (start, end)
        )
        yield starts, ends
