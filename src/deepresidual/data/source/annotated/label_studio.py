"""Label Studio's own JSON, and its JSON-MIN: a list of tasks, each an image with the regions drawn on it.

Numbers are percentages of width and height. Rectangles are boxes, and so is the box around one that is
turned about its upper left corner; polygons and ellipses are masks. Brush strokes are not read: Label Studio
exports them as COCO (*Brush labels to COCO*). Key points and lines have no area and are left out; answers
about the whole image are passed over, and so are predictions and annotations that were cancelled. Of several
annotations of a task the newest counts. A task without any is not annotated; one with an empty annotation
shows no object.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepresidual.data.decode import read_file
from deepresidual.data.formats import is_image_name
from deepresidual.data.source.annotated.described import DescribedImage
from deepresidual.data.source.annotated.findings import Finding
from deepresidual.data.source.annotated.json_file import json_document
from deepresidual.data.source.annotated.listed import read_listed
from deepresidual.data.source.annotated.shapes import Shape, bounds_of, ellipse, turned_rectangle
from deepresidual.data.source.annotated.source import Reading, source_of
from deepresidual.data.source.base import SampleSource
from deepresidual.errors import DataError, kind_of, quoted

_CUT_AS = "export it again as JSON or JSON-MIN"


def open_label_studio(root: Path, files: Sequence[Path]) -> SampleSource:
    """Open images with files of Label Studio.

    Args:
        root: The folder that images and files lie in.
        files: The files.

    Raises:
        DataError: A file is damaged, or says something impossible; the message names it.
    """
    return source_of(read_listed(root, files, _read_file))


def _read_file(file: Path, shown: str, reading: Reading) -> Iterator[tuple[None, DescribedImage]]:
    document = json_document(read_file(file), shown, _CUT_AS)
    tasks = document if isinstance(document, list) else [document]
    newest: dict[str, tuple[str, dict[str, Any], list[Any]]] = {}
    several = 0
    for place, task in enumerate(tasks, start=1):
        if not isinstance(task, dict):
            raise DataError(f"{shown}: task {place} is {kind_of(task)}", expected="an object", remedy=_CUT_AS)
        where = f"{shown}: task {task.get('id', place)}"
        name = _image_name(task.get("data", task), where)
        found = [(when, regions) for when, regions in _annotations(task, where)]
        if not found:
            reading.findings.append(
                Finding("not-annotated", shown, name, "its task has no annotation", is_used=False)
            )
            continue
        when, regions = max(found, key=lambda each: each[0])
        several += len(found) > 1 or name in newest
        if name not in newest or when > newest[name][0]:
            newest[name] = (when, task, regions)
    if several:
        images = "1 image has" if several == 1 else f"{several:,} images have"
        reading.notes.append(f"{images} several annotations in {shown}: the newest of each is used")
    for place, (name, (_, task, regions)) in enumerate(newest.items()):
        yield None, _described(name, shown, task.get("id", place), regions, reading)


def _image_name(data: Any, where: str) -> str:
    """Return what a task has as the file of its image."""
    values = data if isinstance(data, dict) else {}
    names = [
        value
        for _, value in sorted(values.items(), key=lambda item: item[0] not in ("image", "img", "photo"))
        if isinstance(value, str) and is_image_name(value.split("?d=")[-1].partition("?")[0])
    ]
    if not names:
        raise DataError(f"{where} names no image ({quoted(values)})", expected="a file such as photo.jpg")
    return names[0]


def _annotations(task: Mapping[str, Any], where: str) -> Iterator[tuple[str, list[Any]]]:
    """Yield time and regions of each annotation of a task that counts."""
    if (
        "data" not in task
    ):  # JSON-MIN: a task is an annotation, and lists of regions stand in it by their names
        regions = [region for value in task.values() if isinstance(value, list) for region in value]
        yield _when(task), [region for region in regions if isinstance(region, dict)]
        return
    entries = task.get("annotations", task.get("completions", []))
    if not isinstance(entries, list):
        raise DataError(f"{where} has {kind_of(entries)} as annotations", expected="a list", remedy=_CUT_AS)
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("result"), list):
            raise DataError(
                f"{where} has an annotation without a result", expected="a list of regions", remedy=_CUT_AS
            )
        if not entry.get("was_cancelled"):
            yield _when(entry), _regions(entry["result"], where)


def _when(entry: Mapping[str, Any]) -> str:
    # In ISO 8601 the order of texts is that of times.
    return str(entry.get("updated_at") or entry.get("created_at") or "")


def _regions(result: Sequence[Any], where: str) -> list[dict[str, Any]]:
    """Return the regions of an annotation as JSON-MIN has them; of one that stands twice, with its labels.

    Separate tags for shapes and labels write a region once as a shape and once with its labels, under one id.
    """
    regions: dict[object, dict[str, Any]] = {}
    for place, entry in enumerate(result):
        if not isinstance(entry, dict):
            raise DataError(f"{where}: region {place + 1} is {kind_of(entry)}", expected="an object")
        if entry.get("image_rotation"):
            raise DataError(
                f"{where}: the image was turned by {entry['image_rotation']}° to annotate it",
                expected="images as they are",
                remedy="turn the file instead",
            )
        value = entry.get("value")
        if isinstance(value, dict):
            sizes = {name: entry[name] for name in ("original_width", "original_height") if name in entry}
            regions.setdefault(entry.get("id", place), {}).update({**value, **sizes, "id": entry.get("id")})
    return list(regions.values())


def _described(
    name: str, shown: str, identity: Any, regions: Sequence[dict[str, Any]], reading: Reading
) -> DescribedImage:
    size = next((size for region in regions if (size := _size(region, f"{shown}: {name}"))), None)
    image = DescribedImage(
        name,
        shown,
        "left {}, top {}, right {}, bottom {}",
        size,
        identity if isinstance(identity, int | str) else name,
    )
    for number, region in enumerate(regions, start=1):
        with reading.faults.noted():
            _add(image, region, f"region {region.get('id') or number} of {name}", reading)
    return image


def _size(region: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    sides: list[Any] = [region.get(f"original_{side}") for side in ("height", "width")]
    if sides == [None, None]:
        return None
    if not all(type(side) in (int, float) and 0 < side <= 1_000_000 for side in sides):
        raise DataError(
            f"{where} has {quoted(sides[1])} × {quoted(sides[0])} as its size",
            expected="original_width and original_height in pixels",
        )
    return int(sides[0]), int(sides[1])


def _add(image: DescribedImage, region: Mapping[str, Any], called: str, reading: Reading) -> None:
    """Add a region as an object for each of its labels; what is none is noted."""
    if not {"points", "rle", "vertices", "radiusX", "x"} & set(region):
        return  # an answer about the whole image
    labels = [
        label
        for key, value in region.items()
        if key.endswith("labels") and isinstance(value, list)
        for label in value
        if isinstance(label, str) and label.strip()
    ]
    unused = ""
    if "rle" in region:
        unused = "brush strokes are not read: export 'Brush labels to COCO' for them"
    elif "vertices" in region or not {"points", "radiusX", "height"} & set(region):
        unused = "a point or a line has no area"
    elif not labels:
        unused = "it has no label"
    if unused:
        subject = f"{called} ({labels[0]})" if labels else called
        reading.findings.append(Finding("shape-unused", image.file, subject, unused, is_used=False))
        return
    shape = _shape(image, region, f"{image.file}: {called}", called)
    for label in labels:
        image.add(label.strip(), shape.box, number=called, mask=shape.mask)


def _shape(image: DescribedImage, region: Mapping[str, Any], where: str, called: str) -> Shape:
    """Return the shape of a region, in pixels."""
    if image.size is None:
        raise DataError(f"{where} is in percent", expected="original_width and original_height beside it")
    height, width = image.size
    scale = np.array((width, height)) / 100
    if "points" in region:
        points = region["points"]
        if not isinstance(points, list) or len(points) < 3 or not all(map(_is_point, points)):
            raise DataError(f"{where} has the points {quoted(points)}", expected="three or more [x, y]")
        polygon = np.array(points, np.float64) * scale
        return Shape("", called, bounds_of([polygon]), [polygon])
    names = ("x", "y", "radiusX", "radiusY") if "radiusX" in region else ("x", "y", "width", "height")
    x, y, across, down = (_number(region, name, where) for name in names)
    degrees = _number(region, "rotation", where) if region.get("rotation") is not None else 0
    left, top, right, bottom = x * scale[0], y * scale[1], across * scale[0], down * scale[1]
    if "radiusX" in region:
        polygon, box = ellipse((left, top), (right, bottom), degrees)
        return Shape("", called, box, [polygon])
    box = (float(left), float(top), float(left + right), float(top + bottom))
    return Shape("", called, bounds_of([turned_rectangle(box, degrees, box[:2])]) if degrees else box)


def _number(region: Mapping[str, Any], name: str, where: str) -> float:
    value = region.get(name)
    if type(value) not in (int, float):
        raise DataError(f"{where} has {quoted(value)} as {name}", expected="a number")
    return float(value)  # type: ignore[arg-type]  # told by its type


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(type(one) in (int, float) for one in value)
