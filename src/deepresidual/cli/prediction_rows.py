"""Rows of ``residual predict``: as a table, CSV, JSON lines, JSON, or columns of a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from deepresidual.cli.output import json_line, print_line, print_raw, shown_class
from deepresidual.runtime.csv_cells import csv_text
from deepresidual.runtime.printable import shortened
from deepresidual.runtime.table_file import readable

if TYPE_CHECKING:
    from deepresidual.backends import FilePrediction
    from deepresidual.runtime.table_file import Columns

__all__ = ["PredictionRows", "RowFormat"]

RowFormat: TypeAlias = Literal["table", "jsonl", "csv"]


@dataclass(frozen=True)
class PredictionRows:
    """How predictions are shown.

    Attributes:
        top_k: Classes of each image.
        min_probability: Below it the answer is "unsure"; ``None``: every image has an answer.
    """

    top_k: int = 1
    min_probability: float | None = None

    def is_unsure(self, result: FilePrediction) -> bool:
        """Return whether the best class is less probable than is asked for."""
        return (
            self.min_probability is not None
            and result.prediction is not None
            and result.prediction.probabilities[0] < self.min_probability
        )

    def as_dict(self, result: FilePrediction) -> dict[str, Any]:
        """Return a result as a JSON object."""
        row: dict[str, Any] = {
            "path": result.path,
            "predictions": [{"class": name, "probability": value} for name, value in _pairs(result)],
        }
        if result.prediction is None:
            row["error"] = result.error
        elif self.min_probability is not None:
            row["unsure"] = self.is_unsure(result)
        return row

    def print_header(self, kind: RowFormat) -> None:
        """Print the names of the columns."""
        if kind == "table":
            print_line(self._table_header())
        elif kind == "csv":
            print_raw(csv_text([list(self.types())]))

    def print_row(self, kind: RowFormat, result: FilePrediction) -> None:
        """Print one result; a table has no row for a file that could not be used."""
        if kind == "jsonl":
            print_raw(json_line(self.as_dict(result)))
        elif kind == "csv":
            print_raw(csv_text([[_shown(cell) for cell in self._cells(result)]]))
        elif result.prediction is not None:
            print_line(self._table_row(result))

    def types(self) -> dict[str, str]:
        """Return the columns of CSV and of a file, and their types by Arrow's names."""
        numbers = ["", *(f"_{number}" for number in range(2, self.top_k + 1))]
        columns = {"path": "string"}
        for number in numbers:
            columns |= {f"class{number}": "string", f"probability{number}": "double"}
        return columns | {"error": "string"}

    def columns(self, result: FilePrediction) -> Columns:
        """Return a result as one row of a file."""
        cells = [readable(cell) if isinstance(cell, str) else cell for cell in self._cells(result)]
        return {name: [cell] for name, cell in zip(self.types(), cells, strict=True)}

    def _table_header(self) -> str:
        return f"{'class':<24} {'probability':>11}  " * self.top_k + "file"

    def _table_row(self, result: FilePrediction) -> str:
        pairs = _pairs(result)
        if self.is_unsure(result):
            pairs[0] = (f"unsure: {pairs[0][0]}", pairs[0][1])
        # Widths are fixed beforehand, because rows are printed as they come.
        shown = [f"{shown_class(name)} {value:>11.4f}  " for name, value in pairs]
        return "".join(shown) + shortened(result.path)

    def _cells(self, result: FilePrediction) -> list[str | float | None]:
        pairs: list[tuple[str | None, float | None]] = [*_pairs(result)] or [(None, None)] * self.top_k
        if self.is_unsure(result):
            pairs[0] = (None, pairs[0][1])
        return [result.path, *(cell for pair in pairs for cell in pair), result.error]


def _pairs(result: FilePrediction) -> list[tuple[str, float]]:
    """Return classes and probabilities; none if the file could not be used."""
    if result.prediction is None:
        return []
    return list(zip(result.prediction.classes, result.prediction.probabilities, strict=True))


def _shown(cell: str | float | None) -> str:
    return f"{cell:.6f}" if isinstance(cell, float) else cell or ""
