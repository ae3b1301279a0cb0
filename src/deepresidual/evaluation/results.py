"""Results of single images in a file: CSV, JSON lines or parquet, written while the images are evaluated.

One row an image, in the order of the split:

``key``          name of the image
``label``        its class
``predicted``    the most probable class
``probability``  its probability, 0 to 1
``loss``         cross-entropy in nats
``rank``         place of the true class among all by probability: 1 where the prediction is right; of classes
                 that are equally probable the first in the model's order comes first

and, where more classes are asked for, ``predicted_2``, ``probability_2`` and so on. The file comes to be
whole or not at all. In CSV a name that a spreadsheet would take for a formula has an apostrophe in front,
which :func:`read_results` takes away. It reads what another program wrote, too, if it has the first three
columns.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import torch

from deepresidual.errors import ConfigurationError, DataError
from deepresidual.fields import is_whole
from deepresidual.runtime.files import expanded
from deepresidual.runtime.table_file import (
    TABLE_SUFFIXES,
    Columns,
    read_columns,
    readable,
    require_table_suffix,
    table_writer,
)

Results: TypeAlias = dict[str, tuple[str, str]]
"""True and predicted class by the name of the image."""

_READ = ("key", "label", "predicted")


def check_destination(path: Path, num_classes: int, top_k: int) -> None:
    """Refuse a file of another format, and a number of classes that there is not.

    Raises:
        ConfigurationError: The name of the file does not end in a known format, or ``top_k`` is out of range.
    """
    require_table_suffix(path, "the file for predictions")
    if not is_whole(top_k, 1, num_classes):
        raise ConfigurationError(f"top_k is {top_k}", expected=f"1 to {num_classes}")


def columns_of(
    scores: torch.Tensor,
    labels: torch.Tensor,
    losses: torch.Tensor,
    keys: list[str],
    names: tuple[str, ...],
    top_k: int,
) -> Columns:
    """Return the rows of a batch.

    Args:
        scores: ``(N, K)`` logits.
        labels: ``(N,)`` int64.
        losses: ``(N,)`` float64, in nats.
        keys: Names of the images.
        names: Names of the classes.
        top_k: Number of most probable classes to name.
    """
    import torch

    from deepresidual.backends.ranking import best_classes
    from deepresidual.evaluation.metrics import class_ranks

    best = torch.from_numpy(best_classes(scores.numpy(), top_k))
    probabilities = scores.double().softmax(dim=1).gather(1, best)
    shown = [readable(name) for name in names]
    columns: Columns = {
        "key": [readable(key) for key in keys],
        "label": [shown[row] for row in labels.tolist()],
    }
    for place in range(top_k):
        number = "" if place == 0 else f"_{place + 1}"
        columns[f"predicted{number}"] = [shown[row] for row in best[:, place].tolist()]
        columns[f"probability{number}"] = probabilities[:, place].tolist()
        if place == 0:
            columns["loss"] = losses.double().tolist()
            columns["rank"] = class_ranks(scores, labels).tolist()
    return columns


# -- writing -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened_results(
    path: str | Path | None, num_classes: int, top_k: int
) -> Iterator[Callable[[Columns], None] | None]:
    """Yield what writes the results of single images, or ``None`` if ``path`` is ``None``.

    Raises:
        ConfigurationError: The file or ``top_k`` cannot be used.
        RunError: The file cannot be written.
    """
    if path is None:
        yield None
        return
    file = expanded(path)
    check_destination(file, num_classes, top_k)
    with table_writer(file) as write:
        yield write


# -- reading -------------------------------------------------------------------------------------------


def read_results(path: str | Path) -> Results:
    """Return the true and the predicted class of every image of a file, by the name of the image.

    Raises:
        ConfigurationError: The name of the file does not end in a known format.
        DataError: The file is missing or damaged, lacks a column, or names an image twice.
    """
    path = expanded(path)
    if path.suffix.casefold() not in TABLE_SUFFIXES:
        raise ConfigurationError(
            f"{path} is no file of results",
            expected=f"a name in {', '.join(TABLE_SUFFIXES)}",
            remedy="write one of each model with 'residual evaluate MODEL DATA --predictions FILE.csv'",
        )
    try:
        columns = read_columns(path, _READ)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error})",
            expected="a file that 'residual evaluate --predictions' wrote",
        ) from error
    except (ValueError, csv.Error, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path} is damaged ({reason})", remedy="evaluate again") from error
    if not any(columns.values()):
        raise DataError(f"{path} holds no results", remedy="evaluate again")
    missing = [name for name in _READ if name not in columns]
    if missing:
        raise DataError(f"{path} has no column {missing[0]!r}", expected=f"the columns {', '.join(_READ)}")
    results: Results = {}
    for key, label, predicted in zip(*(columns[name] for name in _READ), strict=True):
        if not all(isinstance(cell, str) for cell in (key, label, predicted)):
            raise DataError(
                f"{path} has a row {key!r}, {label!r}, {predicted!r}", expected="three strings in every row"
            )
        if key in results:
            raise DataError(f"{path} names {key!r} twice", expected="one row for every image")
        results[key] = (label, predicted)
    return results
