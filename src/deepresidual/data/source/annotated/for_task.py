"""What of a data set with objects is learned: boxes, and masks where it has them."""

from __future__ import annotations

import dataclasses

from deepresidual.data.source.annotated.split import AnnotatedSplit
from deepresidual.data.source.base import DETECTION, ObjectTask, SampleSource, Split
from deepresidual.data.source.validation import Subset
from deepresidual.errors import DataError


def for_task(source: SampleSource, task: ObjectTask | None) -> SampleSource:
    """Return a data set as a task sees it; without a task as it is.

    Raises:
        DataError: It has no boxes, or no masks to segment by.
    """
    if task is None:
        return source
    if source.task != DETECTION:
        raise DataError(f"{source.name} has no boxes of objects", remedy=f"leave out --task {task}")
    if task == "segment":
        if not has_masks(source):
            raise DataError(
                f"{source.name} has boxes and no masks",
                expected="masks: polygons or runs of COCO, or polygons of YOLO",
                remedy="leave out --task segment",
            )
        return source
    splits = {name: _without_masks(split) for name, split in source.splits.items()}
    whole = None if source.whole is None else _without_masks(source.whole)
    return dataclasses.replace(source, splits=splits, whole=whole)


def has_masks(source: SampleSource) -> bool:
    """Return whether a data set has masks of objects, in any split."""
    splits = [*source.splits.values(), *([] if source.whole is None else [source.whole])]
    return any(_has_masks(split) for split in splits)


def _has_masks(split: Split) -> bool:
    if isinstance(split, Subset):
        return _has_masks(split.split)
    return isinstance(split, AnnotatedSplit) and split.has_masks


def _without_masks(split: Split) -> Split:
    if isinstance(split, Subset):
        return Subset(_without_masks(split.split), split.indices)
    return split.without_masks() if isinstance(split, AnnotatedSplit) else split
