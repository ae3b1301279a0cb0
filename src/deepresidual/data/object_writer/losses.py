"""What a format cannot hold of a data set: a sentence each, with how many objects it is about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import numpy as np

from deepresidual.data.object_writer.voc import is_narrow, whole_pixels
from deepresidual.data.object_writer.yolo import one_polygon
from deepresidual.data.objects import Objects
from deepresidual.data.source.annotated.shapes import bounds_of
from deepresidual.errors import listed

Format: TypeAlias = Literal["coco", "voc", "yolo"]

NAMES: dict[Format, str] = {"coco": "COCO", "voc": "Pascal VOC", "yolo": "YOLO"}

# A box of YOLO is counted as moved where the polygon ends so far from it.
_MOVED_PX = 0.5


class Losses:
    """Count what of a data set a format cannot hold.

    Args:
        to: The format.
        classes: Names of the classes.
    """

    def __init__(self, to: Format, classes: Sequence[str]) -> None:
        self._to, self._classes = to, classes
        self._objects = self._crowds = self._difficult = 0
        self._masks = self._no_polygons = self._moved = 0
        self._fractions = self._narrow = 0
        self._per_class = np.zeros(len(classes), np.int64)

    def add(self, objects: Objects, size: tuple[int, int]) -> None:
        """Count the objects of an image of this height and width."""
        self._objects += len(objects)
        self._crowds += int(objects.crowd.sum())
        self._difficult += int((objects.difficult & ~objects.crowd).sum())
        self._per_class += np.bincount(objects.labels, minlength=len(self._classes))
        if objects.masks is not None:
            self._masks += int(objects.masks.known.sum())
        if self._to == "voc":
            self._narrow += int(is_narrow(objects.boxes).sum())
            moved = np.abs(whole_pixels(objects.boxes, size) - objects.boxes).max(axis=1, initial=0) > 0
            self._fractions += int(moved.sum())
        elif self._to == "yolo" and objects.masks is not None:
            for row in np.flatnonzero(objects.masks.known & ~objects.crowd).tolist():
                polygon = one_polygon(objects, row)
                self._no_polygons += polygon is None
                if polygon is not None:
                    around = np.clip(bounds_of([polygon]), 0, (*size[::-1], *size[::-1]))
                    self._moved += bool(np.abs(around - objects.boxes[row]).max() > _MOVED_PX)

    def sentences(self) -> list[str]:
        """Return what is lost, a sentence each; empty: nothing."""
        name = NAMES[self._to]
        return [f"{name} {sentence}" for sentence in self._sentences()]

    def _sentences(self) -> Iterator[str]:
        difficult = f"does not mark difficult objects: the mark of {_objects(self._difficult)} is left out"
        match self._to:
            case "coco":
                if self._difficult:
                    yield difficult
            case "voc":
                if self._masks:
                    yield f"has no masks in its XML: of {_objects(self._masks)} the box alone is kept"
                if self._crowds:
                    yield f"has no crowds: {_objects(self._crowds)} marked as difficult instead"
                if self._fractions:
                    edges = f"the edges of {self._fractions:,} of {_objects(self._objects)}"
                    yield f"has whole pixels: {edges} are rounded"
                if self._narrow:
                    yield f"takes a box of one pixel for a slip: {_objects(self._narrow)} widened to two"
                if unused := [
                    self._classes[place] for place in np.flatnonzero(self._per_class == 0).tolist()
                ]:
                    yield f"names classes by their objects alone, and there are none of {listed(unused, 5)}"
                if list(self._classes) != sorted(self._classes):
                    yield "does not keep the order of classes: they are sorted by name when it is read"
            case "yolo":
                if self._crowds:
                    yield f"has no crowds: {_objects(self._crowds)} left out, and taught as background"
                if self._difficult:
                    yield difficult
                if self._no_polygons:
                    several = f"of {_objects(self._no_polygons)} in parts or with holes"
                    yield f"has masks of one polygon alone: {several} the box is kept"
                if self._moved:
                    moved = f"{_objects(self._moved)} with the box around the polygon now"
                    yield f"has a polygon or a box, not both: {moved}"


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count:,} objects"
