"""Rows of predictions: as JSON objects, as cells of CSV, and as columns of a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepresidual.runtime.table_file import readable

if TYPE_CHECKING:
    from deepresidual.backends import FilePrediction
    from deepresidual.runtime.table_file import Columns


@dataclass(frozen=True)
class PredictionRows:
    """How predictions of one class an image are written.

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
            "predictions": [{"class": name, "probability": value} for name, value in pairs_of(result)],
        }
        if result.prediction is None:
            row["error"] = result.error
        elif self.min_probability is not None:
            row["unsure"] = self.is_unsure(result)
        return row

    def types(self) -> dict[str, str]:
        """Return the columns of CSV and of a file, and their types by Arrow's names."""
        numbers = ["", *(f"_{number}" for number in range(2, self.top_k + 1))]
        columns = {"path": "string"}
        for number in numbers:
            columns |= {f"class{number}": "string", f"probability{number}": "double"}
        return columns | {"error": "string"}

    def columns(self, result: FilePrediction) -> Columns:
        """Return a result as one row of a file."""
        cells = [readable(cell) if isinstance(cell, str) else cell for cell in self.cells(result)]
        return {name: [cell] for name, cell in zip(self.types(), cells, strict=True)}

    def cells(self, result: FilePrediction) -> list[str | float | None]:
        """Return the cells of a row of CSV."""
        pairs: list[tuple[str | None, float | None]] = [*pairs_of(result)] or [(None, None)] * self.top_k
        if self.is_unsure(result):
            pairs[0] = (None, pairs[0][1])
        return [result.path, *(cell for pair in pairs for cell in pair), result.error]


def pairs_of(result: FilePrediction) -> list[tuple[str, float]]:
    """Return classes and probabilities; none if the file could not be used."""
    if result.prediction is None:
        return []
    return list(zip(result.prediction.classes, result.prediction.probabilities, strict=True))
