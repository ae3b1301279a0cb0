"""``Window``: where in a view each place of its image lies, for what has places: boxes.

It is made by the same numbers as the pixels of the view (:func:`deepresidual.data.augment.crop.placement`),
so that boxes lie where the pixels do, to the rounding of float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Affine: TypeAlias = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): a place (x, y) goes to (a·x + b·y + c, d·x + e·y + f)."""

_SAME: Affine = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@dataclass(frozen=True)
class Window:
    """A view of an image, as a map of places.

    Attributes:
        image: Height and width of the upright image in pixels.
        side_px: Side of the view in pixels.
        scale: View pixels a pixel of the image, across and down; negative across where it is mirrored.
        shift: Where in the view the image's corner (0, 0) lies: across, down.
        inside: The part of the view that shows the image: left, top, right, bottom, in pixels of the view.
        turned: What turns and shears the view after that, as a map from old places to new ones.
    """

    image: tuple[int, int]
    side_px: int
    scale: tuple[float, float]
    shift: tuple[float, float]
    inside: tuple[int, int, int, int]
    turned: Affine = _SAME

    @property
    def filled(self) -> tuple[int, int]:
        """Height and width of the part of the view, from its upper left corner, that holds the image."""
        if self.turned != _SAME:
            return (self.side_px, self.side_px)
        return (self.inside[3], self.inside[2])

    def place(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``(n, 4)`` boxes of the image in pixels of the view; they may reach over its edges.

        A box that is turned or sheared becomes the upright box around it.
        """
        placed = boxes.astype(np.float64) * np.tile(self.scale, 2) + np.tile(self.shift, 2)
        if self.turned != _SAME:
            placed = _around(placed, self.turned)
        return _ordered(placed)

    def place_back(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return ``(n, 4)`` boxes of the view in pixels of the image; of a view that is not turned."""
        placed = (boxes.astype(np.float64) - np.tile(self.shift, 2)) / np.tile(self.scale, 2)
        return _ordered(placed)

    def clip(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return boxes cut at the edges of what the view shows of the image."""
        left, top, right, bottom = self.inside if self.turned == _SAME else (0, 0, self.side_px, self.side_px)
        return np.clip(boxes, (left, top, left, top), (right, bottom, right, bottom)).astype(np.float32)

    def clip_to_image(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return boxes of the image cut at its edges."""
        height, width = self.image
        return np.clip(boxes, 0, (width, height, width, height)).astype(np.float32)


def _ordered(boxes: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return boxes whose left edge is left; mirroring exchanges the two."""
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    return np.concatenate([low, high], axis=1).astype(np.float32)


def _around(boxes: NDArray[np.float64], move: Affine) -> NDArray[np.float64]:
    a, b, c, d, e, f = move
    x, y = boxes[:, [0, 2, 2, 0]], boxes[:, [1, 1, 3, 3]]
    across, down = a * x + b * y + c, d * x + e * y + f
    return np.stack([across.min(1), down.min(1), across.max(1), down.max(1)], axis=1)
