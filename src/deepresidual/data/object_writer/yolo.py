"""Write YOLO's layout: ``images/SPLIT``, ``labels/SPLIT`` with a text file an image, and ``data.yaml``.

A row is a box as fractions of the image with nine decimals, which is a thousandth of a pixel in any image; or
the corners of a polygon, where the mask of an object is one or is drawn by one. An image without objects has
an empty file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import yaml

from deepresidual.data.masks import Polygon
from deepresidual.data.object_writer.image import WrittenImage
from deepresidual.data.object_writer.outline import outline_of
from deepresidual.data.objects import Objects
from deepresidual.runtime.files import write_text


class YoloWriter:
    """Write a data set in the layout of YOLO.

    Args:
        folder: The folder.
        classes: Names of the classes.
    """

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        self._folder, self._classes = folder, classes
        self._splits: list[str] = []

    def image_folder(self, split: str | None) -> Path:
        """Return the folder of the images of a split."""
        return self._folder / "images" / (split or "")

    def add(self, image: WrittenImage) -> None:
        """Write the file of an image."""
        if image.split and image.split not in self._splits:
            self._splits.append(image.split)
        folder = self._folder / "labels" / (image.split or "")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{Path(image.name).stem}.txt").write_text("".join(_rows(image)), "utf-8")

    def finish(self) -> None:
        """Write ``data.yaml``."""
        places = {split: f"images/{split}" for split in self._splits}
        document = {**places, "names": dict(enumerate(self._classes))}
        write_text(self._folder / "data.yaml", yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def one_polygon(objects: Objects, row: int) -> Polygon | None:
    """Return the polygon that draws the mask of an object; ``None`` where it has no mask, or none does."""
    masks = objects.masks
    if masks is None or not masks.known[row]:
        return None
    polygons = masks.polygons(row)
    return polygons[0] if len(polygons) == 1 else outline_of(masks.runs(row))


def _rows(image: WrittenImage) -> Iterator[str]:
    height, width = image.size
    objects = image.objects
    for row, label in enumerate(objects.labels.tolist()):
        if objects.crowd[row]:
            continue
        if (polygon := one_polygon(objects, row)) is not None:
            # Programs refuse files in which a corner is outside of the image.
            numbers = np.clip(polygon / (width, height), 0, 1).reshape(-1)
        else:
            left, top, right, bottom = objects.boxes[row].astype(np.float64)
            numbers = np.array(
                [
                    (left + right) / 2 / width,
                    (top + bottom) / 2 / height,
                    (right - left) / width,
                    (bottom - top) / height,
                ]
            )
        yield f"{label} {' '.join(map(_text, numbers.tolist()))}\n"


def _text(number: float) -> str:
    return f"{number:.9f}".rstrip("0").rstrip(".")
