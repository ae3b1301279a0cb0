"""``csv:FILE``: a table of image files, with the columns ``path`` and ``label`` and perhaps ``split``.

::

    path,label,split
    images/0001.jpg,cat,train
    images/0002.jpg,dog,val

The file is UTF-8, with or without a byte order mark, and comma-separated; further columns are left alone.
Several labels an image are written as ``cat|dog``, or in one column a class
(:mod:`deepresidual.data.source.csv_labels`).

Relative paths start from the folder of the table, may lead into a zip or tar, and may have the backslashes of
Windows. Class names are the labels, sorted; labels that are all whole numbers are sorted as numbers. Rows are
numbered as a spreadsheet does: the header is row 1.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepresidual.data.source.archive import exists
from deepresidual.data.source.base import (
    TRAIN,
    WHOLE,
    SampleSource,
    Split,
    canonical_split,
    check_class_names,
    class_of_spelling,
)
from deepresidual.data.source.csv_labels import (
    SEPARATOR,
    Line,
    TableLabels,
    has_class_columns,
    labels_in_column,
    labels_in_columns,
)
from deepresidual.data.source.folder import FolderSplit
from deepresidual.data.source.grouping import units
from deepresidual.data.source.multilabel import (
    MULTILABEL,
    LabelsChoice,
    MultilabelSplit,
    rarest_labels,
    require_all_labels,
)
from deepresidual.errors import DataError
from deepresidual.runtime.git_lfs import refuse_pointer

PATH_NAMES = ("path", "file", "filename", "image")
LABEL_NAMES = ("label", "class", "labels")
_SPLIT = ("split",)


class _Row(NamedTuple):
    number: int
    path: str
    labels: tuple[str, ...]
    split: str | None


def open_csv(file: Path, labels: LabelsChoice | None = None, group: str | None = None) -> SampleSource:
    """Open a table of image files.

    Args:
        file: The table.
        labels: Whether an image has ``one`` label or ``several``. Default: told by the table.
        group: Name of a column that says which images belong together; others are left to the caller.

    Raises:
        DataError: The table cannot be read, lacks a column, or a row cannot be used; the message says which.
    """
    refuse_pointer(file, DataError)
    header, lines = read_lines(file)
    path = column_of(file, header, PATH_NAMES)
    split = column_of(file, header, _SPLIT) if _places(header, _SPLIT) else None
    # Each row is looked at from left to right, the first row that cannot be used is named.
    paths = [_path_in(file, number, cells[path]) for number, cells in lines]
    together = header.index(group) if group in header else None
    found = _labels(file, header, lines, {path, split, together}, labels)
    sides = [None if split is None else _split_in(file, number, cells[split]) for number, cells in lines]
    numbers = [number for number, _ in lines]
    ordered = [_Row(*cells) for cells in zip(numbers, paths, found.rows, sides, strict=True)]
    if not ordered:
        raise DataError(f"{file} has no rows", expected="a row for every image below the header")
    _check_files(file, _by_path(file, ordered).values())
    ordered = _one_spelling(file, ordered)
    classes = _class_names(file, ordered, found.columns)
    check_class_names(file, classes, remedy="add images of another class")
    parts = _parts(ordered)
    splits: dict[str | None, Split]
    if found.are_several:
        splits = _splits_of_several(file, ordered, classes, parts)
    else:
        splits = _splits_of_one(file, ordered, classes, parts)
    groups = {}
    if together is not None:
        groups = {
            name or WHOLE: units(splits[name], [lines[index][1][together].strip() for index in chosen])
            for name, chosen in parts.items()
        }
    whole = splits.pop(None, None)
    named = ((str(name), split) for name, split in splits.items())
    return SampleSource(
        file.resolve().stem,
        classes,
        dict(sorted(named, key=lambda part: part[0] != TRAIN)),
        task=MULTILABEL if found.are_several else SampleSource.task,
        whole=whole,
        groups=groups,
    )


def _labels(
    file: Path, header: list[str], lines: list[Line], used: set[int | None], choice: LabelsChoice | None
) -> TableLabels:
    """Return the labels of all rows: of the column for them, or of one column a class."""
    others = [place for place in range(len(header)) if place not in used]
    if not _places(header, LABEL_NAMES) and has_class_columns(lines, others):
        return labels_in_columns(file, header, lines, others, choice)
    return labels_in_column(file, lines, column_of(file, header, LABEL_NAMES), choice)


def _by_path(file: Path, rows: list[_Row]) -> dict[str, _Row]:
    """Return the first row of every image; refuse one that has other labels in another row."""
    firsts: dict[str, _Row] = {}
    for row in rows:
        first = firsts.setdefault(row.path, row)
        if set(first.labels) != set(row.labels):
            raise DataError(
                f"{file}: row {row.number} says that {row.path!r} is {SEPARATOR.join(row.labels)!r}, "
                f"and row {first.number} that it is {SEPARATOR.join(first.labels)!r}",
                remedy="keep the one that is right",
            )
    return firsts


def _parts(rows: list[_Row]) -> dict[str | None, list[int]]:
    """Return the places of the rows of every split, of ``None`` where the table names none."""
    parts: dict[str | None, list[int]] = {}
    for index, row in enumerate(rows):
        parts.setdefault(row.split, []).append(index)
    return parts


def _splits_of_one(
    file: Path, rows: list[_Row], classes: tuple[str, ...], parts: dict[str | None, list[int]]
) -> dict[str | None, Split]:
    numbers = {name: number for number, name in enumerate(classes)}
    return {
        name: FolderSplit(
            file.parent,
            [rows[index].path for index in chosen],
            [numbers[rows[index].labels[0]] for index in chosen],
        )
        for name, chosen in parts.items()
    }


def _splits_of_several(
    file: Path, rows: list[_Row], classes: tuple[str, ...], parts: dict[str | None, list[int]]
) -> dict[str | None, Split]:
    numbers = {name: number for number, name in enumerate(classes)}
    targets = np.zeros((len(rows), len(classes)), dtype=np.bool_)
    for index, row in enumerate(rows):
        targets[index, [numbers[label] for label in row.labels]] = True
    if TRAIN in parts:
        require_all_labels(file, classes, targets[parts[TRAIN]])
    strata = rarest_labels(targets)
    return {
        name: MultilabelSplit(
            FolderSplit(file.parent, [rows[index].path for index in chosen], strata[chosen].tolist()),
            targets[chosen],
        )
        for name, chosen in parts.items()
    }


def read_lines(file: Path) -> tuple[list[str], list[Line]]:
    """Return the header of a table, and every row that is not empty, with its number from 2 on.

    Raises:
        DataError: The table cannot be read, is not UTF-8, or a row has more or fewer cells than the header.
    """
    number, lines = 1, list[Line]()
    try:
        if file.exists() and not file.is_file():
            raise DataError(f"{file} is not a regular file", expected="a table; a pipe might never end")
        # csv wants line ends as they are, because a quoted cell may hold some.
        with file.open(encoding="utf-8-sig", newline="") as stream:
            table = csv.reader(stream, strict=True)
            header = next(table, [])
            for number, cells in enumerate(table, start=2):
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{file}: row {number} has {len(cells)} cells",
                        expected=f"{len(header)}, as in the header",
                        remedy="put cells that hold a comma into quotation marks",
                    )
                lines.append((number, cells))
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        # The stream is decoded in blocks, so the row is not known.
        raise DataError(
            f"{file} is not UTF-8 (byte 0x{error.object[error.start]:02x}, after row {number})",
            remedy="save it as UTF-8",
        ) from error
    except csv.Error as error:
        raise DataError(f"{file}: row {number + 1} cannot be read ({error})") from error
    return header, lines


def _places(header: list[str], names: tuple[str, ...]) -> list[int]:
    return [place for place, cell in enumerate(header) if cell.strip().casefold() in names]


def column_of(file: Path, header: list[str], names: tuple[str, ...]) -> int:
    """Return the place of the only column that has one of ``names``.

    Raises:
        DataError: There is none, or there are several.
    """
    found = _places(header, names)
    if len(found) == 1:
        return found[0]
    cells = ", ".join(repr(cell[:40]) for cell in header[:8]) + (", …" if len(header) > 8 else "")
    raise DataError(
        f"{file}: the header (row 1) has {'several columns' if found else 'no column'} for the {names[0]} "
        f"({cells or 'it is empty'})",
        expected=f"one called {' or '.join(names)}",
        remedy="separate columns with commas" if len(header) == 1 else "",
    )


def _path_in(file: Path, number: int, cell: str) -> str:
    if not cell:
        raise DataError(f"{file}: row {number} has no path", expected="the name of an image file")
    # A table that was written on Windows, read elsewhere.
    return cell.replace("\\", "/") if "\\" in cell and not (file.parent / cell).exists() else cell


def _split_in(file: Path, number: int, cell: str) -> str:
    split = canonical_split(cell.strip())
    if split is None:
        raise DataError(
            f"{file}: row {number} has the split {cell.strip()[:40]!r}", expected="train, val or test"
        )
    return split


def _check_files(file: Path, rows: Iterable[_Row]) -> None:
    for row in rows:
        path = file.parent / row.path
        try:
            if path.is_file() or (not path.exists() and exists(path)):
                continue
            found = "is not a regular file" if path.exists() else "does not exist"
        except OSError as error:
            found = f"cannot be opened ({error.strerror})"
        raise DataError(
            f"{file}: row {row.number} names {row.path[:200]!r}, which {found}",
            expected=f"an image file, relative to {file.parent}",
        )


def _one_spelling(file: Path, rows: list[_Row]) -> list[_Row]:
    """Return the rows with one spelling of every label that two splits spell in two Unicode forms."""
    parts: dict[str | None, set[str]] = {}
    for row in rows:
        parts.setdefault(row.split, set()).update(row.labels)
    classes = class_of_spelling(file, parts.values())
    return [row._replace(labels=tuple(classes[label] for label in row.labels)) for row in rows]


def _class_names(file: Path, rows: list[_Row], columns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the labels that occur, or those that have a column, in the order of the classes."""
    labels = dict.fromkeys(columns, 1)
    labels |= {label: row.number for row in reversed(rows) for label in row.labels}
    if not all(re.fullmatch(r"[+-]?[0-9]{1,18}", label, re.ASCII) for label in labels):
        return tuple(sorted(labels))
    numbers: dict[int, str] = {}
    for label, number in labels.items():
        other = numbers.setdefault(int(label), label)
        if other != label:
            raise DataError(
                f"{file}: the labels {other!r} (row {labels[other]}) and {label!r} (row {number}) are the "
                "same number",
                remedy="write them in one way",
            )
    return tuple(numbers[number] for number in sorted(numbers))
