"""Images with objects as a format describes them, and the annotations that they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deepresidual.data.objects import Objects
from deepresidual.data.source.annotated.findings import Finding, FindingKind
from deepresidual.data.source.annotated.split import Annotation

# Tools round to half a pixel or to a few digits of a fraction; what reaches over an edge by less is no error.
_ROUNDING_PX, _ROUNDING_SHARE = 0.5, 0.002


@dataclass
class DescribedImage:
    """An image as its annotations describe it.

    Attributes:
        key: Name of the image within the data set.
        path: Its file.
        file: File of its annotations, relative to the data set.
        written: How a box is written in messages, with four places for its numbers.
        size: Height and width, where the format gives them.
        image_id: What the format calls the image.
        relative: Whether boxes are fractions of width and height.
        classes: Name of the class of every object.
        boxes: Left, top, right and bottom of every object, edges continuous.
        raw: The four numbers of every object as they stand in the file.
        numbers: What messages call every object; default: its place in the file, from 1.
        crowd: Whether each is a crowd.
        difficult: Whether each need not be found.
        areas: Area of each, ``None`` for that of the box.
    """

    key: str
    path: Path
    file: str
    written: str
    size: tuple[int, int] | None = None
    image_id: int | str | None = None
    relative: bool = False
    classes: list[str] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    raw: list[Sequence[float]] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    areas: list[float | None] = field(default_factory=list)

    def subject(self, row: int) -> str:
        """Return what messages call object ``row``."""
        number = self.numbers[row] if self.numbers else f"object {row + 1}"
        return f"{number} ({self.classes[row]})"


def annotation_of(image: DescribedImage, numbers: Mapping[str, int], findings: list[Finding]) -> Annotation:
    """Return the annotation of an image; boxes are cut at its edges, and those without area left out.

    Args:
        image: The image.
        numbers: Index of the class of every name.
        findings: What is found is added to this list.
    """
    if not image.boxes:
        objects = Objects.none()
    else:
        boxes = np.array(image.boxes, dtype=np.float64)
        empty = (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
        limits = (1.0, 1.0) if image.relative else image.size and (image.size[1], image.size[0])
        cut = np.clip(boxes, 0, (*limits, *limits)) if limits else boxes
        rounding = _ROUNDING_SHARE if image.relative else _ROUNDING_PX
        outside = np.abs(cut - boxes).max(axis=1) > rounding
        gone = ((cut[:, 2] <= cut[:, 0]) | (cut[:, 3] <= cut[:, 1])) & ~empty
        findings += [
            _finding(image, row, is_empty=bool(empty[row]), is_gone=bool(gone[row]))
            for row in np.flatnonzero(empty | outside | gone).tolist()
        ]
        kept = ~(empty | gone)
        areas = [
            (box[2] - box[0]) * (box[3] - box[1]) if area is None else area
            for box, area in zip(cut.tolist(), image.areas or [None] * len(boxes), strict=True)
        ]
        objects = Objects(
            cut.astype(np.float32),
            np.array([numbers[name] for name in image.classes]),
            np.array(image.crowd or [False] * len(boxes), np.bool_),
            np.array(image.difficult or [False] * len(boxes), np.bool_),
            np.array(areas, np.float32),
        )[kept]
    return Annotation(image.key, image.path, objects, image.size, image.image_id, image.relative)


def _finding(image: DescribedImage, row: int, *, is_empty: bool, is_gone: bool) -> Finding:
    written = image.written.format(*(f"{number:g}" for number in image.raw[row]))
    size = "" if image.size is None else f" of {image.size[1]}×{image.size[0]} px"
    kind: FindingKind = "box-outside"
    if is_empty:
        kind, sentence = "box-empty", f"its box has no area ({written})"
    elif is_gone:
        sentence = f"its box lies outside of the image{size} ({written})"
    else:
        sentence = f"its box reaches over the edge of the image{size} and is cut there ({written})"
    return Finding(kind, image.file, image.subject(row), sentence, is_used=not (is_empty or is_gone))
