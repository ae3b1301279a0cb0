"""``Accumulator``: sums, worst mistakes and best predictions of a split, added up batch by batch."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from deepresidual.errors import DataError, DivergedError
from deepresidual.evaluation.calibration import Temperature, bins_of
from deepresidual.evaluation.metrics import ClassificationSums, SampleFigures
from deepresidual.evaluation.result import CorrectPrediction, Evaluation, Mistake
from deepresidual.evaluation.results import columns_of
from deepresidual.evaluation.scoring import ScoredBatch
from deepresidual.runtime.distributed import SINGLE, Processes
from deepresidual.runtime.table_file import Columns

# How many of the worst mistakes, and of the surest correct predictions, are named.
_NUM_MISTAKES, _NUM_BEST = 24, 12


@dataclass(frozen=True)
class FittedTemperature:
    """A temperature and its origin.

    Attributes:
        value: Divides the logits.
        split: The split that it was fitted on.
        count: Samples of that split.
    """

    value: float
    split: str
    count: int


class Accumulator:
    """Accumulate the scores of one model, or one ensemble, on one split into an :class:`Evaluation`.

    Args:
        classes: Names of the classes, in the order of the scores.
        temperature: A temperature whose effect is measured as well.
        write: Takes the rows of every batch: the results of single images.
        top_k: Number of classes in such a row.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        *,
        temperature: FittedTemperature | None = None,
        write: Callable[[Columns], None] | None = None,
        top_k: int = 1,
    ) -> None:
        self.sums = ClassificationSums(len(classes))
        self._classes = classes
        self._worst: list[tuple[float, int, Mistake]] = []
        # Class → loss, index, key and probability of the correct prediction with the lowest loss.
        self._best: dict[int, tuple[float, int, str, float]] = {}
        self._temperature = temperature
        self._cooled_sums = ClassificationSums(len(classes))
        self._write, self._top_k = write, top_k

    def status(self) -> str:
        """Return the top-1 accuracy so far, for a progress bar."""
        return f"top-1 {self.sums.top1:.2%}"

    def add(self, scores: torch.Tensor, batch: ScoredBatch) -> None:
        """Count the scores ``(N, K)`` of a batch."""
        if not len(batch.labels):
            return
        samples = self.sums.add(scores, batch.labels)
        if self._temperature is not None:
            self._cooled_sums.add(scores.double() / self._temperature.value, batch.labels)
        for row in (samples.predicted != batch.labels).nonzero()[:, 0].tolist():
            mistake = Mistake(
                index=int(batch.indices[row]),
                key=batch.keys[row],
                label=self._classes[int(batch.labels[row])],
                predicted=self._classes[int(samples.predicted[row])],
                probability=float(samples.confidences[row]),
                loss=float(samples.losses[row]),
            )
            entry = (mistake.loss, -mistake.index, mistake)
            if len(self._worst) < _NUM_MISTAKES:
                heapq.heappush(self._worst, entry)
            else:
                heapq.heappushpop(self._worst, entry)
        self._keep_best(samples, batch)
        if self._write is not None:
            self._write(
                columns_of(scores, batch.labels, samples.losses, batch.keys, self._classes, self._top_k)
            )

    def to_dict(self) -> dict[str, Any]:
        """Return what was accumulated as JSON types, without rows and temperature; see :meth:`joined`."""
        return {
            "sums": self.sums.to_dict(),
            "worst": [dataclasses.asdict(mistake) for _, _, mistake in self._worst],
            "best": [[label, *entry] for label, entry in self._best.items()],
        }

    @classmethod
    def joined(cls, classes: tuple[str, ...], parts: Sequence[Mapping[str, Any]]) -> Accumulator:
        """Return an accumulator as if it had seen all that ``parts``, in their order, have seen.

        Args:
            classes: As for the class.
            parts: What :meth:`to_dict` returned of each.
        """
        whole = cls(classes)
        whole.sums = ClassificationSums.joined([ClassificationSums.from_dict(part["sums"]) for part in parts])
        mistakes = [Mistake(**fields) for part in parts for fields in part["worst"]]
        whole._worst = [(mistake.loss, -mistake.index, mistake) for mistake in mistakes]
        for part in parts:
            for label, loss, index, key, probability in part["best"]:
                entry = (loss, index, key, probability)
                whole._best[label] = min(whole._best.get(label, entry), entry)
        return whole

    def _keep_best(self, samples: SampleFigures, batch: ScoredBatch) -> None:
        # As lists: to read one number of a tensor takes as long as this loop does for ten samples.
        rows = zip(
            batch.labels.tolist(),
            samples.predicted.tolist(),
            samples.losses.tolist(),
            batch.indices.tolist(),
            batch.keys,
            strict=True,
        )
        for row, (label, predicted, loss, index, key) in enumerate(rows):
            if predicted == label and (label not in self._best or (loss, index) < self._best[label][:2]):
                self._best[label] = (loss, index, key, float(samples.confidences[row]))

    def _merged_best(
        self, parts: list[dict[int, tuple[float, int, str, float]]]
    ) -> tuple[CorrectPrediction, ...]:
        """Return the surest correct predictions of all ranks, each of another class."""
        best: dict[int, tuple[float, int, str, float]] = {}
        for part in parts:
            for label, entry in part.items():
                best[label] = min(best.get(label, entry), entry)
        ordered = sorted((entry, label) for label, entry in best.items())[:_NUM_BEST]
        return tuple(
            CorrectPrediction(index, key, self._classes[label], probability, loss)
            for (loss, index, key, probability), label in ordered
        )

    def evaluation(self, split: str, processes: Processes = SINGLE) -> Evaluation:
        """Return the metrics over the samples of all ranks.

        Raises:
            DataError: There is no sample that could be used.
            DivergedError: The loss is not finite.
        """
        sums = ClassificationSums.merged(processes.all_gather(self.sums))
        worst = [entry for part in processes.all_gather(self._worst) for entry in part]
        best = self._merged_best(processes.all_gather(self._best))
        if not sums.count:
            raise DataError(f"{split} has no sample that can be used", remedy="see 'residual check'")
        if not math.isfinite(sums.loss):
            raise DivergedError(
                f"the loss on {split} is {sums.loss}", remedy="train again with a lower learning rate"
            )
        temperature = None
        if self._temperature is not None:
            fitted, cooled = (
                self._temperature,
                ClassificationSums.merged(processes.all_gather(self._cooled_sums)),
            )
            temperature = Temperature(fitted.value, fitted.split, fitted.count, cooled.loss, bins_of(cooled))
        return Evaluation(
            split=split,
            top1=sums.top1,
            top5=sums.top5,
            loss=sums.loss,
            count=sums.count,
            classes=self._classes,
            confusions=tuple((*pair, count) for pair, count in sorted(sums.pairs.items())),
            mistakes=tuple(entry[2] for entry in heapq.nlargest(_NUM_MISTAKES, worst)),
            bins=bins_of(sums),
            best=best,
            temperature=temperature,
        )
