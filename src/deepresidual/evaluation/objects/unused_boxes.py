"""Warn of the boxes of a split that nothing is measured by, in one line: a check lists them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.source import Split
from deepresidual.data.source.annotated.split import AnnotatedSplit
from deepresidual.data.source.validation import Subset
from deepresidual.runtime.console import warn


def warn_of_unused_boxes(split: Split) -> None:
    """Warn of the boxes of a split that have no area in their image."""
    count = int(_unused(split).sum())
    if count:
        boxes = "1 box has no area, and is" if count == 1 else f"{count:,} boxes have no area, and are"
        warn(f"{boxes} not used; 'residual check' lists what is wrong with annotations")


def _unused(split: Split) -> NDArray[np.int64]:
    if isinstance(split, Subset):
        return _unused(split.split)[split.indices]
    return split.unused if isinstance(split, AnnotatedSplit) else np.zeros(len(split), np.int64)
