"""Create ML: JSON lists of images, each with the boxes on it, as labelImg and Roboflow write them.

A box is its centre, width and height in pixels with continuous edges. The format has no size of the image, so
boxes are of the upright one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from deepresidual.data.decode import read_file
from deepresidual.data.source.annotated.described import DescribedImage
from deepresidual.data.source.annotated.json_file import json_document
from deepresidual.data.source.annotated.listed import read_listed
from deepresidual.data.source.annotated.source import Reading, source_of
from deepresidual.data.source.base import SampleSource
from deepresidual.errors import DataError, kind_of, quoted

_SIDES = ("x", "y", "width", "height")


def open_createml(root: Path, files: Sequence[Path]) -> SampleSource:
    """Open images with files of Create ML.

    Args:
        root: The folder that images and files lie in.
        files: The files.

    Raises:
        DataError: A file is damaged, or says something impossible; the message names it.
    """
    return source_of(read_listed(root, files, _read_file))


def _read_file(file: Path, shown: str, reading: Reading) -> Iterator[tuple[None, DescribedImage]]:
    document = json_document(read_file(file), shown, "export it again")
    if not isinstance(document, list):
        raise DataError(f"{shown} holds {kind_of(document)}", expected="a list of images, as of Create ML")
    for place, entry in enumerate(document, start=1):
        where = f"{shown}: image {place}"
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str) or not entry["image"]:
            raise DataError(f"{where} has no image", expected="the name of its file as 'image'")
        boxes = entry.get("annotations")
        if not isinstance(boxes, list):
            raise DataError(f"{where} has {quoted(boxes)} as annotations", expected="a list of boxes")
        image = DescribedImage(entry["image"], shown, "x {}, y {}, width {}, height {}", image_id=place)
        for number, box in enumerate(boxes, start=1):
            with reading.faults.noted():
                _add(image, box, f"{shown}: box {number} of {entry['image']}", number)
        yield None, image


def _add(image: DescribedImage, entry: Any, where: str, number: int) -> None:
    label = entry.get("label") if isinstance(entry, dict) else None
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"{where} has {quoted(label)} as label", expected="the name of a class")
    place = entry.get("coordinates")
    sides: list[Any] = [place.get(side) for side in _SIDES] if isinstance(place, dict) else []
    if not sides or not all(type(side) in (int, float) for side in sides):
        raise DataError(
            f"{where} has the coordinates {quoted(place)}", expected="numbers as x, y, width and height"
        )
    x, y, width, height = sides
    image.add(
        label.strip(),
        (x - width / 2, y - height / 2, x + width / 2, y + height / 2),
        raw=sides,
        number=f"box {number} of {image.key}",
    )
