"""CVAT's own XML, *CVAT for images 1.1*: one file with all images, and the shapes on each.

Rectangles are boxes, and so is the box around a rectangle that is turned; polygons, ellipses and masks are
masks. Shapes of one label and one ``group_id`` are one object, as in CVAT's export to COCO. Points, lines,
cuboids and skeletons are left out, and so are tags of whole images. Written by the description of the format
at https://docs.cvat.ai/docs/other/xml_format/ ; no server of CVAT was at hand to try it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np

from deepresidual.data.decode import read_file
from deepresidual.data.masks import Crop, Polygon, Runs
from deepresidual.data.source.annotated.described import DescribedImage
from deepresidual.data.source.annotated.findings import Finding
from deepresidual.data.source.annotated.listed import read_listed
from deepresidual.data.source.annotated.shapes import (
    Box,
    Shape,
    bounds_of,
    ellipse,
    objects_of_shapes,
    turned_rectangle,
)
from deepresidual.data.source.annotated.source import Reading, source_of
from deepresidual.data.source.annotated.xml import naming, parse_xml
from deepresidual.data.source.base import SampleSource, canonical_split
from deepresidual.errors import DataError, quoted

_WITHOUT_AREA = ("points", "polyline", "cuboid", "skeleton")
_SHAPES = ("box", "polygon", "ellipse", "mask")


def open_cvat(root: Path, files: Sequence[Path]) -> SampleSource:
    """Open images with files of CVAT.

    Args:
        root: The folder that images and files lie in.
        files: The files.

    Raises:
        DataError: A file is damaged, or says something impossible; the message names it.
    """
    return source_of(read_listed(root, files, _read_file))


def _read_file(file: Path, shown: str, reading: Reading) -> Iterator[tuple[str | None, DescribedImage]]:
    with naming(shown):
        document = parse_xml(read_file(file))
    if document.tag != "annotations":
        raise DataError(f"{shown} holds <{document.tag}>", expected="<annotations>, as CVAT writes it")
    if document.find("track") is not None:
        raise DataError(
            f"{shown} is of a video, with <track> instead of <image>",
            expected="'CVAT for images 1.1'",
            remedy="export it as that, or as COCO",
        )
    names = [(label.findtext("name") or "").strip() for label in document.iterfind("meta//labels/label")]
    reading.classes = tuple(dict.fromkeys((*reading.classes, *filter(None, names))))
    for element in document.iterfind("image"):
        name = element.get("name") or ""
        if not name:
            raise DataError(f"{shown}: the image {element.get('id')} has no name", expected='name="…"')
        size = (
            _whole(element, "height", f"{shown}: {name}"),
            _whole(element, "width", f"{shown}: {name}"),
        )
        image = DescribedImage(name, shown, "xtl {}, ytl {}, xbr {}, ybr {}", size, _id(element, name))
        shapes = []
        for number, part in enumerate((each for each in element if each.tag != "tag"), start=1):
            with reading.faults.noted():
                if shape := _shape(part, number, image, names, reading):
                    shapes.append(shape)
        for shape in objects_of_shapes(shapes):
            image.add(shape.label, shape.box, number=shape.number, mask=shape.mask)
        yield canonical_split(element.get("subset") or ""), image


def _id(element: ET.Element, name: str) -> int | str:
    text = element.get("id") or ""
    return int(text) if text.isdecimal() and len(text) < 16 else name


def _shape(
    part: ET.Element, number: int, image: DescribedImage, names: Sequence[str], reading: Reading
) -> Shape | None:
    """Return a shape; ``None`` of one without area, which is noted."""
    label = (part.get("label") or "").strip()
    called = f"{part.tag} {number} of {image.key}"
    where = f"{image.file}: {called}"
    if not label:
        raise DataError(f"{where} has no label", expected='label="…"')
    if names and label not in names:
        raise DataError(
            f"{where} has the label {quoted(label)}",
            expected=f"one of {', '.join(names[:8])}, as <labels> has them",
            kind="unknown-category",
        )
    if part.tag in _WITHOUT_AREA:
        sentence = f"a {part.tag} is no box and has no mask"
        reading.findings.append(
            Finding("shape-unused", image.file, f"{called} ({label})", sentence, is_used=False)
        )
        return None
    mask: list[Polygon] | Runs | None = None
    match part.tag:
        case "box":
            left, top, right, bottom = (_number(part, side, where) for side in ("xtl", "ytl", "xbr", "ybr"))
            box: Box = (left, top, right, bottom)
            if degrees := _number(part, "rotation", where, 0):
                centre = ((left + right) / 2, (top + bottom) / 2)
                box = bounds_of([turned_rectangle(box, degrees, centre)])
        case "polygon":
            mask = [_points(part, where)]
            box = bounds_of(mask)
        case "ellipse":
            cx, cy, rx, ry = (_number(part, side, where) for side in ("cx", "cy", "rx", "ry"))
            polygon, box = ellipse((cx, cy), (rx, ry), _number(part, "rotation", where, 0))
            mask = [polygon]
        case "mask":
            mask = _drawn(part, image.size or (0, 0), where)
            box = mask.crop().box
        case _:
            raise DataError(
                f"{where} is a <{part.tag}>", expected=f"one of {', '.join((*_SHAPES, *_WITHOUT_AREA))}"
            )
    group = part.get("group_id") or None
    return Shape(label, called, box, mask, None if group == "0" else group)


def _drawn(part: ET.Element, size: tuple[int, int], where: str) -> Runs:
    """Return a mask of runs, row by row inside of its box, beginning with those outside of the mask."""
    left, top, width, height = (_whole(part, side, where) for side in ("left", "top", "width", "height"))
    words = (part.get("rle") or "").replace(",", " ").split()
    counts = [int(word) for word in words if word.isdecimal() and len(word) < 10]
    if len(counts) != len(words) or sum(counts) != width * height:
        raise DataError(
            f"{where} has runs of {sum(counts):,} pixels in all, and its box of {width}×{height} has "
            f"{width * height:,}",
            expected="as many",
            kind="mask-differs",
        )
    if left + width > size[1] or top + height > size[0]:
        raise DataError(
            f"{where} has a mask of {width}×{height} px at {left}, {top}, and its image has "
            f"{size[1]}×{size[0]}",
            expected="a mask inside of the image",
            kind="mask-differs",
        )
    inside = np.arange(len(counts)) % 2
    return Runs.of_crop(
        Crop(left, top, np.repeat(inside, counts).astype(np.uint8).reshape(height, width)), size
    )


def _points(part: ET.Element, where: str) -> Polygon:
    text = part.get("points") or ""
    try:
        points = np.array([[float(one) for one in pair.split(",")] for pair in text.split(";")], np.float64)
    except ValueError:
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
        raise DataError(f"{where} has the points {quoted(text)}", expected="three or more as x,y;x,y;x,y")
    return points


def _number(element: ET.Element, name: str, where: str, default: float | None = None) -> float:
    text = element.get(name)
    if text is None and default is not None:
        return default
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where} has {quoted(text)} as {name}", expected="a number of pixels")
    return value


def _whole(element: ET.Element, name: str, where: str) -> int:
    text = element.get(name) or ""
    if not text.isdecimal() or len(text) > 7:
        raise DataError(f"{where} has {quoted(element.get(name))} as {name}", expected="a whole number")
    return int(text)
