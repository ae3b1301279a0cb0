"""Exact evaluation: every sample of a split counted once, no padding, no dropped rest.

The forward pass is float32 unless another precision is asked for, in training as in ``residual
evaluate``, so the figure that a run ends with is the figure that anyone gets from its model.
"""

from __future__ import annotations

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from residual.data.loader import evaluation_batches
from residual.data.source import SampleSource, open_source
from residual.errors import ConfigurationError, DataError, DivergedError
from residual.evaluation.metrics import Tally
from residual.models import Model, load
from residual.runtime.console import ProgressBar, warn, warn_each
from residual.runtime.device import PrecisionChoice, resolve_device, resolve_num_workers, resolve_precision
from residual.runtime.distributed import ALONE, Ranks
from residual.runtime.signals import StopRequest, StopRequested

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from residual.data.source import EncodedSample, Split

__all__ = [
    "EVALUATION_BATCH_SIZE",
    "Evaluation",
    "EvaluationStopped",
    "Mistake",
    "evaluate",
    "evaluate_split",
]

EVALUATION_BATCH_SIZE = 100


class EvaluationStopped(Exception):  # noqa: N818  # no error: somebody asked
    """The evaluation was broken off because somebody asked for it; ``exit_code`` says how."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Mistake:
    """One sample that the model got wrong.

    Attributes:
        index: Which sample of the split.
        key: Its name.
        label: The true class.
        predicted: The class that the model thought most probable.
        probability: How probable the model thought that class, 0 to 1.
        loss: Cross-entropy of the sample in nats.
    """

    index: int
    key: str
    label: str
    predicted: str
    probability: float
    loss: float


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured.

    Attributes:
        split: Name of the split.
        top1: Fraction whose most probable class is right.
        top5: Fraction whose true class is among the five most probable.
        loss: Mean cross-entropy in nats.
        count: Number of samples; the size of the split.
        classes: Names of the classes.
        confusions: Rows (true, predicted, samples) for every pair of classes that occurred, right ones
            included; a matrix without its zeros.
        mistakes: The worst mistakes, highest loss first.
    """

    split: str
    top1: float
    top5: float
    loss: float
    count: int
    classes: tuple[str, ...]
    confusions: tuple[tuple[int, int, int], ...]
    mistakes: tuple[Mistake, ...]

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Evaluation:
        """Build an evaluation from the JSON types of its fields."""
        return cls(
            **{
                **fields,
                "classes": tuple(fields["classes"]),
                "confusions": tuple(
                    (true, predicted, count) for true, predicted, count in fields["confusions"]
                ),
                "mistakes": tuple(Mistake(**mistake) for mistake in fields["mistakes"]),
            }
        )

    def summary(self) -> dict[str, Any]:
        """Return the four figures and the split as JSON types."""
        return {
            "split": self.split,
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "count": self.count,
        }


def evaluate(
    model: Model | str | Path,
    data: SampleSource | str | Path,
    *,
    split: str | None = None,
    batch_size: int = EVALUATION_BATCH_SIZE,
    num_workers: int | None = None,
    device: str = "auto",
    precision: PrecisionChoice = "fp32",
) -> Evaluation:
    """Evaluate a model on a data set.

    Args:
        model: A model, a model folder or a run folder.
        data: A data set, opened or by name: ``digits``, an image folder, a parquet file or folder.
        split: Which split; ``test`` where there is one, else ``val``.
        batch_size: Images at a time.
        num_workers: Threads that load data; chosen for the machine where left out.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        precision: ``fp32``, ``bf16``, or ``auto`` for bf16 where the hardware has it.

    Returns:
        The figures, over every sample of the split.

    Raises:
        DataError: The data cannot be used, or its classes are not the model's.
        ModelFileError: The model cannot be loaded.
    """
    if batch_size < 1:
        raise ConfigurationError(f"batch_size is {batch_size}", expected="1 or more")
    target = resolve_device(device)
    loaded = (model if isinstance(model, Model) else load(model)).to(target)
    source = data if isinstance(data, SampleSource) else open_source(data)
    warn_each(source.ignored)
    name = split or source.evaluation_split
    chosen = source.split(name)
    labels = _labels_in(loaded, source)
    workers = resolve_num_workers(num_workers, target, loaded.preprocess.crop_px)
    total = -(-len(chosen) // batch_size)
    with ProgressBar(total, label=f"evaluating {name}") as bar:
        return evaluate_split(
            loaded,
            _Relabelled(chosen, labels),
            name,
            batch_size=batch_size,
            num_workers=workers,
            precision=resolve_precision(precision, target),
            on_batch=lambda done, tally: bar.update(done, f"top-1 {tally.top1:.2%}"),
        )


def evaluate_split(
    model: Model,
    split: Split | _Relabelled,
    name: str,
    *,
    batch_size: int = EVALUATION_BATCH_SIZE,
    num_workers: int = 0,
    precision: PrecisionChoice = "fp32",
    num_mistakes: int = 24,
    on_batch: Callable[[int, Tally], None] | None = None,
    ranks: Ranks = ALONE,
    skip_bad: bool = False,
    stop: StopRequest | None = None,
) -> Evaluation:
    """Evaluate on a split whose labels are rows of the model's classifier; see :func:`evaluate`.

    Args:
        model: The model.
        split: The split.
        name: Its name.
        batch_size: Images at a time.
        num_workers: How many load data.
        precision: As for :func:`evaluate`.
        num_mistakes: How many of the worst mistakes to name.
        on_batch: Called after every batch with how many are done and the sums so far.
        ranks: Processes among which the batches are dealt out; each sample still counts once.
        skip_bad: Whether samples that cannot be used are left out of the count; else they are an error.
        stop: Whether somebody asked to stop; heard between batches, and at once while waiting for data.

    Raises:
        EvaluationStopped: Somebody asked, on any rank.
    """
    tally = Tally(model.spec.num_classes)
    worst: list[tuple[float, int, Mistake]] = []
    computed = resolve_precision(precision, model.device)
    batches = evaluation_batches(
        split,
        model.preprocess,
        batch_size=batch_size,
        num_workers=num_workers,
        rank=ranks.rank,
        num_ranks=ranks.size,
    )
    stop = stop or StopRequest()
    for done in itertools.count(1):
        try:
            with stop.at_once():
                batch = next(batches, None)
        except StopRequested:
            break
        if batch is None:
            break
        if not skip_bad:
            batch.require_all_good()
        if not len(batch):
            continue
        # Counting is done on the CPU: the same arithmetic whatever the device, in float64, which some lack.
        logits, labels = model.logits(batch.pixels, computed).cpu(), batch.labels
        losses = tally.add(logits, labels)
        top = model.rank(logits)
        for row in (logits.argmax(dim=1) != labels).nonzero()[:, 0].tolist():
            mistake = Mistake(
                index=int(batch.indices[row]),
                key=batch.keys[row],
                label=model.label_names[int(labels[row])],
                predicted=top[row].classes[0],
                probability=top[row].probabilities[0],
                loss=float(losses[row]),
            )
            entry = (mistake.loss, -mistake.index, mistake)
            if len(worst) < num_mistakes:
                heapq.heappush(worst, entry)
            else:
                heapq.heappushpop(worst, entry)
        if on_batch is not None:
            on_batch(done, tally)
    (exit_code,) = ranks.most(stop.exit_code)
    if exit_code:
        raise EvaluationStopped(exit_code)
    tally = Tally.merged(ranks.gather(tally))
    worst = heapq.nlargest(num_mistakes, [entry for part in ranks.gather(worst) for entry in part])
    if not math.isfinite(tally.loss):
        raise DivergedError(
            f"the loss on {name} is {tally.loss}", remedy="train again with a lower learning rate"
        )
    return Evaluation(
        split=name,
        top1=tally.top1,
        top5=tally.top5,
        loss=tally.loss,
        count=tally.count,
        classes=model.label_names,
        confusions=tuple((*pair, count) for pair, count in sorted(tally.pairs.items())),
        mistakes=tuple(entry[2] for entry in sorted(worst, reverse=True)),
    )


class _Relabelled:
    """A split whose labels are rows of the model's classifier instead of classes of the data set."""

    def __init__(self, split: Split, rows: list[int]) -> None:
        self._split, self._rows = split, rows

    def __len__(self) -> int:
        return len(self._split)

    def read(self, index: int) -> EncodedSample:
        sample = self._split.read(index)
        return type(sample)(sample.key, sample.content, self._rows[sample.label])


def _labels_in(model: Model, source: SampleSource) -> list[int]:
    """Return the classifier's row of every class of the data set, matched by name and never by position."""
    rows = {name: row for row, name in enumerate(model.label_names)}
    unknown = [name for name in source.classes if name not in rows]
    if unknown:
        known = ", ".join(model.label_names[:8]) + (", …" if len(model.label_names) > 8 else "")
        raise DataError(
            f"{source.name} has {len(unknown)} of {len(source.classes)} classes that the model does not know "
            f"({', '.join(unknown[:8])}{', …' if len(unknown) > 8 else ''})",
            expected=f"classes among {known}",
        )
    absent = len(model.label_names) - len(source.classes)
    if absent:
        warn(f"{source.name} has no samples of {absent} of the model's {len(model.label_names)} classes")
    return [rows[name] for name in source.classes]
