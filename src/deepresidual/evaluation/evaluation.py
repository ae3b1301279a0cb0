"""Exact evaluation: every sample of a split counted once, no padding, no dropped rest.

The forward pass is float32 unless another precision is asked for, in training as in ``residual
evaluate``, so the figure that a run ends with is the figure that anyone gets from its model.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from deepresidual.data.loader import require_none_bad
from deepresidual.evaluation.measurement import FittedTemperature, Measurement
from deepresidual.evaluation.results import Columns, check_destination, result_writer
from deepresidual.evaluation.scoring import scored_batches
from deepresidual.evaluation.task import EVALUATION_BATCH_SIZE, fitted_temperature, open_task
from deepresidual.evaluation.views import ViewKind, Views
from deepresidual.runtime.distributed import SINGLE, Processes
from deepresidual.runtime.files import expanded
from deepresidual.runtime.signals import StopRequest, StopRequested

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from deepresidual.data.loader import Readable
    from deepresidual.data.source import SampleSource
    from deepresidual.evaluation.figures import Evaluation
    from deepresidual.models import TorchClassifier
    from deepresidual.runtime.device import Precision, PrecisionChoice

__all__ = ["EvaluationStopped", "evaluate", "evaluate_split", "opened_results"]


class EvaluationStopped(Exception):  # noqa: N818  # no error: somebody asked
    """The evaluation was broken off because somebody asked for it; ``exit_code`` says how."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def evaluate(
    model: TorchClassifier | str | Path,
    data: SampleSource | str | Path,
    *,
    split: str | None = None,
    views: Views | str = "one",
    validation: float = 0.0,
    fit_temperature: str | None = None,
    predictions: str | Path | None = None,
    top_k: int = 1,
    batch_size: int = EVALUATION_BATCH_SIZE,
    num_workers: int | None = None,
    device: str = "auto",
    precision: PrecisionChoice = "fp32",
) -> Evaluation:
    """Evaluate a model on a data set.

    Args:
        model: A model, a model folder, a run folder or the name of a bundled model.
        data: A data set, opened or by name: ``digits``, an image folder, a parquet file or folder.
        split: Which split; ``test`` where there is one, else ``val``.
        views: ``one``, ``flip``, ``ten-crop``, ``multi-scale``, or :class:`deepresidual.evaluation.Views`.
        validation: Share of the training images to call ``val``, the same ones that training holds out.
        fit_temperature: Another split, to fit a temperature on that calibrates the probabilities.
        predictions: A ``.csv``, ``.jsonl`` or ``.parquet`` file for the results of single images.
        top_k: How many of the most probable classes to name there.
        batch_size: Images at a time.
        num_workers: Threads that load data; chosen for the machine where left out.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``fp32``, ``bf16``, or ``auto`` for the faster of both, measured
            (:mod:`deepresidual.models.precision`).

    Returns:
        The figures, over every sample of the split.

    Raises:
        ConfigurationError: An argument is out of range, or the temperature is to be fitted on that split.
        DataError: The data cannot be used, or its classes are not the model's.
        ModelFileError: The model cannot be loaded.
        RunError: The file of predictions cannot be written.
    """
    task = open_task(
        [model],
        data,
        split=split,
        views=views,
        validation=validation,
        batch_size=batch_size,
        num_workers=num_workers,
        device=device,
        precision=precision,
    )
    with opened_results(predictions, len(task.classes), top_k) as write:
        temperature: FittedTemperature | None = None
        if fit_temperature is not None:
            other = task.other_split(fit_temperature, "fit a temperature on")
            scores, labels = task.all_scores(other, f"fitting on {other}")
            temperature = fitted_temperature(scores[0], labels, other)
        measurement = Measurement(task.classes, temperature=temperature, write=write, top_k=top_k)
        for batch in task.scores(task.split, status=lambda: f"top-1 {measurement.tally.top1:.2%}"):
            measurement.add(batch.scores[0], batch)
        return measurement.evaluation(task.split)


@contextlib.contextmanager
def opened_results(
    path: str | Path | None, num_classes: int, top_k: int
) -> Iterator[Callable[[Columns], None] | None]:
    """Yield what writes the results of single images, or ``None`` where no file is wanted.

    Raises:
        ConfigurationError: The file or ``top_k`` cannot be used.
        RunError: The file cannot be written.
    """
    if path is None:
        yield None
        return
    file = expanded(path)
    check_destination(file, num_classes, top_k)
    with result_writer(file) as write:
        yield write


def evaluate_split(
    model: TorchClassifier,
    split: Readable,
    name: str,
    *,
    views: Views | ViewKind = "one",
    batch_size: int = EVALUATION_BATCH_SIZE,
    num_workers: int = 0,
    precision: Precision = "fp32",
    num_mistakes: int = 24,
    processes: Processes = SINGLE,
    skip_bad: bool = False,
    stop: StopRequest | None = None,
) -> Evaluation:
    """Evaluate on a split whose labels are rows of the model's classifier, as training does.

    Args:
        model: The model.
        split: The split.
        name: Its name.
        views: What the network is shown of every image; the central crop where left out.
        batch_size: Images at a time.
        num_workers: How many load data.
        precision: Precision of the forward passes.
        num_mistakes: How many of the worst mistakes to name.
        processes: Processes among which the batches are dealt out; each sample still counts once.
        skip_bad: Whether samples that cannot be used are left out of the count; else they are an error.
        stop: Whether somebody asked to stop; heard between batches, and at once while waiting for data.

    Raises:
        EvaluationStopped: Somebody asked, on any rank.
    """
    measurement = Measurement(model.label_names, num_mistakes=num_mistakes)
    batches = scored_batches(
        [model],
        split,
        Views.of(views),
        batch_size=batch_size,
        num_workers=num_workers,
        precision=precision,
        processes=processes,
    )
    stop = stop or StopRequest()
    while True:
        try:
            with stop.at_once():
                batch = next(batches, None)
        except StopRequested:
            break
        if batch is None:
            break
        if not skip_bad:
            require_none_bad(batch.bad)
        measurement.add(batch.scores[0], batch)
    (exit_code,) = processes.all_max(stop.exit_code)
    if exit_code:
        raise EvaluationStopped(exit_code)
    return measurement.evaluation(name, processes)
