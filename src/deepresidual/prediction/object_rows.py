"""Rows of found objects: as columns of a file, as cells of CSV, and as COCO's results."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from deepresidual.data.masks import RUNS_TYPES
from deepresidual.runtime.table_file import readable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepresidual.backends.detected import FileDetected
    from deepresidual.runtime.table_file import Columns, ColumnTypes

BOX = ("x0", "y0", "x1", "y1")
"""Left, top, right and bottom of a box, in pixels of the upright image."""

TYPES = {
    "path": "string",
    "label": "string",
    "score": "double",
    **dict.fromkeys(BOX, "double"),
    "error": "string",
}
"""Columns of CSV and parquet, and their types by Arrow's names."""

MASK_TYPES: ColumnTypes = {"mask": RUNS_TYPES}
"""The column that parquet has behind these where the model finds masks; CSV has none."""


def cells(result: FileDetected) -> list[list[str | float | None]]:
    """Return the rows of one file: one an object; one without a label where nothing was found."""
    if result.detected is None or not len(result.detected):
        return [[result.path, None, None, *(None for _ in BOX), result.error]]
    return [[result.path, row["label"], row["score"], *row["box"], ""] for row in _objects(result)]


def columns(result: FileDetected) -> Columns:
    """Return the rows of one file as columns of CSV or parquet, without masks."""
    rows = [[readable(cell) if isinstance(cell, str) else cell for cell in row] for row in cells(result)]
    return dict(zip(TYPES, map(list, zip(*rows, strict=True)), strict=True))


def columns_with_masks(result: FileDetected) -> Columns:
    """Return the rows of one file as columns of parquet; a mask is a document of :data:`RUNS_TYPES`."""
    masks = [row.get("mask") for row in _objects(result)]
    return {**columns(result), "mask": masks or [None]}


def line(result: FileDetected) -> Columns:
    """Return one file as a row of JSON lines: its size and a list of its objects."""
    document = result.to_dict()
    return {
        "path": [readable(result.path)],
        **{name: [document.get(name)] for name in ("width", "height", "objects")},
        "error": [readable(result.error)],
    }


def coco_results(results: Sequence[FileDetected]) -> list[dict[str, Any]]:
    """Return COCO's results: a list of objects, each with image_id, category_id, bbox and score.

    One that has a mask has it as ``segmentation``, runs of pixels as text.

    An image's id is the number that its file is called by, as COCO's files are; where a file is not called
    by a number, or two by the same one, it is the place in ``results``, from 1. ``file_name`` tells which
    image it is. Categories are counted from 1 in the order of the model's classes; ``category`` is the name.
    """
    names = [PurePath(result.path).stem for result in results]
    ids = [int(name) for name in names if name.isascii() and name.isdecimal()]
    if len(set(ids)) < len(results):
        ids = list(range(1, len(results) + 1))
    found: list[dict[str, Any]] = []
    for image_id, result in zip(ids, results, strict=True):
        if result.detected is None:
            continue
        for label, row in zip(result.detected.objects.labels.tolist(), _objects(result), strict=True):
            x0, y0, x1, y1 = row["box"]
            found.append(
                {
                    "image_id": image_id,
                    "category_id": label + 1,
                    "bbox": [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)],
                    "score": row["score"],
                    **({"segmentation": row["mask"]} if "mask" in row else {}),
                    "file_name": readable(PurePath(result.path).name),
                    "category": row["label"],
                }
            )
    return found


def _objects(result: FileDetected) -> list[dict[str, Any]]:
    objects: list[dict[str, Any]] = result.to_dict().get("objects", [])
    return objects
