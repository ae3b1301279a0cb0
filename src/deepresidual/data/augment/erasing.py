"""Random erasing (Zhong et al. 2017, arXiv 1708.04896): a rectangle of the view is painted over."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

# Section 4.2: s_l and s_h, and r_1, whose inverse is the upper end; as in torchvision and timm.
_MIN_AREA, _MAX_AREA = 0.02, 0.33
_MIN_ASPECT, _MAX_ASPECT = 0.3, 3.3


def choose_rectangle(
    probability: float, generator: Generator, side_px: int
) -> tuple[int, int, int, int] | None:
    """Draw a rectangle of 2 to 33 % of a square view, as left, top, right, bottom, in pixels.

    Returns:
        ``None`` where the view stays whole: by chance, or because no rectangle fitted in ten attempts.
    """
    if generator.random() >= probability:
        return None
    for _ in range(10):
        area = side_px**2 * generator.uniform(_MIN_AREA, _MAX_AREA)
        aspect = math.exp(generator.uniform(math.log(_MIN_ASPECT), math.log(_MAX_ASPECT)))
        width, height = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < width < side_px and 0 < height < side_px:
            left, top = generator.integers([side_px - width + 1, side_px - height + 1]).tolist()
            return (left, top, left + width, top + height)
    return None


def erase(
    view: NDArray[np.uint8], rectangle: tuple[int, int, int, int], mean: Sequence[float]
) -> NDArray[np.uint8]:
    """Return a copy of a view ``(S, S, C)`` whose rectangle has the mean colour, rounded to a level.

    The mean is what becomes zero when the view is normalized, to within that rounding.

    Args:
        view: ``(S, S, C)`` uint8.
        rectangle: Left, top, right, bottom, in pixels.
        mean: Mean of each channel on the scale 0 to 1.
    """
    left, top, right, bottom = rectangle
    painted = view.copy()
    painted[top:bottom, left:right] = np.clip(np.round(np.multiply(mean, 255)), 0, 255)
    return painted
