"""``Rules``: by which rules average precision is taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deepresidual.fields import check_fields, number

Metric = Literal["coco", "voc07", "voc12"]

Overlap = Literal["boxes", "masks"]
"""What of a detection and an object is laid over each other."""

OVERLAPS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
"""Intersections over union (IoU) from which on a box is right; AP is the mean over them."""

RECALLS: NDArray[np.float64] = np.linspace(0.0, 1.0, 101)
"""Recalls at which COCO reads the curve of precision."""


@dataclass(frozen=True)
class Rules:
    """How detections are measured.

    Raises:
        ConfigurationError: A value is out of range.
    """

    metric: Metric = "coco"
    """Rules: COCO's (101 recalls), Pascal VOC's of 2007 (11 recalls) or of 2012 (area under the curve)."""
    overlap: Overlap = "boxes"
    """Whether boxes or masks are compared."""
    most: int = number(100, 1, 100_000)
    """Detections of an image that are measured, those of the highest scores; COCO takes 100."""

    def __post_init__(self) -> None:
        check_fields(self)
