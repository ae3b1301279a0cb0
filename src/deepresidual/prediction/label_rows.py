"""Rows of predictions of models that give an image several labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepresidual.prediction.rows import PredictionRows, pairs_of
from deepresidual.runtime.table_file import readable

if TYPE_CHECKING:
    from deepresidual.backends import FilePrediction
    from deepresidual.runtime.table_file import Columns

_SEPARATOR = "|"


@dataclass(frozen=True)
class LabelRows(PredictionRows):
    """Labels of one file a row, the most probable first, perhaps none; CSV can be read as data again.

    Attributes:
        has_lists: Whether labels and probabilities are lists, for files whose format has some; else they
            are strings with ``|`` between, for CSV.
    """

    has_lists: bool = False

    def types(self) -> dict[str, str]:
        """Return the columns of CSV and of a file, and their types by Arrow's names."""
        types = dict.fromkeys(("path", "labels", "probabilities", "error"), "string")
        if self.has_lists:
            types |= {"labels": "list<string>", "probabilities": "list<double>"}
        return types

    def columns(self, result: FilePrediction) -> Columns:
        """Return a result as one row of a file; a file that could not be used has no lists."""
        if not self.has_lists:
            return super().columns(result)
        prediction = result.prediction
        labels: list[Any] = [None if prediction is None else list(prediction.classes)]
        probabilities: list[Any] = [None if prediction is None else list(prediction.probabilities)]
        return {
            "path": [readable(result.path)],
            "labels": labels,
            "probabilities": probabilities,
            "error": [readable(result.error)],
        }

    def cells(self, result: FilePrediction) -> list[str | float | None]:
        """Return the cells of a row of CSV."""
        pairs = pairs_of(result)
        names = _SEPARATOR.join(name for name, _ in pairs)
        shares = _SEPARATOR.join(f"{value:.6f}" for _, value in pairs)
        return [result.path, names, shares, result.error]
