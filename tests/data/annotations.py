"""Small data sets with boxes for the tests, written in the layouts of the formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.data.pictures import encode, noise

WIDTH, HEIGHT = 40, 30


def image(path: Path, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """Write an image file; its pixels depend on its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".jpg": "JPEG", ".png": "PNG"}[path.suffix]
    path.write_bytes(encode(noise(height, width, seed=sum(path.name.encode())), kind))
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
