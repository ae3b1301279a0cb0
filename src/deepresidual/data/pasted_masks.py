"""Masks of boxes, as networks give them, as pixels of the image: one at a time, in memory for its box alone.

A network says for m × m cells of a box how likely each is the object's. Cells lie evenly in the box, whose
edges are continuous, and between their centers it is bilinear, as in detectron2; torchvision rounds boxes to
whole pixels first, which moves small masks by up to a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.masks import Crop, Masks, Runs

_THRESHOLD = 0.5
_TOGETHER = 4_000_000  # pixels that are computed at a time


def pasted_masks(cells: NDArray[np.float32], boxes: NDArray[np.float32], size: tuple[int, int]) -> Masks:
    """Return the masks of objects in an image: pixels that are the object's at least as likely as not.

    Args:
        cells: ``(n, m, m)`` from 0 to 1.
        boxes: ``(n, 4)``: left, top, right, bottom, in pixels of the image.
        size: Height and width of the image.
    """
    rows = boxes.astype(np.float64).tolist()
    # Runs at once: the pixels of a hundred masks of a photo of 12 megapixels are over a gigabyte.
    runs = [Runs.of_crop(_pasted(each, box, size), size) for each, box in zip(cells, rows, strict=True)]
    return Masks.of(runs).on(size)


def _pasted(cells: NDArray[np.float32], box: Sequence[float], size: tuple[int, int]) -> Crop:
    left, top, right, bottom = box
    columns = _within(left, right, size[1])
    rows = _within(top, bottom, size[0])
    across = _weights(left, right, columns, cells.shape[1])
    down = _weights(top, bottom, rows, cells.shape[0])
    narrow = (cells @ across.T).astype(np.float32)
    pixels = np.zeros((len(rows), len(columns)), np.uint8)
    step = max(1, _TOGETHER // max(1, len(columns)))
    for first in range(0, len(rows), step):
        pixels[first : first + step] = down[first : first + step] @ narrow >= _THRESHOLD
    return Crop(columns.start, rows.start, pixels)


def _within(low: float, high: float, length: int) -> range:
    """Return the pixels of an axis whose centers may lie in a box."""
    return range(max(0, math.floor(low)), max(0, min(length, math.ceil(high))))


def _weights(low: float, high: float, pixels: range, count: int) -> NDArray[np.float32]:
    """Return how much of each of ``count`` cells each pixel is made of, ``(pixels, count)``.

    Beyond the outermost centers of cells there is nothing: what a mask says fades to its edges.
    """
    places = (np.arange(pixels.start, pixels.stop) + 0.5 - low) / max(high - low, 1e-6) * count - 0.5
    distances = np.abs(places[:, None] - np.arange(count))
    weights: NDArray[np.float32] = np.maximum(0, 1 - distances).astype(np.float32)
    return weights
