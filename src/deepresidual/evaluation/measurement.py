"""``Measurement``: sums, worst mistakes and results of single images, added up batch by batch."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepresidual.errors import DataError, DivergedError
from deepresidual.evaluation.calibration import Temperature, bins_of
from deepresidual.evaluation.figures import CorrectPrediction, Evaluation, Mistake
from deepresidual.evaluation.metrics import ClassificationSums
from deepresidual.evaluation.results import columns_of
from deepresidual.runtime.distributed import SINGLE, Processes

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from deepresidual.evaluation.metrics import SampleFigures
    from deepresidual.evaluation.results import Columns
    from deepresidual.evaluation.scoring import ScoredBatch

__all__ = ["FittedTemperature", "Measurement"]


@dataclass(frozen=True)
class FittedTemperature:
    """A temperature and where it comes from.

    Attributes:
        value: Divides the logits.
        split: The split that it was fitted on.
        count: Samples of that split.
    """

    value: float
    split: str
    count: int


class Measurement:
    """What is measured of the scores of one model, or one ensemble, on one split.

    Args:
        classes: Names of the classes, in the order of the scores.
        num_mistakes: How many of the worst mistakes to name.
        num_best: How many of the surest hits to name, each of another class.
        temperature: Measured as well, where there is one.
        write: Takes the rows of every batch, where results of single images are wanted.
        top_k: How many classes such a row names.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        *,
        num_mistakes: int = 24,
        num_best: int = 12,
        temperature: FittedTemperature | None = None,
        write: Callable[[Columns], None] | None = None,
        top_k: int = 1,
    ) -> None:
        self.tally = ClassificationSums(len(classes))
        self._classes = classes
        self._num_mistakes = num_mistakes
        self._worst: list[tuple[float, int, Mistake]] = []
        self._num_best = num_best
        # Class → loss, index, key and probability of the hit with the lowest loss.
        self._best: dict[int, tuple[float, int, str, float]] = {}
        self._temperature = temperature
        self._cooled = ClassificationSums(len(classes))
        self._write, self._top_k = write, top_k

    def add(self, scores: torch.Tensor, batch: ScoredBatch) -> None:
        """Count the scores ``(N, K)`` of a batch."""
        if not len(batch.labels):
            return
        figures = self.tally.add(scores, batch.labels)
        if self._temperature is not None:
            self._cooled.add(scores.double() / self._temperature.value, batch.labels)
        for row in (figures.predicted != batch.labels).nonzero()[:, 0].tolist():
            mistake = Mistake(
                index=int(batch.indices[row]),
                key=batch.keys[row],
                label=self._classes[int(batch.labels[row])],
                predicted=self._classes[int(figures.predicted[row])],
                probability=float(figures.confidences[row]),
                loss=float(figures.losses[row]),
            )
            entry = (mistake.loss, -mistake.index, mistake)
            if len(self._worst) < self._num_mistakes:
                heapq.heappush(self._worst, entry)
            else:
                heapq.heappushpop(self._worst, entry)
        self._keep_best(figures, batch)
        if self._write is not None:
            self._write(
                columns_of(scores, batch.labels, figures.losses, batch.keys, self._classes, self._top_k)
            )

    def _keep_best(self, figures: SampleFigures, batch: ScoredBatch) -> None:
        # As lists: to read one number of a tensor takes as long as this loop does for ten samples.
        rows = zip(
            batch.labels.tolist(),
            figures.predicted.tolist(),
            figures.losses.tolist(),
            batch.indices.tolist(),
            batch.keys,
            strict=True,
        )
        for row, (label, predicted, loss, index, key) in enumerate(rows):
            if predicted == label and (label not in self._best or (loss, index) < self._best[label][:2]):
                self._best[label] = (loss, index, key, float(figures.confidences[row]))

    def _hits(self, parts: list[dict[int, tuple[float, int, str, float]]]) -> tuple[CorrectPrediction, ...]:
        """Return the surest hits of different classes of all ranks."""
        best: dict[int, tuple[float, int, str, float]] = {}
        for part in parts:
            for label, entry in part.items():
                best[label] = min(best.get(label, entry), entry)
        ordered = sorted((entry, label) for label, entry in best.items())[: self._num_best]
        return tuple(
            CorrectPrediction(index, key, self._classes[label], probability, loss)
            for (loss, index, key, probability), label in ordered
        )

    def evaluation(self, split: str, processes: Processes = SINGLE) -> Evaluation:
        """Return the figures over the samples of all ranks.

        Raises:
            DataError: There is no sample that could be used.
            DivergedError: The loss is not finite.
        """
        tally = ClassificationSums.merged(processes.all_gather(self.tally))
        worst = [entry for part in processes.all_gather(self._worst) for entry in part]
        best = self._hits(processes.all_gather(self._best))
        if not tally.count:
            raise DataError(f"{split} has no sample that can be used", remedy="see 'residual check'")
        if not math.isfinite(tally.loss):
            raise DivergedError(
                f"the loss on {split} is {tally.loss}", remedy="train again with a lower learning rate"
            )
        temperature = None
        if self._temperature is not None:
            fitted, cooled = self._temperature, ClassificationSums.merged(processes.all_gather(self._cooled))
            temperature = Temperature(fitted.value, fitted.split, fitted.count, cooled.loss, bins_of(cooled))
        return Evaluation(
            split=split,
            top1=tally.top1,
            top5=tally.top5,
            loss=tally.loss,
            count=tally.count,
            classes=self._classes,
            confusions=tuple((*pair, count) for pair, count in sorted(tally.pairs.items())),
            mistakes=tuple(entry[2] for entry in heapq.nlargest(self._num_mistakes, worst)),
            bins=bins_of(tally),
            best=best,
            temperature=temperature,
        )
