"""What a detector found in the images of a split, in a file: written, and read again to be measured.

``.json`` is COCO's format of results: a list of ``image_id``, ``category_id``, ``bbox`` (left, top, width,
height) and ``score``, with the numbers that the data have for images and classes; data without numbers count
images from 0 and classes from 1, in their order. ``.csv``, ``.jsonl`` and ``.parquet`` have a row for each
detection: ``key`` (name of the image), ``label``, ``score`` and the edges ``x0``, ``y0``, ``x1`` and ``y1``.

A mask is COCO's runs of pixels, ``segmentation`` of a result and ``mask`` of a row; CSV has none. Other
programs may write polygons, and results that have a mask and no box.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from deepresidual.data.masks import RUNS_TYPES, Masks, Polygon, Runs
from deepresidual.data.objects import Objects
from deepresidual.data.source import SampleSource
from deepresidual.data.source.annotated.segmentation import read_segmentation
from deepresidual.data.source.annotated.split import category_ids_of, image_id_of, size_of_image
from deepresidual.errors import ConfigurationError, DataError, listed, nearest, quoted
from deepresidual.runtime.console import warn
from deepresidual.runtime.files import atomic_file
from deepresidual.runtime.table_file import (
    TABLE_SUFFIXES,
    Columns,
    ColumnTypes,
    read_columns,
    readable,
    table_writer,
)

RESULT_SUFFIXES = (".json", *TABLE_SUFFIXES)

_EDGES = ("x0", "y0", "x1", "y1")
_TYPES = {"key": "string", "label": "string", "score": "float", **dict.fromkeys(_EDGES, "float")}
_MASK = "mask"


@dataclass(frozen=True)
class ResultNames:
    """What the data call images and classes.

    Attributes:
        keys: Name of every image.
        image_ids: Number of every image, or another name.
        labels: Name of every class.
        category_ids: Number of every class, or another name; ``None``: the data do not know it.
        size_of: Returns height and width of the upright image of a place.
    """

    keys: Sequence[str]
    image_ids: Sequence[int | str]
    labels: Sequence[str]
    category_ids: Sequence[int | str | None]
    size_of: Callable[[int], tuple[int, int]]

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
            partial(size_of_image, samples),
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
        columns = (objects.labels.tolist(), boxes.tolist(), _scores(objects), _masks(objects))
        for label, box, score, mask in zip(*columns, strict=True):
            if (category := names.category_ids[label]) is not None:
                row = {"image_id": image, "category_id": category, "bbox": box, "score": score}
                rows.append(row if mask is None else {**row, "segmentation": mask})
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
    types: ColumnTypes = _TYPES
    if path.suffix.casefold() != ".csv" and any(objects.masks is not None for objects in found):
        types = {**_TYPES, _MASK: RUNS_TYPES}
    columns: Columns = {name: [] for name in types}
    for key, objects in zip(names.keys, found, strict=True):
        columns["key"] += [readable(key)] * len(objects)
        columns["label"] += [shown[label] for label in objects.labels.tolist()]
        columns["score"] += _scores(objects)
        for name, edge in zip(_EDGES, objects.boxes.T, strict=True):
            columns[name] += _short(edge)
        if _MASK in columns:
            columns[_MASK] += _masks(objects)
    with table_writer(path, types) as write:
        write(columns)


def _masks(objects: Objects) -> list[dict[str, Any] | None]:
    """Return COCO's runs of the mask of each object, ``None`` of one that has none."""
    masks = objects.masks
    if masks is None:
        return [None] * len(objects)
    return [masks.runs(row).to_dict() if known else None for row, known in enumerate(masks.known)]


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
        by_image: list[list[_Result]] = [[] for _ in names.keys]
        for row in rows:
            by_image[row.image].append(row)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from error
    except (ValueError, csv.Error, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path} is damaged ({reason})", remedy="write it again") from error
    with_mask = sum(row.mask is not None for one in by_image for row in one)
    if with_mask and (without := sum(map(len, by_image)) - with_mask):
        warn(
            f"{path} has {without:,} results without a mask among {with_mask:,} with one: they cover no pixel"
        )
    return [
        Objects(
            np.array([row.box for row in one], np.float64).reshape(-1, 4).astype(np.float32),
            np.array([row.label for row in one], np.int64),
            scores=np.array([row.score for row in one], np.float32),
            masks=Masks.of([row.mask for row in one]).on(names.size_of(image)) if with_mask and one else None,
        )
        for image, one in enumerate(by_image)
    ]


class _Result(NamedTuple):
    """A detection as it stands in a file.

    Attributes:
        image: Which image.
        label: Which class.
        score: Its score.
        box: Left, top, right and bottom.
        mask: Polygons or runs; ``None``: it has none.
    """

    image: int
    label: int
    score: float
    box: list[float]
    mask: Sequence[Polygon] | Runs | None


def _coco_rows(path: Path, names: ResultNames) -> Iterator[_Result]:
    document = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(document, list):
        raise DataError(
            f"{path} holds no list of results",
            expected='a list of {"image_id", "category_id", "bbox" or "segmentation", "score"}',
            remedy="give the file of annotations as DATA, and here what was found"
            if isinstance(document, dict) and "annotations" in document
            else "",
        )
    images = {image: place for place, image in enumerate(names.image_ids)}
    labels = {category: place for place, category in enumerate(names.category_ids) if category is not None}
    for number, row in enumerate(document, start=1):
        where = f"{path}: result {number:,}"
        if not isinstance(row, dict) or not {"image_id", "category_id", "score"} <= row.keys():
            raise DataError(f"{where} is {quoted(row)}", expected="image_id, category_id, bbox and score")
        place = _place(row["image_id"], images, "image_id", where)
        label = _place(row["category_id"], labels, "category_id", where)
        mask = _mask(row.get("segmentation"), names.size_of, place, where)
        box, score = _box_and_score(row, mask, names.size_of, place, where)
        yield _Result(place, label, score, box, mask)


def _box_and_score(
    row: dict[str, Any],
    mask: Sequence[Polygon] | Runs | None,
    size_of: Callable[[int], tuple[int, int]],
    place: int,
    where: str,
) -> tuple[list[float], float]:
    """Return the box of a result of COCO, that around its mask where it has no other, and its score."""
    sides = row.get("bbox")
    if not sides and mask is not None:
        box = Masks.of([mask]).on(size_of(place)).crop(0).box
        return [*box], _numbers([row["score"]], where)[0]
    if sides is None:
        raise DataError(f"{where} is {quoted(row)}", expected="image_id, category_id, bbox and score")
    numbers = _numbers([*sides, row["score"]] if isinstance(sides, list) else [sides, row["score"]], where)
    if len(numbers) != 5:
        raise DataError(f"{where} has the bbox {quoted(sides)}", expected="four numbers")
    left, top, width, height, score = numbers
    return [left, top, left + width, top + height], score


def _mask(
    value: Any, size_of: Callable[[int], tuple[int, int]], place: int, where: str
) -> Sequence[Polygon] | Runs | None:
    """Return the mask of a result; one of other pixels than its image has is refused."""
    if value is None or value == "":
        return None
    mask, problem = read_segmentation(value, size_of(place), where)
    if problem:
        warn(f"{where}: {problem}")
    return mask


def _table_rows(path: Path, names: ResultNames) -> Iterator[_Result]:
    columns = read_columns(path, (*_TYPES, _MASK))
    missing = [name for name in _TYPES if name not in columns]
    if missing and any(columns.values()):
        raise DataError(f"{path} has no column {missing[0]!r}", expected=f"the columns {', '.join(_TYPES)}")
    images = {readable(key): place for place, key in enumerate(names.keys)}
    labels = {readable(name): place for place, name in enumerate(names.labels)}
    unknown: dict[str, None] = {}
    cells = [columns.get(name, []) for name in _TYPES]
    masks = columns.get(_MASK, [None] * len(cells[0]))
    for number, (*row, mask) in enumerate(zip(*cells, masks, strict=True), start=1):
        key, label, *numbers = row
        where = f"{path}: row {number:,}"
        score, *box = _numbers(numbers, where)
        place = _place(key, images, "key", where)
        if label in labels:
            yield _Result(place, labels[label], score, box, _mask(mask, names.size_of, place, where))
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
