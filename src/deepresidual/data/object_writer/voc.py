"""Write Pascal VOC's layout: ``Annotations/``, ``JPEGImages/``, and a list of images for each split.

Corners are pixels counted from 1, both inside of the box: edges are rounded to whole pixels, since many
programs read nothing else. A box of one pixel is widened to two, since equal corners are taken for a slip.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.object_writer.image import WrittenImage
from deepresidual.errors import DataError

_LEAST_PX = 2
# What XML 1.0 has no place for (section 2.2).
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class VocWriter:
    """Write a data set in the layout of Pascal VOC.

    Args:
        folder: The folder.
        classes: Names of the classes.

    Raises:
        DataError: The name of a class cannot be written as XML.
    """

    def __init__(self, folder: Path, classes: Sequence[str]) -> None:
        if bad := next((name for name in classes if _NOT_IN_XML.search(name)), None):
            raise DataError(
                f"the class {bad!r} has a character that XML has no place for", remedy="rename it"
            )
        self._folder, self._classes = folder, classes
        self._lists: dict[str, list[str]] = {}
        (folder / "Annotations").mkdir()

    def image_folder(self, split: str | None) -> Path:  # noqa: ARG002  # all lie in one
        """Return the folder of the images."""
        return self._folder / "JPEGImages"

    def add(self, image: WrittenImage) -> None:
        """Write the file of an image."""
        stem = Path(image.name).stem
        if image.split:
            self._lists.setdefault(image.split, []).append(stem)
        tree = self._tree(image)
        ET.indent(tree)
        text = ET.tostring(tree, encoding="unicode") + "\n"
        (self._folder / "Annotations" / f"{stem}.xml").write_text(text, "utf-8")

    def finish(self) -> None:
        """Write the lists."""
        for split, stems in self._lists.items():
            folder = self._folder / "ImageSets" / "Main"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems), "utf-8")

    def _tree(self, image: WrittenImage) -> ET.Element:
        root = ET.Element("annotation")
        _add(root, "folder", "JPEGImages")
        _add(root, "filename", image.name)
        size = ET.SubElement(root, "size")
        height, width = image.size
        for name, value in (("width", width), ("height", height), ("depth", 3)):
            _add(size, name, value)
        _add(root, "segmented", 0)
        objects = image.objects
        for row, corners in enumerate(whole_pixels(objects.boxes, image.size).tolist()):
            entry = ET.SubElement(root, "object")
            _add(entry, "name", self._classes[int(objects.labels[row])])
            _add(entry, "pose", "Unspecified")
            _add(entry, "truncated", 0)
            # What is found in a crowd is neither right nor wrong: so it is of what need not be found.
            _add(entry, "difficult", int(objects.difficult[row] or objects.crowd[row]))
            box = ET.SubElement(entry, "bndbox")
            left, top, right, bottom = corners
            for name, value in (("xmin", left + 1), ("ymin", top + 1), ("xmax", right), ("ymax", bottom)):
                _add(box, name, value)
        return root


def _add(parent: ET.Element, name: str, value: object) -> None:
    ET.SubElement(parent, name).text = str(value)


def whole_pixels(boxes: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.int64]:
    """Return the edges of boxes as whole pixels, at least two apart where the image has two.

    Args:
        boxes: ``(n, 4)``: left, top, right, bottom.
        size: Height and width of the image.
    """
    limits = np.array(size[::-1])
    edges = _rounded(boxes)
    first = np.minimum(edges[:, :2], np.maximum(limits - _LEAST_PX, 0))
    last = np.minimum(np.maximum(edges[:, 2:], first + _LEAST_PX), limits)
    return np.concatenate([first, last], axis=1)


def is_narrow(boxes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which boxes, ``(n, 4)``, have fewer than two whole pixels in width or height."""
    edges = _rounded(boxes)
    narrow: NDArray[np.bool_] = np.any(edges[:, 2:] - edges[:, :2] < _LEAST_PX, axis=1)
    return narrow


def _rounded(boxes: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.floor(boxes.astype(np.float64) + 0.5).astype(np.int64)
