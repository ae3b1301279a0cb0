r"""CSV that a spreadsheet may open: what it would take for a formula is marked as text, and can be read back.

A file or a class may be called ``=cmd()``. A cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a
carriage return, and is no number, gets an apostrophe in front, by which spreadsheets know text. So does one
that has apostrophes before such a character, so that no two cells become the same.

Example:
    >>> csv_text([["=1+1.jpg", "ant", 0.5]])
    "'=1+1.jpg,ant,0.5\n"
    >>> original("'=1+1.jpg")
    '=1+1.jpg'
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def csv_text(rows: Iterable[Sequence[str | float]]) -> str:
    """Return rows as CSV, each with a line feed at its end; texts as :func:`marked`, numbers as they are."""
    lines = _Lines()
    # The writer quotes a carriage return only where its own lines end with one, and no reader takes it bare.
    writer = csv.writer(lines, lineterminator="\r\n")
    writer.writerows([marked(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return "".join(lines.texts)


class _Lines:
    def __init__(self) -> None:
        self.texts: list[str] = []

    def write(self, line: str) -> None:
        self.texts.append(line.removesuffix("\r\n") + "\n")


def marked(cell: str) -> str:
    """Return a cell with an apostrophe in front where a spreadsheet would run it."""
    return f"'{cell}" if _is_formula(cell) else cell


def original(cell: str) -> str:
    """Return the cell that :func:`marked` was given."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell) else cell


def _is_formula(cell: str) -> bool:
    return _FORMULA.match(cell) is not None and _NUMBER.fullmatch(cell.lstrip("'")) is None
