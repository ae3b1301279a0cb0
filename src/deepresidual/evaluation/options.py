"""``EvaluationOptions``: what of a data set is evaluated, how it is shown, and what is written down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepresidual.runtime.compute import ComputeKeywords, ComputeOptions

if TYPE_CHECKING:
    from pathlib import Path

    from deepresidual.evaluation.objects.rules import Metric
    from deepresidual.evaluation.views import ViewKind, Views


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(ComputeOptions):
    """Options of an evaluation: samples, views and files to write.

    The fields of :class:`deepresidual.runtime.compute.ComputeOptions` come first.
    """

    split: str | None = None
    """Name of the split to report. Default: ``test`` if there is one, else ``val``."""

    views: Views | ViewKind = "one"
    """``one``, ``flip``, ``ten-crop``, ``multi-scale``, or :class:`deepresidual.evaluation.Views`. Each
    member of an ensemble keeps its own preprocessing."""

    validation: float = 0.0
    """Share of the training images to call ``val``, the same ones that training holds out. Of the data of a
    run what it held out is ``val`` without this."""

    group: str | None = None
    """What belongs together, as for training. Default: what the run was trained with."""

    keep_training_images: bool = False
    """Count the images that a run has trained on, too; else they are left out of its evaluation."""

    fit_temperature: str | None = None
    """Another split, to fit a temperature on that calibrates the probabilities."""

    precision_target: float | None = None
    """Share of answers that are to be right, to choose a threshold for on the split: see
    :mod:`deepresidual.evaluation.abstention`."""

    predictions: str | Path | None = None
    """A ``.csv``, ``.jsonl`` or ``.parquet`` file for the results of single images; of a detector also a
    ``.json`` in COCO's format of results."""

    top_k: int = 1
    """How many of the most probable classes to name in that file."""

    metric: Metric = "coco"
    """Rules of a detector's average precision: ``coco``, ``voc07`` or ``voc12`` (Pascal VOC)."""


class EvaluationKeywords(ComputeKeywords, total=False):
    """The fields of :class:`EvaluationOptions` as keyword arguments."""

    split: str | None
    views: Views | ViewKind
    validation: float
    group: str | None
    keep_training_images: bool
    fit_temperature: str | None
    precision_target: float | None
    predictions: str | Path | None
    top_k: int
    metric: Metric
