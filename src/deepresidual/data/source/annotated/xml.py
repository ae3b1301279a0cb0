"""Read one file of annotations in the XML of Pascal VOC, which labelImg and others write."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET
from xml.parsers import expat

from deepresidual.data.decode import read_file
from deepresidual.data.source.annotated.described import DescribedImage
from deepresidual.data.source.annotated.findings import Finding
from deepresidual.errors import DataError, quoted

_MAX_BYTES = 64_000_000
_MOST_PX = 1_000_000
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def parse_xml(content: bytes) -> ET.Element:
    """Parse an XML document that has no document type, and so neither entities nor anything to fetch.

    Raises:
        DataError: It is no XML, has a document type, or is larger than 64 MB; the message names no file.
    """
    if len(content) > _MAX_BYTES:
        raise DataError(f"the file has {len(content):,} bytes", expected=f"at most {_MAX_BYTES:,}")
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse_document_type
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise DataError(f"the file is cut off or broken at line {error.lineno}", expected="XML") from error
    # Encodings that expat knows by name only, of several bytes a character.
    except (LookupError, ValueError) as error:
        raise DataError(f"the file is not XML ({error})", expected="XML in UTF-8") from error
    return builder.close()


def file_name_in(root: Path, file: Path) -> str:
    """Return the file name that the annotations of an image have for it; empty: none.

    Raises:
        DataError: They cannot be read; the message names the file.
    """
    with naming(file.relative_to(root).as_posix()):
        return (parse_xml(read_file(file)).findtext("filename") or "").replace("\\", "/").strip()


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the name of a file before the message of an error that is raised within."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error.found}", expected=error.expected, remedy=error.remedy) from error


def _refuse_document_type(*_: object) -> None:
    raise DataError(
        "the file has a document type (<!DOCTYPE)", expected="plain XML, as annotation tools write"
    )


def read_described(root: Path, file: Path, image: Path, findings: list[Finding]) -> DescribedImage:
    """Read the annotations of one image.

    Corners are pixels counted from 1, both inside of the box: its edges are x0 − 1, y0 − 1, x1, y1. A 0, as
    tools write that count from 0, is the edge of the image and a finding.

    Args:
        root: The data set, from which names start.
        file: The XML file.
        image: The image file.
        findings: What is found is added to this list.

    Raises:
        DataError: It cannot be read, or lacks something; the message names file and object.
    """
    name = file.relative_to(root).as_posix()
    with naming(name):
        document = parse_xml(read_file(file))
        key = image.relative_to(root).as_posix()
        described = DescribedImage(
            key, name, "xmin {}, ymin {}, xmax {}, ymax {}", _size(document), image.stem
        )
        for number, element in enumerate(document.findall("object"), start=1):
            _add_object(described, element, number, findings)
    return described


def _size(document: ET.Element) -> tuple[int, int] | None:
    """Return height and width; ``None`` where they are missing or 0, as some tools leave them, or absurd."""
    if document.tag != "annotation":
        raise DataError(f"the file holds <{document.tag}>", expected="<annotation>, as Pascal VOC has it")
    sides = [document.findtext(f"size/{side}", "0").strip() for side in ("height", "width")]
    try:
        height, width = (int(float(side)) for side in sides)
    except (ValueError, OverflowError) as error:
        raise DataError(
            f"its size is {quoted(sides[1])} × {quoted(sides[0])}", expected="whole numbers"
        ) from error
    return (height, width) if 0 < height <= _MOST_PX and 0 < width <= _MOST_PX else None


def _add_object(described: DescribedImage, element: ET.Element, number: int, findings: list[Finding]) -> None:
    class_name = (element.findtext("name") or "").strip()
    if not class_name:
        raise DataError(f"object {number} has no name", expected="<name> with its class")
    subject = f"object {number} ({class_name})"
    box = element.find("bndbox")
    if box is None:
        raise DataError(f"{subject} has no box", expected="<bndbox> with xmin, ymin, xmax and ymax")
    left, top, right, bottom = raw = [_corner(box, corner, subject) for corner in _CORNERS]
    zeros = [corner for corner, value in zip(_CORNERS[:2], raw, strict=False) if value == 0]
    if zeros:
        findings.append(
            Finding(
                "counted-from-0",
                described.file,
                subject,
                f"its {' and '.join(zeros)} is 0, where pixels are counted from 1; the image's edge is meant",
                is_used=True,
            )
        )
    described.classes.append(class_name)
    # By the definition a box of equal corners has one pixel. Tools write it by a slip, and no object is so
    # small: it keeps its corners, and counts as one without area.
    has_area = right > left and bottom > top
    described.boxes.append(
        (left - 1 if left else 0, top - 1 if top else 0, right, bottom)
        if has_area
        else (left, top, right, bottom)
    )
    described.raw.append(raw)
    described.difficult.append(_is_set(element, "difficult"))


def _corner(box: ET.Element, corner: str, subject: str) -> float:
    text = box.findtext(corner)
    if text is None:
        raise DataError(f"the box of {subject} has no {corner}", expected="xmin, ymin, xmax and ymax")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{corner} of {subject} is {quoted(text.strip())}", expected="a number of pixels")
    return value


def _is_set(element: ET.Element, flag: str) -> bool:
    return (element.findtext(flag) or "0").strip().casefold() in {"1", "true", "yes"}
