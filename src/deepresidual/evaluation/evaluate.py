"""Exact evaluation: every sample of a split counted once, no padding, no dropped rest.

The forward pass is float32 unless another precision is asked for, in training as in ``residual
evaluate``, so the result that a run ends with is the result that anyone gets from its model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Unpack, cast, overload

from deepresidual.backends.object_detector import ObjectDetector
from deepresidual.data.loader import Readable, require_none_bad
from deepresidual.data.source import SampleSource
from deepresidual.data.source.dataset import Dataset
from deepresidual.evaluation.accumulator import Accumulator
from deepresidual.evaluation.objects.result import DetectionEvaluation
from deepresidual.evaluation.objects.setup import DetectionSetup
from deepresidual.evaluation.options import EvaluationKeywords, EvaluationOptions
from deepresidual.evaluation.result import Evaluation
from deepresidual.evaluation.scoring import scored_batches, until_stopped
from deepresidual.evaluation.setup import EvaluationSetup
from deepresidual.evaluation.views import ViewKind, Views
from deepresidual.models import Classifier, detects_objects
from deepresidual.runtime.compute import ComputeOptions
from deepresidual.runtime.distributed import SINGLE, Processes
from deepresidual.runtime.signals import StopRequest


@overload
def evaluate(
    model: ObjectDetector,
    data: SampleSource | Dataset | str | Path,
    options: EvaluationOptions | None = None,
    **keywords: Unpack[EvaluationKeywords],
) -> DetectionEvaluation: ...


@overload
def evaluate(
    model: Classifier | str | Path,
    data: SampleSource | Dataset | str | Path,
    options: EvaluationOptions | None = None,
    **keywords: Unpack[EvaluationKeywords],
) -> Evaluation: ...


def evaluate(
    model: Classifier | ObjectDetector | str | Path,
    data: SampleSource | Dataset | str | Path,
    options: EvaluationOptions | None = None,
    **keywords: Unpack[EvaluationKeywords],
) -> Evaluation | DetectionEvaluation:
    """Evaluate a model on a data set.

    Args:
        model: A model, or what :func:`deepresidual.load` takes: a folder, a name, a URL and so on.
        data: A data set by name (``digits``, an image folder, a parquet file or folder), or a Python object:
            what :func:`deepresidual.open_dataset` takes, or a :class:`deepresidual.SampleSource`. Of one
            without splits the held-out fifth is measured, of ``{"test": dataset}`` all.
        options: Options of the evaluation.
        keywords: Fields of :class:`deepresidual.evaluation.EvaluationOptions` that replace those of
            ``options``, for example ``split="val"``.

    Returns:
        The metrics, over every sample of the split; of a detector, or its folder, a
        :class:`deepresidual.evaluation.objects.DetectionEvaluation`.

    Raises:
        ConfigurationError: An option is out of range, has no meaning for the model, or the temperature is to
            be fitted on that split.
        DataError: The data cannot be used, or its classes are not the model's.
        ModelFileError: The model cannot be loaded.
        RunError: The file of predictions cannot be written.
    """
    if isinstance(model, ObjectDetector) or (isinstance(model, str | Path) and detects_objects(model)):
        return DetectionSetup.open(model, data, options, **keywords).evaluate()
    return EvaluationSetup.open([cast(Classifier, model)], data, options, **keywords).evaluate()


def evaluate_split(
    model: Classifier,
    split: Readable,
    name: str,
    *,
    views: Views | ViewKind = "one",
    num_workers: int = 0,
    processes: Processes = SINGLE,
    skip_bad: bool = False,
    stop: StopRequest | None = None,
) -> Evaluation:
    """Evaluate on a split whose labels are rows of the model's classifier, in float32, as training does.

    Args:
        model: The model.
        split: The split.
        name: Its name.
        views: Views of every image. Default: the central crop.
        num_workers: Threads that load images.
        processes: Processes among which the batches are dealt out; each sample still counts once.
        skip_bad: Whether unreadable samples are left out of the count instead of being an error.
        stop: Request to stop; checked between batches, and at once while waiting for data.

    Raises:
        StopRequested: A stop was requested on any rank.
    """
    accumulator = Accumulator(model.label_names)
    batches = scored_batches(
        [model],
        split,
        Views.of(views),
        batch_size=ComputeOptions.batch_size,
        num_workers=num_workers,
        precision="fp32",
        processes=processes,
    )
    for batch in until_stopped(batches, stop, processes):
        if not skip_bad:
            require_none_bad(batch.bad)
        accumulator.add(batch.scores[0], batch)
    return accumulator.evaluation(name, processes)
