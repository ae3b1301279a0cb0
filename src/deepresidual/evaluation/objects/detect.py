"""Let a detector see the images of a split, on one process or several, and measure what it finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from deepresidual.backends.detector import TorchDetector, window_of_view
from deepresidual.backends.object_detector import ObjectDetector
from deepresidual.data.loader import BadSample, evaluation_batches, require_none_bad
from deepresidual.data.objects import Objects, ObjectsBatch
from deepresidual.data.source import Split
from deepresidual.data.source.annotated.split import image_id_of, objects_of
from deepresidual.evaluation.objects.measure import measure
from deepresidual.evaluation.objects.result import DetectionEvaluation
from deepresidual.evaluation.scoring import until_stopped
from deepresidual.runtime.distributed import SINGLE, Processes
from deepresidual.runtime.signals import StopRequest

BATCH_SIZE = 8
"""Images that are read together in training; what is found does not depend on it."""


@dataclass(frozen=True)
class DetectedBatch:
    """What was found in some images of a split.

    Attributes:
        indices: Which images.
        found: What was found in each, in pixels of the upright image.
        loss: Sum of the losses of training; 0 where they were not asked for.
        bad: Images that could not be used.
    """

    indices: list[int]
    found: list[Objects]
    loss: float
    bad: list[BadSample]


def detected_batches(
    model: ObjectDetector,
    split: Split,
    *,
    batch_size: int = BATCH_SIZE,
    num_workers: int = 0,
    processes: Processes = SINGLE,
    with_loss: bool = False,
) -> Iterator[DetectedBatch]:
    """Yield what a detector finds in every image of a split, once and in order.

    Args:
        model: The detector.
        split: The split; for the loss its labels are the detector's.
        batch_size: Images that are read together.
        num_workers: Threads that load images.
        processes: Processes among which the batches are dealt out.
        with_loss: Compute the losses of training, too; of a detector that PyTorch computes.
    """
    batches = evaluation_batches(
        split,
        model.preprocess,
        batch_size=batch_size,
        num_workers=num_workers,
        rank=processes.rank,
        num_ranks=processes.size,
    )
    for batch in batches:
        if not isinstance(batch.targets, ObjectsBatch):
            yield DetectedBatch([], [], 0.0, batch.bad)
            continue
        pixels, objects = batch.pixels.numpy(), list(batch.targets)
        if with_loss:
            found, losses = cast(TorchDetector, model).detections_and_losses(pixels, objects, batch.keys)
        else:
            windows = [window_of_view(each) for each in objects]
            found, losses = model.detections(pixels, windows, batch.keys), {}
        yield DetectedBatch(batch.indices.tolist(), found, sum(losses.values()), batch.bad)


def evaluate_detections(
    model: TorchDetector,
    split: Split,
    name: str,
    *,
    num_workers: int = 0,
    processes: Processes = SINGLE,
    skip_bad: bool = False,
    stop: StopRequest | None = None,
) -> DetectionEvaluation:
    """Evaluate a detector on a split whose labels are its classes, with the loss of training.

    Args:
        model: The detector.
        split: The split.
        name: Its name.
        num_workers: Threads that load images.
        processes: Processes among which the batches are dealt out; each image still counts once.
        skip_bad: Whether unreadable images are left out instead of being an error.
        stop: Request to stop; checked between batches, and at once while waiting for data.

    Raises:
        DataError: An image cannot be used.
        StopRequested: A stop was requested on any rank.
    """
    found: dict[int, Objects] = {}
    loss = 0.0
    batches = detected_batches(model, split, num_workers=num_workers, processes=processes, with_loss=True)
    for batch in until_stopped(batches, stop, processes):
        if not skip_bad:
            require_none_bad(batch.bad)
        found.update(zip(batch.indices, batch.found, strict=True))
        loss += batch.loss
    return _measured(model, split, name, found, loss, processes)


def _measured(
    model: TorchDetector,
    split: Split,
    name: str,
    found: dict[int, Objects],
    loss: float,
    processes: Processes,
) -> DetectionEvaluation:
    """Gather what was found, in the order of the images, and measure it on the main process."""
    evaluation: DetectionEvaluation | None = None
    parts = processes.all_gather((found, loss))
    with processes.failing_together():
        if processes.is_main:
            everything = {index: objects for part, _ in parts for index, objects in part.items()}
            indices = sorted(everything)
            measured = measure(
                name,
                [everything[index] for index in indices],
                [objects_of(split, index) for index in indices],
                model.label_names,
                keys=[split.key(index) for index in indices],
                image_ids=[image_id_of(split, index) for index in indices],
                loss=sum(part for _, part in parts) / max(1, len(indices)),
            )
            evaluation = _numbered_as_in_split(measured, indices)
    everywhere = processes.broadcast(evaluation)
    assert everywhere is not None  # noqa: S101  # the main process has measured it
    return everywhere


def _numbered_as_in_split(evaluation: DetectionEvaluation, indices: Sequence[int]) -> DetectionEvaluation:
    """Return an evaluation whose mistakes name images of the split, of which bad ones were left out."""
    false, missed = (
        tuple(dataclasses.replace(mistake, index=indices[mistake.index]) for mistake in mistakes)
        for mistakes in (evaluation.false, evaluation.missed)
    )
    return dataclasses.replace(evaluation, false=false, missed=missed)
