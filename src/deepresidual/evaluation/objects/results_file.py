"""What a detector found in the images of a split, in a file: written, and read again to be measured.

``.json`` is COCO's format of results: a list of ``image_id``, ``category_id``, ``bbox`` (left, top, width,
height) and ``score``, with the numbers that the data have for images and classes; data without numbers count
images from 0 and classes from 1, in their order. ``.csv``, ``.jsonl`` and ``.parquet`` have a row for each
detection: ``key`` (name of the image), ``label``, ``score`` and the edges ``x0``, ``y0``, ``x1`` and ``y1``.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepresidual.data.objects import Objects
from deepresidual.data.source import SampleSource
from deepresidual.data.source.annotated.split import category_ids_of, image_id_of
from deepresidual.errors import ConfigurationError, DataError, listed, nearest, quoted
from deepresidual.runtime.console import warn
from deepresidual.runtime.files import atomic_file
from deepresidual.runtime.table_file import TABLE_SUFFIXES, Columns, read_columns, readable, table_writer

RESULT_SUFFIXES = (".json", *TABLE_SUFFIXES)

_EDGES = ("x0", "y0", "x1", "y1")
_TYPES = {"key": "string", "label": "string", "score": "float", **dict.fromkeys(_EDGES, "float")}


@dataclass(frozen=True)
class ResultNames:
    """What the data call images and classes.

    Attributes:
        keys: Name of every image.
        image_ids: Number of every image, or another name.
        labels: Name of every class.
        category_ids: Number of every class, or another name; ``None``: the data do not know it.
    """

    keys: Sequence[str]
    image_ids: Sequence[int | str]
    labels: Sequence[str]
    category_ids: Sequence[int | str | None]

    @classmethod
    def of(cls, source: SampleSource, split: str) -> ResultNames:
        """Return the names of a split, with the classes in the order of the data."""
        samples = source.split(split)
        numbers = range(len(samples))
        categories = category_ids_of(samples) or tuple(range(1, len(source.classes) + 1))
        return cls(
            [samples.key(index) for index in numbers],
            [image_id_of(samples, index) for index in numbers],
            source.classes,
            categories,
        )


def require_result_suffix(path: Path, what: str) -> None:
    """Refuse a file of another format.

    Raises:
        ConfigurationError: The name of the file does not end in a known format.
    """
    if path.suffix.casefold() not in RESULT_SUFFIXES:
        raise ConfigurationError(
            f"{what} is {path.name!r}", expected=f"a name in {', '.join(RESULT_SUFFIXES)}"
        )


# -- writing -----------------------------------------------------------------------------------------------


def coco_results(found: Sequence[Objects], names: ResultNames) -> list[dict[str, Any]]:
    """Return what was found in COCO's format of results; classes that the data do not know are left out.

    Args:
        found: What was found in each image; labels are indices into ``names.labels``.
        names: What the data call images and classes.
    """
    rows = []
    for image, objects in zip(names.image_ids, found, strict=True):
        boxes = objects.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        for label, box, score in zip(objects.labels.tolist(), boxes.tolist(), _scores(objects), strict=True):
            if (category := names.category_ids[label]) is not None:
                rows.append({"image_id": image, "category_id": category, "bbox": box, "score": score})
    return rows


def write_results(path: Path, found: Sequence[Objects], names: ResultNames) -> None:
    """Write what was found into a file, whole or not at all.

    Args:
        path: The file; its suffix says the format.
        found: What was found in each image; labels are indices into ``names.labels``.
        names: What the data call images and classes.

    Raises:
        ConfigurationError: The name of the file does not end in a known format.
        RunError: The file cannot be written.
    """
    require_result_suffix(path, "the file for predictions")
    if path.suffix.casefold() == ".json":
        with atomic_file(path) as file:
            file.write(json.dumps(coco_results(found, names), allow_nan=False).encode())
        return
    shown = [readable(name) for name in names.labels]
    columns: Columns = {name: [] for name in _TYPES}
    for key, objects in zip(names.keys, found, strict=True):
        columns["key"] += [readable(key)] * len(objects)
        columns["label"] += [shown[label] for label in objects.labels.tolist()]
        columns["score"] += _scores(objects)
        for name, edge in zip(_EDGES, objects.boxes.T, strict=True):
            columns[name] += _short(edge)
    with table_writer(path, _TYPES) as write:
        write(columns)


def _scores(objects: Objects) -> list[float]:
    return [] if objects.scores is None else _short(objects.scores)


def _short(values: np.ndarray[Any, Any]) -> list[float]:
    """Return float32 numbers with as few digits as tell them apart: 0.3 for 0.30000001192092896."""
    return [float(str(value)) for value in values]


# -- reading -----------------------------------------------------------------------------------------------


def read_results(path: Path, names: ResultNames) -> list[Objects]:
    """Return what a file says was found in every image of a split; nothing in those that it does not name.

    Args:
        path: A file that :func:`write_results` wrote, or another program.
        names: What the data call images and classes.

    Raises:
        ConfigurationError: The name of the file does not end in a known format.
        DataError: The file is missing or damaged, or names an image or a class that the data do not have.
    """
    require_result_suffix(path, "the file of results")
    try:
        rows = _coco_rows(path, names) if path.suffix.casefold() == ".json" else _table_rows(path, names)
        by_image: list[list[tuple[int, float, list[float]]]] = [[] for _ in names.keys]
        for image, label, score, box in rows:
            by_image[image].append((label, score, box))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, csv.Error, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path} is damaged ({reason})", remedy="write it again") from error
    return [
        Objects(
            np.array([box for _, _, box in one], np.float64).reshape(-1, 4).astype(np.float32),
            np.array([label for label, _, _ in one], np.int64),
            scores=np.array([score for _, score, _ in one], np.float32),
        )
        for one in by_image
    ]


_ResultRow = tuple[int, int, float, list[float]]


def _coco_rows(path: Path, names: ResultNames) -> Iterable[_ResultRow]:
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, list):
        raise DataError(
            f"{path} holds no list of results",
            expected='a list of {"image_id", "category_id", "bbox", "score"}',
            remedy="give the file of annotations as DATA, and here what was found"
            if isinstance(document, dict) and "annotations" in document
            else "",
        )
    images = {image: place for place, image in enumerate(names.image_ids)}
    labels = {category: place for place, category in enumerate(names.category_ids) if category is not None}
    for number, row in enumerate(document, start=1):
        where = f"{path}: result {number:,}"
        if not isinstance(row, dict) or not {"image_id", "category_id", "bbox", "score"} <= row.keys():
            raise DataError(f"{where} is {quoted(row)}", expected="image_id, category_id, bbox and score")
        values = [row["bbox"], row["score"]]
        sides = _numbers([*row["bbox"], row["score"]] if isinstance(row["bbox"], list) else values, where)
        if len(sides) != 5:
            raise DataError(f"{where} has the bbox {quoted(row['bbox'])}", expected="four numbers")
        left, top, width, height, score = sides
        place = _place(row["image_id"], images, "image_id", where)
        label = _place(row["category_id"], labels, "category_id", where)
        yield place, label, score, [left, top, left + width, top + height]


def _table_rows(path: Path, names: ResultNames) -> Iterable[_ResultRow]:
    columns = read_columns(path, _TYPES)
    missing = [name for name in _TYPES if name not in columns]
    if missing and any(columns.values()):
        raise DataError(f"{path} has no column {missing[0]!r}", expected=f"the columns {', '.join(_TYPES)}")
    images = {readable(key): place for place, key in enumerate(names.keys)}
    labels = {readable(name): place for place, name in enumerate(names.labels)}
    unknown: dict[str, None] = {}
    for number, row in enumerate(zip(*(columns.get(name, []) for name in _TYPES), strict=True), start=1):
        key, label, *numbers = row
        where = f"{path}: row {number:,}"
        score, *box = _numbers(numbers, where)
        place = _place(key, images, "key", where)
        if label in labels:
            yield place, labels[label], score, box
        else:
            unknown[str(label)] = None
    if len(unknown) and not set(columns["label"]) & labels.keys():
        found = f"{path} has none of the classes of the data, but {listed([*unknown], 5)}"
        raise DataError(found, expected=f"labels among {listed([*labels], 5)}")
    if unknown:
        warn(f"{path} has classes that the data do not have, which are left out: {listed([*unknown], 5)}")


def _numbers(values: Sequence[Any], where: str) -> list[float]:
    """Return cells as numbers; those of CSV are text."""
    wrong = DataError(f"{where} has {quoted(list(values))}", expected="a box and a score in finite numbers")
    try:
        numbers = [float(value) for value in values if not isinstance(value, bool)]
    except (TypeError, ValueError) as error:
        raise wrong from error
    if len(numbers) != len(values) or not all(map(math.isfinite, numbers)):
        raise wrong
    return numbers


def _place(value: Any, places: dict[Any, int], what: str, where: str) -> int:
    known = places.get(value) if isinstance(value, int | str) and not isinstance(value, bool) else None
    if known is None:
        names = [str(name) for name in places]
        near = nearest(str(value), names) or names
        raise DataError(
            f"{where} has the {what} {quoted(value)}, which the data do not have",
            expected=f"one of {listed(near, 5)}",
        )
    return known
