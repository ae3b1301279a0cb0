"""How results reach stdout: one JSON document, or a table."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Literal

from residual.runtime.speaker import speaks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["print_json", "print_line", "print_table"]

SCHEMA_VERSION = 1


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document with its schema version."""
    text = json.dumps(
        {"schema_version": SCHEMA_VERSION, **document}, indent=2, ensure_ascii=False, allow_nan=False
    )
    print_line(text)


def print_line(text: str = "") -> None:
    """Print one line, or nothing where another process speaks for this one."""
    if speaks():
        sys.stdout.write(text + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; a column whose name begins with ``>`` is aligned to the right.

    A cell of the last column is cut where the terminal is too narrow for it.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    rows = list(rows)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for position, name in enumerate(columns):
        justify: Literal["left", "right"] = "right" if name.startswith(">") else "left"
        is_last = position == len(columns) - 1
        min_width = None if is_last else max(len(row[position]) for row in [columns, *rows])
        table.add_column(
            name.removeprefix(">"), justify=justify, no_wrap=True, overflow="ellipsis", min_width=min_width
        )
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    # Through a pipe there is no terminal to fit into, and nothing is cut.
    width = None if sys.stdout.isatty() else 500
    Console(file=sys.stdout, highlight=False, width=width).print(table)
