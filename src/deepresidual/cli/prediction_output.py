"""Print predictions: as a table, CSV or JSON lines, row by row as they are computed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from deepresidual.cli.output import flush_output, json_line, print_line, print_raw, shown_class
from deepresidual.prediction.label_rows import LabelRows
from deepresidual.prediction.rows import PredictionRows, pairs_of
from deepresidual.runtime.csv_cells import csv_text
from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepresidual.backends import FilePrediction
    from deepresidual.backends.images import ImageFile
    from deepresidual.cli.unusable import FileErrors
    from deepresidual.prediction.outputs import ClassOutputs

__all__ = ["print_rows"]

RowFormat: TypeAlias = Literal["table", "jsonl", "csv"]

_LABELS_WIDTH = 48  # characters of the labels in a table


def print_rows(
    outputs: ClassOutputs,
    files: list[ImageFile | bytes],
    format_name: str | None,
    errors: FileErrors,
    see: Callable[[FilePrediction], None],
    *,
    quiet: bool,
) -> None:
    """Print the rows of files as they are computed.

    Args:
        outputs: What to compute.
        files: The files; the path of one that is given by its content is ``stdin``.
        format_name: ``table``, ``jsonl`` or ``csv``. Default: a table.
        errors: Is told of files without a result.
        see: Called with every result.
        quiet: Whether nothing is printed.
    """
    rows = outputs.rows()
    kind: RowFormat = "jsonl" if format_name == "jsonl" else "csv" if format_name == "csv" else "table"
    results = outputs.results(files)  # the engine is opened: what it complains of stands above the table
    if not quiet and kind == "csv":
        print_raw(csv_text([list(rows.types())]))
    has_header = quiet or kind != "table"
    for result in results:
        named = replace(result, path=result.path or "stdin")
        if named.error:
            errors.add(named.path, named.error)
        see(named)
        if not has_header and result.prediction is not None:
            _print_header(rows)
            has_header = True
        if not quiet:
            _print_row(rows, kind, named)
            flush_output()
    errors.end()


def _print_header(rows: PredictionRows) -> None:
    """Print the names of the columns of a table."""
    if isinstance(rows, LabelRows):
        print_line(f"{'labels':<{_LABELS_WIDTH}} file")
    else:
        print_line(f"{'class':<24} {'probability':>11}  " * rows.top_k + "file")


def _print_row(rows: PredictionRows, kind: RowFormat, result: FilePrediction) -> None:
    """Print one result; a table has no row for a file that could not be used."""
    if kind == "jsonl":
        print_raw(json_line(rows.as_dict(result)))
    elif kind == "csv":
        print_raw(csv_text([[_shown(cell) for cell in rows.cells(result)]]))
    elif result.prediction is not None:
        text = _labels(result) if isinstance(rows, LabelRows) else _classes(rows, result)
        print_line(text + shortened(result.path))


def _classes(rows: PredictionRows, result: FilePrediction) -> str:
    pairs = pairs_of(result)
    if rows.is_unsure(result):
        pairs[0] = (f"unsure: {pairs[0][0]}", pairs[0][1])
    # Widths are fixed beforehand, because rows are printed as they come.
    return "".join(f"{shown_class(name)} {value:>11.4f}  " for name, value in pairs)


def _labels(result: FilePrediction) -> str:
    cell = ", ".join(f"{name} {value:.2f}" for name, value in pairs_of(result)) or "none"
    return f"{shortened(cell, _LABELS_WIDTH):<{_LABELS_WIDTH}} "


def _shown(cell: str | float | None) -> str:
    return f"{cell:.6f}" if isinstance(cell, float) else cell or ""
