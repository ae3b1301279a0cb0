"""Rows of ``residual predict`` for models that give an image several labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from deepresidual.cli.output import print_line, print_raw
from deepresidual.runtime.csv_cells import csv_text
from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from deepresidual.backends import FilePrediction

__all__ = ["print_label_header", "print_label_row"]

_SEPARATOR = "|"
_WIDTH = 48  # characters of the labels in a table


def print_label_header(kind: Literal["table", "jsonl", "csv"]) -> None:
    """Print the header of a table or a CSV file, which can be read as data again."""
    if kind == "table":
        print_line(f"{'labels':<{_WIDTH}} file")
    elif kind == "csv":
        print_raw(csv_text([["path", "labels", "probabilities", "error"]]))


def print_label_row(kind: Literal["table", "jsonl", "csv"], result: FilePrediction) -> None:
    """Print the labels of one file, the most probable first; ``none`` where there are none."""
    prediction = result.prediction
    names = prediction.classes if prediction else ()
    probabilities = prediction.probabilities if prediction else ()
    if kind == "csv":
        shares = _SEPARATOR.join(f"{value:.6f}" for value in probabilities)
        print_raw(csv_text([[result.path, _SEPARATOR.join(names), shares, result.error]]))
    elif prediction:
        pairs = zip(names, probabilities, strict=True)
        cell = ", ".join(f"{name} {value:.2f}" for name, value in pairs) or "none"
        print_line(f"{shortened(cell, _WIDTH):<{_WIDTH}} {shortened(result.path)}")
