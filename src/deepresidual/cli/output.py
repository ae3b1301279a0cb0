"""Print results to stdout, as one JSON document, lines of text or a table; and errors to stderr."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from typing import TYPE_CHECKING, Any, TextIO

from deepresidual.runtime.printable import printable, shortened, wrapped
from deepresidual.runtime.torchrun import speaks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.table import Table

__all__ = [
    "complain",
    "flush_output",
    "json_line",
    "print_json",
    "print_line",
    "print_raw",
    "print_table",
    "shown_class",
]

SCHEMA_VERSION = 1

# Characters of a cell at most; --json has all.
_CELL_LENGTH = 300
# Of the name of a class in a line, and columns of the terminal that it takes at least.
_CLASS_LENGTH, _CLASS_WIDTH = 80, 24
# Width that a column of words keeps at least when a table is too wide for the terminal.
_NARROWEST = 14
_BETWEEN = 2  # columns of the terminal between two columns of a table that is too wide


def counted(count: int, singular: str) -> str:
    """Return a number with its noun, whose plural ends in s.

    Example:
        >>> counted(1, "row"), counted(12_000, "row")
        ('1 row', '12,000 rows')
    """
    return f"{count:,} {singular}{'' if count == 1 else 's'}"


def complain(message: str) -> None:
    """Print an error message on one line of stderr; a terminal gets lines that fit."""
    if sys.stderr is not None:
        line = f"error: {shortened(message)}"
        lines = wrapped(line, _columns(sys.stderr)) if sys.stderr.isatty() else [line]
        sys.stderr.write("\n".join(lines) + "\n")


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document with its schema version."""
    print_raw(_json({"schema_version": SCHEMA_VERSION, **document}, indent=2) + "\n")


def json_line(document: Mapping[str, Any]) -> str:
    """Return a JSON object on one line."""
    return _json(document) + "\n"


def _json(document: Mapping[str, Any], indent: int | None = None) -> str:
    # Escapes of JSON where the encoding of stdout lacks characters: those of Python would be no JSON.
    is_unicode = _encoding().startswith("utf")
    return json.dumps(document, indent=indent, ensure_ascii=not is_unicode, allow_nan=False)


def print_line(text: str = "", *, is_command: bool = False) -> None:
    """Print text for people, by lines: what would steer a terminal is shown as an escape.

    In a terminal a line is broken between words where it is too wide, and goes on below its second word
    column. A command stays on one line, to be copied.
    """
    lines = [printable(line) for line in text.split("\n")]
    if not is_command and sys.stdout is not None and _is_bounded(sys.stdout):
        lines = [part for line in lines for part in wrapped(line, _columns(sys.stdout))]
    print_raw("\n".join(lines) + "\n")


def _is_bounded(stream: TextIO) -> bool:
    """Return whether lines have to fit: into a terminal, or into the columns that the user has asked for."""
    return stream.isatty() or os.environ.get("COLUMNS", "").isdecimal()


def _columns(stream: TextIO) -> int:
    from rich.console import Console

    return Console(file=stream).width


def print_raw(text: str) -> None:
    """Print text as it is, or nothing where another process speaks for this one.

    What the encoding of stdout lacks, and bytes of file names that are no UTF-8, become escapes.
    """
    if speaks() and sys.stdout is not None:
        encoding = _encoding()
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _encoding() -> str:
    return (getattr(sys.stdout, "encoding", None) or "utf-8").casefold()


def flush_output() -> None:
    """Flush stdout."""
    if sys.stdout is not None:
        sys.stdout.flush()


def shown_class(name: str) -> str:
    """Return the name of a class as a cell of lines that are printed before the others are known."""
    from rich.cells import cell_len

    shown = shortened(name, _CLASS_LENGTH)
    return shown + " " * (_CLASS_WIDTH - cell_len(shown))


# -- tables ------------------------------------------------------------------------------------------


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; a column whose name begins with ``>`` is aligned to the right.

    Where the terminal is too narrow, words are wrapped within their columns; where they would not fit even
    so, each row becomes a paragraph, its first cell and below it all others by name. No cell is dropped.
    Through a pipe there is no terminal to fit into, unless COLUMNS in the environment says how wide it is.
    """
    if sys.stdout is not None:
        print_raw(_rendered(columns, [[shortened(cell, _CELL_LENGTH) for cell in row] for row in rows]))


def _rendered(columns: Sequence[str], rows: list[list[str]]) -> str:
    from rich.cells import cell_len
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    room = console.width if _is_bounded(sys.stdout) else sys.maxsize
    names = [name.removeprefix(">") for name in columns]
    widths = [max(map(cell_len, cells)) for cells in zip(names, *rows, strict=True)]
    narrow = [
        width if name.startswith(">") else min(width, _NARROWEST)
        for name, width in zip(columns, widths, strict=True)
    ]
    if sum(widths) + 3 * len(widths) - 1 <= room:
        table = _table(columns, rows, widths, is_wide=True)
    elif sum(narrow) + _BETWEEN * len(widths) <= room:
        table = _table(columns, rows, narrow, is_wide=False)
    else:
        return _paragraphs(names, rows, room)
    console.width = min(room, sum(widths) + 4 * len(widths))
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def _table(columns: Sequence[str], rows: list[list[str]], min_widths: list[int], *, is_wide: bool) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=not is_wide)
    for name, min_width in zip(columns, min_widths, strict=True):
        is_number = name.startswith(">")
        table.add_column(
            Text(name.removeprefix(">")),
            justify="right" if is_number else "left",
            no_wrap=is_wide or is_number,
            overflow="fold",
            min_width=min_width,
        )
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _paragraphs(names: Sequence[str], rows: list[list[str]], room: int) -> str:
    paragraphs = []
    for first, *others in rows:
        cells = [f"{name} {cell}".strip() for name, cell in zip(names[1:], others, strict=True) if cell]
        paragraphs.append("\n".join([*textwrap.wrap(first, room), *_filled(cells, room - 2)]))
    return "\n" + "\n".join(paragraphs) + "\n\n"


def _filled(cells: list[str], room: int) -> list[str]:
    """Return cells on indented lines, as many on each as it has room for."""
    lines: list[str] = []
    for cell in cells:
        if lines and len(lines[-1]) + len(cell) + 1 <= room:
            lines[-1] += f"   {cell}"
        else:
            lines += [f"  {line}" for line in textwrap.wrap(cell, room, subsequent_indent="  ")]
    return lines
