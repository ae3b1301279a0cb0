"""``csv:FILE``: a table of image files, with the columns ``path`` and ``label`` and perhaps ``split``.

::

    path,label,split
    images/0001.jpg,cat,train
    images/0002.jpg,dog,val

The file is UTF-8, with or without a byte order mark, and comma-separated; further columns are left alone.
Relative paths start from the folder of the table, may lead into a zip or tar, and may have the backslashes of
Windows. Class names are the labels, sorted; labels that are all whole numbers are sorted as numbers. Rows are
numbered as a spreadsheet does: the header is row 1.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from deepresidual.data.source.archive import exists
from deepresidual.data.source.base import (
    TRAIN,
    SampleSource,
    canonical_split,
    check_class_names,
    class_of_spelling,
)
from deepresidual.data.source.folder import FolderSplit
from deepresidual.errors import DataError
from deepresidual.runtime.git_lfs import refuse_pointer

_PATH = ("path", "file", "filename", "image")
_LABEL = ("label", "class")
_SPLIT = ("split",)

# What a spreadsheet takes for the beginning of a formula and what begins no label in earnest; + and − do.
_FORMULA = ("=", "@")


class _Row(NamedTuple):
    number: int
    path: str
    label: str
    split: str | None


def open_csv(file: Path) -> SampleSource:
    """Open a table of image files.

    Args:
        file: The table.

    Raises:
        DataError: The table cannot be read, lacks a column, or a row cannot be used; the message says which.
    """
    refuse_pointer(file, DataError)
    rows: dict[str, _Row] = {}
    ordered: list[_Row] = []
    for row in _rows(file):
        first = rows.setdefault(row.path, row)
        if first.label != row.label:
            raise DataError(
                f"{file}: row {row.number} says that {row.path!r} is {row.label!r}, "
                f"and row {first.number} that it is {first.label!r}",
                remedy="keep the one that is right",
            )
        ordered.append(row)
    if not ordered:
        raise DataError(f"{file} has no rows", expected="a row for every image below the header")
    _check_files(file, rows.values())
    ordered = _one_spelling(file, ordered)
    classes = _class_names(file, ordered)
    check_class_names(file, classes, remedy="add images of another class")
    numbers = {name: number for number, name in enumerate(classes)}
    parts: dict[str | None, list[_Row]] = {}
    for row in ordered:
        parts.setdefault(row.split, []).append(row)
    splits = {
        name: FolderSplit(file.parent, [row.path for row in part], [numbers[row.label] for row in part])
        for name, part in parts.items()
    }
    whole = splits.pop(None, None)
    named = ((str(name), split) for name, split in splits.items())
    return SampleSource(
        file.resolve().stem, classes, dict(sorted(named, key=lambda part: part[0] != TRAIN)), whole=whole
    )


def _rows(file: Path) -> Iterator[_Row]:
    number = 1
    try:
        if file.exists() and not file.is_file():
            raise DataError(f"{file} is not a regular file", expected="a table; a pipe might never end")
        # csv wants line ends as they are, because a quoted cell may hold some.
        with file.open(encoding="utf-8-sig", newline="") as stream:
            table = csv.reader(stream, strict=True)
            header = next(table, [])
            path, label = _column(file, header, _PATH), _column(file, header, _LABEL)
            split = _column(file, header, _SPLIT) if _places(header, _SPLIT) else None
            for number, cells in enumerate(table, start=2):
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    raise DataError(
                        f"{file}: row {number} has {len(cells)} cells",
                        expected=f"{len(header)}, as in the header",
                        remedy="put cells that hold a comma into quotation marks",
                    )
                yield _Row(
                    number,
                    _path_in(file, number, cells[path]),
                    _label_in(file, number, cells[label]),
                    None if split is None else _split_in(file, number, cells[split]),
                )
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


def _places(header: list[str], names: tuple[str, ...]) -> list[int]:
    return [place for place, cell in enumerate(header) if cell.strip().casefold() in names]


def _column(file: Path, header: list[str], names: tuple[str, ...]) -> int:
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


def _label_in(file: Path, number: int, cell: str) -> str:
    label = cell.strip()
    if not label:
        raise DataError(f"{file}: row {number} has an empty label", expected="the name of a class")
    if label.startswith(_FORMULA):
        raise DataError(
            f"{file}: row {number} has the label {label[:40]!r}, which spreadsheets take for a formula",
            expected="the name of a class",
        )
    return label


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
        parts.setdefault(row.split, set()).add(row.label)
    classes = class_of_spelling(file, parts.values())
    return [row._replace(label=classes[row.label]) for row in rows]


def _class_names(file: Path, rows: list[_Row]) -> tuple[str, ...]:
    """Return the labels that occur, in the order of the classes."""
    labels = {row.label: row.number for row in reversed(rows)}
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
