"""Rows in a file: CSV, JSON lines or parquet, written batch by batch, and whole or not at all; and read.

Example:
    >>> with table_writer(Path("found.csv"), {"path": "string", "size": "int64"}) as write:
    ...     write({"path": ["a.jpg", "b.jpg"], "size": [3, None]})
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from deepresidual.errors import ConfigurationError
from deepresidual.runtime.csv_cells import csv_text, original
from deepresidual.runtime.files import atomic_file

Columns: TypeAlias = dict[str, list[Any]]
"""Rows by column: equally long lists of strings and numbers, and ``None`` where there is nothing.

JSON lines and parquet take lists of them and documents as well."""

ColumnTypes: TypeAlias = "Mapping[str, str | ColumnTypes]"
"""Type of every column by Arrow's names, such as ``string``, ``double`` and ``list<double>``.

The fields of a column of documents have types of their own."""

TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")

# Parquet is written in row groups of so many; smaller ones cost space and time.
_ROW_GROUP = 10_000


def require_table_suffix(path: Path, what: str) -> None:
    """Refuse a file of another format.

    Raises:
        ConfigurationError: The name of the file does not end in a known format.
    """
    if path.suffix.casefold() not in TABLE_SUFFIXES:
        raise ConfigurationError(
            f"{what} is {path.name!r}", expected=f"a name in {', '.join(TABLE_SUFFIXES)}"
        )


def readable(name: str) -> str:
    """Return a name with escapes in place of bytes that are not UTF-8, which file names may hold."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def names_column(names: Sequence[str]) -> Any:
    """Return a column of Arrow that gives the names back to the bit: binary where one is no UTF-8."""
    import pyarrow as pa

    try:
        return pa.array(names, pa.string())
    except UnicodeEncodeError:
        return pa.array([os.fsencode(name) for name in names], pa.binary())


def names_in(column: Any) -> list[str]:
    """Return the names of a column that :func:`names_column` made."""
    return [os.fsdecode(name) for name in column.to_pylist()]


@contextlib.contextmanager
def table_writer(path: Path, types: ColumnTypes | None = None) -> Iterator[Callable[[Columns], None]]:
    """Yield what writes the rows of a batch; the file is there when the block ends well.

    Args:
        path: The file; its suffix says the format.
        types: Types of the columns, for parquet. Default: by the values, of which none may be missing then.

    Raises:
        RunError: The file cannot be written.
    """
    with atomic_file(path) as file:
        match path.suffix.casefold():
            case ".csv":
                yield _csv_writer(file)
            case ".jsonl":
                yield _json_writer(file)
            case _:
                with _parquet_writer(file, types or {}) as write:
                    yield write


def read_columns(path: Path, names: Collection[str]) -> Columns:
    """Read columns of a file; what it lacks of them is left out.

    Args:
        path: The file; its suffix says the format.
        names: Columns that are wanted; of CSV and JSON lines all are read.

    Returns:
        The columns. Cells of CSV are strings, without the apostrophe in front of what a spreadsheet would
        take for a formula; cells of rows that are too short are ``None``.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged.
        csv.Error: The same.
        RecursionError: The same.
    """
    match path.suffix.casefold():
        case ".csv":
            # A spreadsheet that has saved the file has put a byte-order mark in front.
            with path.open(encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file)
                rows, found = list(reader), reader.fieldnames or ()
            return {name: [_original(row[name]) for row in rows] for name in found}
        case ".jsonl":
            with path.open(encoding="utf-8") as file:
                objects = [json.loads(line) for line in file if line.strip()]
            if not all(isinstance(row, dict) for row in objects):
                raise ValueError("a line is no JSON object")
            return {name: [row.get(name) for row in objects] for name in (objects[0] if objects else ())}
        case _:
            import pyarrow.parquet as pq

            there = pq.read_schema(path).names
            read: Columns = pq.read_table(path, columns=[name for name in names if name in there]).to_pydict()
            return read


def _original(cell: str | None) -> str | None:
    return None if cell is None else original(cell)


# -- writing ---------------------------------------------------------------------------------------------


def _rows(columns: Columns) -> Iterable[tuple[Any, ...]]:
    return zip(*columns.values(), strict=True)


def _csv_writer(file: BinaryIO) -> Callable[[Columns], None]:
    is_first = True

    def write(columns: Columns) -> None:
        nonlocal is_first
        header = [tuple(columns)] if is_first else []
        file.write(csv_text([*header, *_rows(columns)]).encode())
        is_first = False

    return write


def _json_writer(file: BinaryIO) -> Callable[[Columns], None]:
    def write(columns: Columns) -> None:
        for row in _rows(columns):
            line = json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False, allow_nan=False)
            file.write(f"{line}\n".encode())

    return write


@contextlib.contextmanager
def _parquet_writer(file: BinaryIO, types: ColumnTypes) -> Iterator[Callable[[Columns], None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    waiting: Columns = {}
    arrow_types = {name: _arrow_type(text) for name, text in types.items()}
    with contextlib.ExitStack() as stack:
        writer: Any = None

        def write_group() -> None:
            nonlocal writer
            # A table of Arrow for each row would take 40 µs a column.
            table = pa.table(
                {name: pa.array(cells, arrow_types.get(name)) for name, cells in waiting.items()}
            )
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(file, table.schema))
            writer.write_table(table)
            waiting.clear()

        def write(columns: Columns) -> None:
            for name, cells in columns.items():
                waiting.setdefault(name, []).extend(cells)
            if len(next(iter(waiting.values()), ())) >= _ROW_GROUP:
                write_group()

        yield write
        if waiting:
            write_group()


def _arrow_type(name: str | ColumnTypes) -> Any:
    """Return a type of Arrow by its name; ``list<double>`` is a list of ``double``."""
    import pyarrow as pa

    if not isinstance(name, str):
        return pa.struct([(field, _arrow_type(each)) for field, each in name.items()])
    if name.startswith("list<"):
        return pa.list_(pa.type_for_alias(name.removeprefix("list<").removesuffix(">")))
    return pa.type_for_alias(name)
