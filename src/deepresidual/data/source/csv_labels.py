"""The labels in a table: one a row, several as ``cat|dog``, or one column a class with zeros and ones.

Whether a row has one label or several is told by the table where it is clear, and asked for where it is not:
``cat|dog`` may be a name, one column a class may be a way to write a single label, and an empty cell may mean
that an image has none of the labels, or that nobody has looked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from deepresidual.data.source.multilabel import LabelsChoice
from deepresidual.errors import DataError

SEPARATOR = "|"

Line: TypeAlias = tuple[int, list[str]]
"""A row: its number as a spreadsheet counts, and its cells."""

# What a spreadsheet takes for the beginning of a formula and what begins no label in earnest; + and − do.
_FORMULA = ("=", "@")

_YES, _NO = frozenset({"1", "true"}), frozenset({"0", "false", ""})
_EITHER = "choose --labels several or --labels one"


@dataclass(frozen=True)
class TableLabels:
    """The labels of every row of a table.

    Attributes:
        rows: The labels of each row: one, or any number of different ones where there are several.
        are_several: Whether images have several labels.
        columns: The classes by the columns of the table; empty where labels are written in one.
    """

    rows: list[tuple[str, ...]]
    are_several: bool
    columns: tuple[str, ...] = ()


def has_class_columns(lines: Sequence[Line], places: Sequence[int]) -> bool:
    """Return whether the columns at ``places`` look like one column a class."""
    return len(places) > 1 and any(
        cells[place].strip().casefold() in _YES | _NO - {""} for _, cells in lines for place in places
    )


def labels_in_column(
    file: Path, lines: Sequence[Line], place: int, choice: LabelsChoice | None
) -> TableLabels:
    """Return the labels of a table that has a column for them.

    Args:
        file: The table, for messages.
        lines: Its rows.
        place: The column.
        choice: How many labels an image has. Default: several, where parts of ``cat|dog`` come elsewhere.

    Raises:
        DataError: A cell cannot be used, or it is not clear whether ``|`` separates labels.
    """
    cells = [(number, _checked(file, number, cells[place].strip())) for number, cells in lines]
    joined = [] if choice == "one" else [(number, cell) for number, cell in cells if SEPARATOR in cell]
    if choice is None and joined and not _have_parts_in_common(cells):
        number, cell = joined[0]
        raise DataError(
            f"{file}: row {number} has the label {cell[:40]!r}, which may be one name or several labels, "
            "and none of its parts comes in another row",
            remedy=_EITHER,
        )
    are_several = choice == "several" or bool(joined)
    if not are_several:
        for number, cell in cells:
            if not cell:
                raise DataError(f"{file}: row {number} has an empty label", expected="the name of a class")
        return TableLabels([(cell,) for _, cell in cells], are_several=False)
    if choice is None:
        _refuse_empty(file, [number for number, cell in cells if not cell])
    return TableLabels([_parts(file, number, cell) for number, cell in cells], are_several=True)


def labels_in_columns(
    file: Path,
    header: Sequence[str],
    lines: Sequence[Line],
    places: Sequence[int],
    choice: LabelsChoice | None,
) -> TableLabels:
    """Return the labels of a table with one column a class.

    Args:
        file: The table, for messages.
        header: Its first row.
        lines: Its rows.
        places: The columns of classes.
        choice: How many labels an image has. Default: several, where a row has more than one.

    Raises:
        DataError: A cell is neither yes nor no, or it is not clear how many labels a row may have.
    """
    names = [_checked(file, 1, header[place].strip()) for place in places]
    for name in names:
        if not name or names.count(name) > 1:
            raise DataError(
                f"{file}: the header (row 1) has {_twice(name)}", expected="a name for each class"
            )
    rows = [
        tuple(
            name
            for name, place in zip(names, places, strict=True)
            if _is_yes(file, number, name, cells[place])
        )
        for number, cells in lines
    ]
    most = max(map(len, rows), default=0)
    if choice is None and most < 2:
        raise DataError(
            f"{file} has one column a class ({', '.join(names[:4])}{', …' if len(names) > 4 else ''}), and "
            "no row with more than one label",
            remedy=_EITHER,
        )
    if choice == "one":
        for (number, _), labels in zip(lines, rows, strict=True):
            if len(labels) != 1:
                raise DataError(
                    f"{file}: row {number} has {len(labels)} labels",
                    expected="one, as --labels one says",
                )
        return TableLabels(rows, are_several=False, columns=tuple(names))
    if choice is None:
        silent = [number for number, cells in lines if not any(cells[place].strip() for place in places)]
        _refuse_empty(file, silent)
    return TableLabels(rows, are_several=True, columns=tuple(names))


def _twice(name: str) -> str:
    return f"the class {name!r} twice" if name else "a column without a name"


def _is_yes(file: Path, number: int, name: str, cell: str) -> bool:
    value = cell.strip().casefold()
    if value not in _YES | _NO:
        raise DataError(
            f"{file}: row {number} has {cell.strip()[:40]!r} in the column {name!r}, taken for a class",
            expected="0, 1, true, false or nothing",
            remedy="remove columns that are no classes, or write the labels into one called 'label'",
        )
    return value in _YES


def _checked(file: Path, number: int, cell: str) -> str:
    for label in cell.split(SEPARATOR):
        if label.strip().startswith(_FORMULA):
            raise DataError(
                f"{file}: row {number} has the label {label.strip()[:40]!r}, which spreadsheets take for a "
                "formula",
                expected="the name of a class",
            )
    return cell


def _refuse_empty(file: Path, numbers: Sequence[int]) -> None:
    if numbers:
        rows = f"row {numbers[0]} has" + (
            f" no label, nor have {len(numbers) - 1:,} others" if len(numbers) > 1 else " no label"
        )
        raise DataError(
            f"{file}: {rows}",
            expected="a label in every row",
            remedy="choose --labels several if that means that none of the labels applies",
        )


def _have_parts_in_common(cells: Sequence[tuple[int, str]]) -> bool:
    """Return whether a part of ``cat|dog`` stands alone elsewhere, or in another company."""
    counts = Counter(part.strip() for cell in {cell for _, cell in cells} for part in cell.split(SEPARATOR))
    joined = (cell for _, cell in cells if SEPARATOR in cell)
    return any(counts[part.strip()] > 1 for cell in joined for part in cell.split(SEPARATOR))


def _parts(file: Path, number: int, cell: str) -> tuple[str, ...]:
    if not cell:
        return ()
    labels = tuple(part.strip() for part in cell.split(SEPARATOR))
    if not all(labels) or len(set(labels)) < len(labels):
        raise DataError(
            f"{file}: row {number} has the labels {cell[:60]!r}", expected=f"different names with {SEPARATOR}"
        )
    return labels
