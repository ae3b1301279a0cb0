"""Small data sets with boxes for the tests, written in the layouts of the formats."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.data.pictures import encode, noise

WIDTH, HEIGHT = 40, 30


def image(path: Path, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """Write an image file; its pixels depend on its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".png": "PNG"}[path.suffix]
    path.write_bytes(encode(noise(height, width, seed=zlib.crc32(path.name.encode())), kind))
    return path


def voc_xml(
    *objects: tuple[str, Sequence[float | str]],
    extra: str = "",
    size: tuple[int, int] | None = (HEIGHT, WIDTH),
) -> str:
    """Return the XML of an image: class and corners of every object, and what each holds besides."""
    shape = "" if size is None else f"<size><width>{size[1]}</width><height>{size[0]}</height></size>"
    corners = "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>"
    written = "".join(
        f"<object><name>{name}</name>{extra}<bndbox>{corners.format(*box)}</bndbox></object>"
        for name, box in objects
    )
    return f"<annotation><filename>wrong.jpg</filename>{shape}{written}</annotation>"


def voc_year(folder: Path, lists: dict[str, Sequence[str]], xml: dict[str, str] | None = None) -> Path:
    """Write a year of Pascal VOC: the lists of images, and the annotations of each, of which one is usual."""
    usual = voc_xml(("cat", (1, 1, 10, 20)))
    for name, stems in lists.items():
        file = folder / "ImageSets" / "Main" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{stem}\n" for stem in stems))
        for stem in stems:
            image(folder / "JPEGImages" / f"{stem}.jpg")
            annotation = folder / "Annotations" / f"{stem}.xml"
            annotation.parent.mkdir(exist_ok=True)
            annotation.write_text((xml or {}).get(stem, usual))
    return folder


def coco_document(**changed: Any) -> dict[str, Any]:
    """Return a document of COCO with two images, of which one has a cat, and the categories cat and dog."""
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT},
            {"id": 9, "file_name": "b.jpg", "width": WIDTH, "height": HEIGHT},
        ],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 5, "bbox": [1, 2, 10, 20], "area": 150}],
        "categories": [{"id": 5, "name": "dog"}, {"id": 3, "name": "cat"}],
        **changed,
    }


def coco_file(file: Path, document: Any, images: Path | None = None) -> Path:
    """Write a file of annotations, and the images that it lists, beside it or in ``images``."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    if isinstance(document, dict):
        for entry in document.get("images", ()):
            image((images or file.parent) / entry["file_name"])
    return file


def yolo_split(folder: Path, rows: dict[str, str | None], inner: str = "") -> Path:
    """Write ``images/`` and ``labels/`` with the rows of each image; ``None``: it has no file of labels."""
    for stem, text in rows.items():
        image(folder / "images" / inner / f"{stem}.jpg")
        if text is not None:
            labels = folder / "labels" / inner / f"{stem}.txt"
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text(text)
    return folder
