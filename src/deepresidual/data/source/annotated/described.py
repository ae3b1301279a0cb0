"""Images with objects as a format describes them, and the annotations that they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.objects import Objects
from deepresidual.data.source.annotated.findings import Finding, FindingKind
from deepresidual.data.source.annotated.split import Annotations
from deepresidual.errors import DataError

# Tools round to half a pixel or to a few digits of a fraction; what reaches over an edge by less is no error.
_ROUNDING_PX, _ROUNDING_SHARE = 0.5, 0.002

_MOST = 1e9  # pixels; float32 and the products of sides hold it


@dataclass
class DescribedImage:
    """An image as its annotations describe it.

    Attributes:
        key: Path of the image, relative to the data set.
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

    def box(self, row: int) -> str:
        """Return the box of object ``row`` as its file has it."""
        return self.written.format(*(f"{number:g}" for number in self.raw[row]))


def annotations_of(
    images: Sequence[DescribedImage], numbers: Mapping[str, int], findings: list[Finding]
) -> Annotations:
    """Return the annotations of images without the boxes of no area and those that lie outside of an image.

    Boxes that reach over an edge stay as they are: they are cut where the image's own size is known, since
    what a format says of it may be wrong.

    Args:
        images: The images, all of one format.
        numbers: Index of the class of every name.
        findings: What is found is added to this list.
    """
    relative = any(image.relative for image in images)
    ends = np.cumsum([len(image.boxes) for image in images])
    counts = np.array([len(image.boxes) for image in images])
    boxes = np.array([box for image in images for box in image.boxes], np.float64).reshape(-1, 4)
    areas = np.array(
        [area for image in images for area in image.areas or [None] * len(image.boxes)], np.float64
    )
    for row in np.flatnonzero((np.abs(boxes) > _MOST).any(axis=1) | (areas < 0) | (areas > _MOST**2))[:1]:
        image, within = _place(images, ends, int(row))
        raise DataError(
            f"{image.file}: {image.subject(within)} has a box or an area that no image has "
            f"({image.box(within)})"
        )
    # Without a size of the image nothing is outside of it.
    sides = [(1.0, 1.0) if relative else image.size or (np.inf, np.inf) for image in images]
    limits = np.repeat(np.array(sides)[:, [1, 0, 1, 0]], counts, axis=0)
    low = 0 if relative else np.where(np.isinf(limits), -np.inf, 0)
    cut = np.clip(boxes, low, limits)
    empty = (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])
    gone = ((cut[:, 2] <= cut[:, 0]) | (cut[:, 3] <= cut[:, 1])) & ~empty
    outside = (np.abs(cut - boxes) > (_ROUNDING_SHARE if relative else _ROUNDING_PX)).any(axis=1)
    for row in np.flatnonzero(empty | gone | outside).tolist():
        image, within = _place(images, ends, row)
        findings.append(_finding(image, within, is_empty=bool(empty[row]), is_gone=bool(gone[row])))
    kept = ~(empty | gone)
    of_box = (cut[:, 2] - cut[:, 0]) * (cut[:, 3] - cut[:, 1])
    objects = Objects(
        boxes.astype(np.float32),
        np.array([numbers[name] for image in images for name in image.classes], np.int64),
        _flags([image.crowd for image in images], counts),
        _flags([image.difficult for image in images], counts),
        np.where(np.isnan(areas), of_box, areas).astype(np.float32),
    )
    ids = [image.image_id for image in images if image.image_id is not None]
    image_of_object = np.repeat(np.arange(len(images)), counts)
    return Annotations(
        [image.key for image in images],
        objects[kept],
        np.bincount(image_of_object[kept], minlength=len(images)).tolist(),
        [image.size for image in images],
        ids if len(ids) == len(images) else (),
        relative,
    )


def _place(images: Sequence[DescribedImage], ends: NDArray[np.int64], row: int) -> tuple[DescribedImage, int]:
    """Return the image of an object of all, and which of its objects it is."""
    image = int(np.searchsorted(ends, row, side="right"))
    return images[image], row - int(ends[image]) + len(images[image].boxes)


def _flags(parts: Sequence[Sequence[bool]], counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return the flags of all objects, given those of each image or an empty list."""
    if not any(parts):
        return np.zeros(counts.sum(), np.bool_)
    return np.array(
        [flag for part, count in zip(parts, counts, strict=True) for flag in part or [False] * count]
    )


def _finding(image: DescribedImage, row: int, *, is_empty: bool, is_gone: bool) -> Finding:
    written = image.box(row)
    size = "" if image.size is None else f" of {image.size[1]}×{image.size[0]} px"
    kind: FindingKind = "box-outside"
    if is_empty:
        kind, sentence = "box-empty", f"its box has no area ({written})"
    elif is_gone:
        sentence = f"its box lies outside of the image{size} ({written})"
    else:
        sentence = f"its box reaches over the edge of the image{size} and is cut there ({written})"
    return Finding(kind, image.file, image.subject(row), sentence, is_used=not (is_empty or is_gone))
