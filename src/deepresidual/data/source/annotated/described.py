"""Images with objects as a format describes them, and the annotations that they become."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.masks import Masks, Polygon, Runs
from deepresidual.data.objects import Objects, areas_of
from deepresidual.data.source.annotated.findings import Finding, FindingKind
from deepresidual.data.source.annotated.shapes import area_of
from deepresidual.data.source.annotated.split import Annotations
from deepresidual.errors import DataError

# Tools round to half a pixel or to a few digits of a fraction; what reaches over an edge by less is no error.
_ROUNDING_PX, _ROUNDING_SHARE = 0.5, 0.002

_MOST_PX = 1e9  # float32 holds it, and the product of two sides


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
        areas: Area of each, ``None`` for that of the mask or the box.
        masks: Mask of each, ``None`` where it has none; empty: none has one. Corners of polygons are counted
            as boxes are.
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
    masks: list[Sequence[Polygon] | Runs | None] = field(default_factory=list)

    def add(
        self,
        class_name: str,
        box: tuple[float, float, float, float],
        *,
        raw: Sequence[float] | None = None,
        number: str = "",
        mask: Sequence[Polygon] | Runs | None = None,
    ) -> None:
        """Add an object.

        Args:
            class_name: Its class.
            box: Left, top, right and bottom.
            raw: The four numbers that the file has. Default: those of the box.
            number: What messages call it. Default: its place.
            mask: Its mask.
        """
        self.classes.append(class_name)
        self.boxes.append(box)
        self.raw.append(box if raw is None else raw)
        self.numbers.append(number or f"object {len(self.boxes)}")
        self.masks.append(mask)
        self.areas.append(None if mask is None else mask.area if isinstance(mask, Runs) else area_of(mask))

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
    counts = np.array([len(image.boxes) for image in images])
    boxes, areas = _boxes_and_areas(images)
    cut = np.clip(boxes, *_limits(images, counts, relative=relative))
    outside = np.abs(cut - boxes).max(axis=1) > (_ROUNDING_SHARE if relative else _ROUNDING_PX)
    empty, gone = _has_no_area(boxes), _has_no_area(cut)
    rows = np.flatnonzero(gone | outside).tolist()
    findings += [
        _finding(image, within, is_empty=bool(empty[row]), is_gone=bool(gone[row]))
        for row, (image, within) in zip(rows, _places(images, rows), strict=True)
    ]
    objects = Objects(
        boxes.astype(np.float32),
        np.array([numbers[name] for image in images for name in image.classes], np.int64),
        np.array([flag for image in images for flag in image.crowd or [False] * len(image.boxes)], np.bool_),
        np.array(
            [flag for image in images for flag in image.difficult or [False] * len(image.boxes)], np.bool_
        ),
        np.where(np.isnan(areas), areas_of(cut.astype(np.float32)), areas).astype(np.float32),
        masks=_masks(images),
    )
    image_of_object = np.repeat(np.arange(len(images)), counts)
    ids = [image.image_id for image in images if image.image_id is not None]
    return Annotations(
        [image.key for image in images],
        objects[~gone],
        np.bincount(image_of_object[~gone], minlength=len(images)).tolist(),
        [image.size for image in images],
        ids if len(ids) == len(images) else (),
        relative,
        np.bincount(image_of_object[gone], minlength=len(images)).tolist(),
    )


def _masks(images: Sequence[DescribedImage]) -> Masks | None:
    """Return the masks of all objects; ``None`` where no image has any."""
    if all(mask is None for image in images for mask in image.masks):
        return None
    return Masks.of([mask for image in images for mask in image.masks or [None] * len(image.boxes)])


def _boxes_and_areas(images: Sequence[DescribedImage]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the boxes of all objects, ``(n, 4)``, and their areas, NaN where it is that of the box.

    Raises:
        DataError: A number is beyond any image; the message names the object.
    """
    boxes = np.array([box for image in images for box in image.boxes], np.float64).reshape(-1, 4)
    areas = [area for image in images for area in image.areas or [None] * len(image.boxes)]
    areas_px = np.array(areas, np.float64)
    absurd = (np.abs(boxes) > _MOST_PX).any(axis=1) | (areas_px < 0) | (areas_px > _MOST_PX**2)
    for image, row in _places(images, np.flatnonzero(absurd).tolist()):
        raise DataError(
            f"{image.file}: {image.subject(row)} has a box or an area that no image has ({image.box(row)})"
        )
    return boxes, areas_px


def _limits(
    images: Sequence[DescribedImage], counts: NDArray[np.int64], *, relative: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and highest numbers of the box of every object; without a size there are none."""
    sides = np.array([(1.0, 1.0) if relative else image.size or (np.inf, np.inf) for image in images])
    highest = np.repeat(sides[:, [1, 0, 1, 0]], counts, axis=0)
    return np.where(np.isinf(highest), -np.inf, 0), highest


def _has_no_area(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])


def _places(images: Sequence[DescribedImage], rows: Iterable[int]) -> Iterator[tuple[DescribedImage, int]]:
    """Yield the image of each of some objects of all, and which of its objects it is."""
    ends = list(itertools.accumulate(len(image.boxes) for image in images))
    for row in rows:
        place = bisect.bisect_right(ends, row)
        yield images[place], row - ends[place] + len(images[place].boxes)


def _finding(image: DescribedImage, row: int, *, is_empty: bool, is_gone: bool) -> Finding:
    written = image.box(row)
    size = "" if image.size is None else f" of {image.size[1]}×{image.size[0]} px"
    kind: FindingKind = "box-outside"
    if is_empty:
        kind, sentence = "box-empty", f"{_why_empty(image.boxes[row])} ({written})"
    elif is_gone:
        sentence = f"its box lies outside of the image{size} ({written})"
    else:
        sentence = f"its box reaches over the edge of the image{size} and is cut there ({written})"
    return Finding(kind, image.file, image.subject(row), sentence, is_used=not (is_empty or is_gone))


def _why_empty(box: tuple[float, float, float, float]) -> str:
    left, top, right, bottom = box
    exchanged = [
        words
        for words, first, last in (("left and right", left, right), ("top and bottom", top, bottom))
        if first > last
    ]
    return f"its {' and its '.join(exchanged)} are exchanged" if exchanged else "its box has no area"
