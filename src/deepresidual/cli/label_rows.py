"""Rows of ``residual predict`` for models that give an image several labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepresidual.cli.prediction_rows import PredictionRows
from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from deepresidual.backends import FilePrediction

__all__ = ["LabelRows"]

_SEPARATOR = "|"
_WIDTH = 48  # characters of the labels in a table


@dataclass(frozen=True)
class LabelRows(PredictionRows):
    """Labels of one file a row, the most probable first, perhaps none; CSV can be read as data again."""

    def types(self) -> dict[str, str]:
        """Return the columns of CSV and of a file, and their types by Arrow's names."""
        return dict.fromkeys(("path", "labels", "probabilities", "error"), "string")

    def _table_header(self) -> str:
        return f"{'labels':<{_WIDTH}} file"

    def _table_row(self, result: FilePrediction) -> str:
        pairs = zip(*_labels_of(result), strict=True)
        cell = ", ".join(f"{name} {value:.2f}" for name, value in pairs) or "none"
        return f"{shortened(cell, _WIDTH):<{_WIDTH}} {shortened(result.path)}"

    def _cells(self, result: FilePrediction) -> list[str | float | None]:
        names, probabilities = _labels_of(result)
        shares = _SEPARATOR.join(f"{value:.6f}" for value in probabilities)
        return [result.path, _SEPARATOR.join(names), shares, result.error]


def _labels_of(result: FilePrediction) -> tuple[tuple[str, ...], tuple[float, ...]]:
    prediction = result.prediction
    return (prediction.classes, prediction.probabilities) if prediction else ((), ())
