"""LabelMe: a JSON file for each image, with the shapes that were drawn on it.

A rectangle is a box, and so is the box around an oriented rectangle; polygons, circles and the masks of its
assistant are masks. Shapes of one label that have the same ``group_id`` are one object, as in LabelMe's own
export to COCO. Points and lines have no area and are left out. Copies of the image that the files hold
(``imageData``) are not read.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from deepresidual.data.decode import decode, read_file
from deepresidual.data.masks import Crop, Polygon, Runs
from deepresidual.data.source.annotated.beside import ImagesBeside, files_below, read_beside
from deepresidual.data.source.annotated.described import DescribedImage
from deepresidual.data.source.annotated.findings import Finding
from deepresidual.data.source.annotated.json_file import json_document
from deepresidual.data.source.annotated.shapes import Box, Shape, bounds_of, ellipse, objects_of_shapes
from deepresidual.data.source.annotated.source import Reading, source_of
from deepresidual.data.source.base import SampleSource
from deepresidual.errors import DataError, kind_of, quoted

_FIELDS = (b'"shapes"', b'"imagePath"')
# A photo as text, often longer than all else: it becomes nothing before the file is parsed.
_IMAGE_DATA = re.compile(rb'"imageData"\s*:\s*"[A-Za-z0-9+/=]*"')

# Number of points of a shape, from and to; of those that are left out any.
_NUM_POINTS = {
    "rectangle": (2, 2),
    "oriented_rectangle": (4, 4),
    "circle": (2, 2),
    "polygon": (3, None),
    "mask": (2, 2),
}
_WITHOUT_AREA = ("point", "points", "line", "linestrip")


def open_labelme(path: Path) -> SampleSource:
    """Open a folder of images with LabelMe's files.

    Args:
        path: The folder, or one of its files.

    Raises:
        DataError: A file is damaged, or says something impossible; the message names it.
    """
    root = path if path.is_dir() else path.parent
    files = [file for file in files_below(root, ".json") if is_labelme(file)]
    if not files:
        raise DataError(f"{root} has no file of LabelMe", expected="a JSON file with 'shapes' for each image")
    return source_of(read_beside(root, files, _read_file, "file of LabelMe"))


def is_labelme(file: Path) -> bool:
    """Return whether a JSON file has the fields of LabelMe."""
    content = read_file(file)
    return all(field in content for field in _FIELDS)


def _read_file(file: Path, images: ImagesBeside, reading: Reading) -> DescribedImage:
    shown = file.relative_to(reading.root).as_posix()
    document = json_document(_IMAGE_DATA.sub(b'"imageData":null', read_file(file)), shown, "save it again")
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        raise DataError(f"{shown} has no list of shapes", expected="'shapes', as LabelMe writes them")
    name = document.get("imagePath")
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{shown} has {quoted(name)} as imagePath", expected="the path of its image")
    image = images.of(file, name, file.name)
    described = DescribedImage(
        image.relative_to(reading.root).as_posix(),
        shown,
        "left {}, top {}, right {}, bottom {}",
        _size(document, shown),
        image.stem,
    )
    shapes = []
    for number, entry in enumerate(document["shapes"], start=1):
        with reading.faults.noted():
            drawn = _Drawn(entry, number, shown, described.size)
            if drawn.unused:
                reading.findings.append(
                    Finding("shape-unused", shown, drawn.subject, drawn.unused, is_used=False)
                )
            else:
                shapes.append(Shape(drawn.label, f"shape {number}", drawn.box, drawn.mask, drawn.group))
    for shape in objects_of_shapes(shapes):
        described.add(shape.label, shape.box, number=shape.number, mask=shape.mask)
    return described


def _size(document: dict[str, Any], shown: str) -> tuple[int, int] | None:
    sides: list[Any] = [document.get(side) for side in ("imageHeight", "imageWidth")]
    if None in sides:
        return None
    if not all(type(side) is int and 0 < side <= 1_000_000 for side in sides):
        raise DataError(
            f"{shown} has {quoted(sides[1])} × {quoted(sides[0])} as the size of its image",
            expected="whole numbers of pixels",
        )
    return sides[0], sides[1]


class _Drawn:
    """A shape of a file.

    Args:
        entry: What stands in the file.
        number: Its place in it, from 1.
        file: Name of the file.
        size: Height and width that the file gives the image.

    Attributes:
        label: Its class.
        group: Its ``group_id``.
        box: Left, top, right and bottom.
        mask: Polygons or runs; ``None`` of a rectangle.
        unused: Why it is left out; empty: it is not.

    Raises:
        DataError: It cannot be used; the message names file and shape.
    """

    def __init__(self, entry: Any, number: int, file: str, size: tuple[int, int] | None) -> None:
        where = f"{file}: shape {number}"
        if not isinstance(entry, dict):
            raise DataError(f"{where} is {kind_of(entry)}", expected="an object")
        label = entry.get("label")
        if not isinstance(label, str) or not label.strip():
            raise DataError(f"{where} has {quoted(label)} as label", expected="the name of a class")
        self.label, self.group = label.strip(), entry.get("group_id")
        self.subject, self.unused = f"shape {number} ({self.label})", ""
        self._where = f"{file}: {self.subject}"
        self.box: Box = (0, 0, 0, 0)
        self.mask: list[Polygon] | Runs | None = None
        kind = entry.get("shape_type") or "polygon"  # version 3 had no other
        if kind in _WITHOUT_AREA:
            self.unused = f"a {kind} has no area"
            return
        if kind not in _NUM_POINTS:
            raise DataError(
                f"{self._where} has the shape_type {quoted(kind)}",
                expected=f"one of {', '.join((*_NUM_POINTS, *_WITHOUT_AREA))}",
            )
        points = self._points(entry.get("points"), kind)
        match kind:
            case "circle":
                (across, down), rim = points.tolist()
                radius = math.dist((across, down), rim)
                polygon, self.box = ellipse((across, down), (radius, radius))
                self.mask = [polygon]
            case "polygon":
                self.box, self.mask = bounds_of([points]), [points]
            case "mask":
                self.mask = self._drawn(entry.get("mask"), points, size)
                self.box = self.mask.crop().box
            case _:
                self.box = bounds_of([points])

    def _points(self, value: Any, kind: str) -> Polygon:
        if not isinstance(value, list) or not all(
            isinstance(point, list) and len(point) == 2 and all(type(one) in (int, float) for one in point)
            for point in value
        ):
            raise DataError(f"{self._where} has the points {quoted(value)}", expected="a list of [x, y]")
        least, most = _NUM_POINTS[kind]
        if len(value) < least or (most and len(value) > most):
            raise DataError(
                f"{self._where} is a {kind} of {len(value)} points",
                expected=f"{least}" if most else f"{least} or more",
            )
        return np.array(value, np.float64)

    def _drawn(self, value: Any, points: Polygon, size: tuple[int, int] | None) -> Runs:
        """Return the mask of a picture that lies in the image where the points say."""
        if size is None:
            raise DataError(
                f"{self._where} is a mask, and the file does not say how large its image is",
                expected="imageHeight and imageWidth",
            )
        try:
            picture = decode(base64.b64decode(value, validate=True))[:, :, 0]
        except (TypeError, ValueError, binascii.Error, DataError) as error:
            raise DataError(
                f"{self._where} has a mask that cannot be read", expected="a PNG in base64"
            ) from error
        left, top = points.min(axis=0).astype(int).tolist()
        height, width = picture.shape
        if left < 0 or top < 0 or left + width > size[1] or top + height > size[0]:
            raise DataError(
                f"{self._where} has a mask of {width}×{height} px at {left}, {top}, and its image has "
                f"{size[1]}×{size[0]}",
                expected="a mask inside of the image",
                kind="mask-differs",
            )
        return Runs.of_crop(Crop(left, top, (picture > 0).astype(np.uint8)), size)
