"""``Window``: where in a view each place of its image lies, for what has places: boxes.

It is made by the same numbers as the pixels of the view (:func:`deepresidual.data.augment.crop.placement` and
:func:`deepresidual.data.augment.policy.moves_of`), so that boxes lie where the pixels do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Affine: TypeAlias = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): a place (x, y) goes to (a·x + b·y + c, d·x + e·y + f)."""

# Share of a box that is nothing: rounding leaves so much of one that a turned view does not show.
_NOTHING = 1e-9

_Corner: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Window:
    """A view of an image, as a map of places.

    Attributes:
        image: Height and width of the upright image in pixels.
        side_px: Side of the view in pixels.
        scale: View pixels a pixel of the image, across and down; negative across where it is mirrored.
        shift: Where in the view the image's corner (0, 0) lies: across, down.
        inside: The part of the view that shows the image: left, top, right, bottom, in pixels of the view.
        turned: What rotates, shears and shifts the view after that, in order; each keeps areas as they are.
    """

    image: tuple[int, int]
    side_px: int
    scale: tuple[float, float]
    shift: tuple[float, float]
    inside: tuple[int, int, int, int]
    turned: tuple[Affine, ...] = ()

    @property
    def filled(self) -> tuple[int, int]:
        """Height and width of the part of the view, from its upper left corner, that holds the image."""
        return (self.side_px, self.side_px) if self.turned else (self.inside[3], self.inside[2])

    @property
    def magnification(self) -> float:
        """Pixels of the view that show a pixel of the image."""
        return abs(self.scale[0] * self.scale[1])

    def shown(self, boxes: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what a view shows of ``(n, 4)`` boxes of the image.

        A box that is rotated or sheared becomes the upright box around what is shown of it.

        Returns:
            The boxes in pixels of the view, cut at the edges of what it shows, ``(n, 4)``; and which share of
            the area of each is shown, ``(n,)``.
        """
        whole = self._placed(boxes)
        left, top, right, bottom = self.inside
        cut = np.clip(whole, (left, top, left, top), (right, bottom, right, bottom))
        area = _areas(cut)
        if self.turned:
            for row, box in enumerate(cut.tolist()):
                cut[row], area[row] = self._turned(box)
        share = np.divide(area, _areas(whole), out=np.zeros(len(boxes)), where=_areas(whole) > 0)
        share[share < _NOTHING] = 0
        return cut.astype(np.float32), share.astype(np.float32)

    def place_back(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``(n, 4)`` boxes of a view that is not turned in pixels of its image, cut at its edges."""
        height, width = self.image
        placed = _ordered((boxes.astype(np.float64) - np.tile(self.shift, 2)) / np.tile(self.scale, 2))
        return np.clip(placed, 0, (width, height, width, height)).astype(np.float32)

    def _placed(self, boxes: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return boxes in pixels of the view before it is turned; they may reach over its edges."""
        return _ordered(boxes.astype(np.float64) * np.tile(self.scale, 2) + np.tile(self.shift, 2))

    def _turned(self, box: Sequence[float]) -> tuple[list[float], float]:
        """Return the box around what is left of a box after all that turns the view, and its area.

        Each step moves pixels out of the view, and what is gone does not come back by the next.
        """
        left, top, right, bottom = box
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        for a, b, c, d, e, f in self.turned:
            corners = [(a * x + b * y + c, d * x + e * y + f) for x, y in corners]
            corners = _cut(corners, self.side_px)
        if not corners:
            return [0.0, 0.0, 0.0, 0.0], 0.0
        across, down = zip(*corners, strict=True)
        return [min(across), min(down), max(across), max(down)], _area(corners)


def _ordered(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return boxes whose left edge is left; mirroring exchanges the two."""
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    return np.concatenate([low, high], axis=1)


def _areas(boxes: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), dtype=np.float64)


# -- what is left of a turned box --------------------------------------------------------------------------


def _cut(corners: list[_Corner], side_px: int) -> list[_Corner]:
    """Return the part of a convex polygon that lies in a view (Sutherland and Hodgman 1974)."""
    for depth in (
        lambda corner: corner[0],
        lambda corner: corner[1],
        lambda corner: side_px - corner[0],
        lambda corner: side_px - corner[1],
    ):
        corners = _cut_at(corners, depth)
    return corners


def _cut_at(corners: list[_Corner], depth: Callable[[_Corner], float]) -> list[_Corner]:
    """Return the part of a convex polygon in which ``depth``, which is linear, is not below zero."""
    depths = [depth(corner) for corner in corners]
    if not corners or min(depths) >= 0:
        return corners
    kept: list[_Corner] = []
    for place, (x, y) in enumerate(corners):
        before, here = depths[place - 1], depths[place]
        if (before < 0) != (here < 0):
            part = before / (before - here)
            last_x, last_y = corners[place - 1]
            kept.append((last_x + part * (x - last_x), last_y + part * (y - last_y)))
        if here >= 0:
            kept.append((x, y))
    return kept


def _area(corners: Sequence[_Corner]) -> float:
    """Return the area of a polygon whose corners are in order (Gauss's formula)."""
    twice = sum(corners[place - 1][0] * y - x * corners[place - 1][1] for place, (x, y) in enumerate(corners))
    return abs(twice) / 2
