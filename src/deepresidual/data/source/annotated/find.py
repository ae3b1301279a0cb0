"""Tell by the names of files and folders whether a folder holds annotations of boxes, and in which format."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, TypeAlias

from deepresidual.data.source.annotated.years import find_years
from deepresidual.data.source.base import SampleSource, canonical_split
from deepresidual.data.source.files import list_folder
from deepresidual.errors import DataError

BoxFormat: TypeAlias = Literal["coco", "voc", "yolo"]

# Folders that annotations are put into; folders of classes have other names.
_FOLDERS = re.compile(r"annotations?|annots?|xmls?|labels?|images?|img|imgs", re.IGNORECASE)


def find_format(folder: Path) -> BoxFormat | None:
    """Return the format of a folder's annotations; ``None``: it has none that are found by looking."""
    if find_years(folder):
        return "voc"
    for place in _places(folder):
        if any(name.casefold().endswith(".xml") for name in list_folder(place).files):
            return "voc"
    return None


def open_annotated(kind: BoxFormat, path: Path) -> SampleSource:
    """Open a data set with boxes.

    Args:
        kind: Its format.
        path: The folder.
    """
    if kind != "voc":
        raise DataError(f"{path}: {kind} is not read yet")
    from deepresidual.data.source.annotated.voc import open_voc

    return open_voc(path)


def _places(folder: Path) -> list[Path]:
    """Return the folders that annotations may lie in: itself, and those below it that are called so."""
    places, waiting = [folder], [(folder, 0)]
    while waiting:
        parent, depth = waiting.pop(0)
        for name in list_folder(parent).folders:
            if canonical_split(name) or _FOLDERS.fullmatch(name):
                places.append(parent / name)
                if depth < 2:
                    waiting.append((parent / name, depth + 1))
    return places
