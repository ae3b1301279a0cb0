"""Ensembles: the mean of several models' probabilities (He et al. 2015, section 4.1 and Table 5).

Beside the metrics of the ensemble stand those of each member alone and of the ensemble without it, which is
what it contributes. Which members to take can be chosen on other samples than those that are reported:
greedily, beginning with the best one and adding the one that helps most, until none helps (Caruana et al.
2004, section 2, without repetition).

Example:
    >>> setup = EvaluationSetup.open(["runs/a", "runs/b", "runs/c"], "photos")
    >>> measured = setup.ensemble(choose_on="val")
    >>> measured.evaluation.top1, [member.contribution for member in measured.members]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from deepresidual.evaluation.metrics import ClassificationSums
from deepresidual.evaluation.result import Evaluation
from deepresidual.evaluation.scoring import ScoredBatch, mean_of_probabilities
from deepresidual.runs.intervals import wilson_interval


@dataclass(frozen=True)
class MemberMetrics:
    """One member of an ensemble, on the split that is reported.

    Attributes:
        name: The model.
        chosen: Whether it belongs to the ensemble.
        top1: Its own top-1 accuracy.
        top5: Its own top-5 accuracy.
        loss: Its own mean cross-entropy in nats.
        top1_interval: 95 % score interval of its top-1 accuracy.
        contribution: Top-1 of the ensemble minus top-1 of the ensemble without it; ``None`` where it is
            alone in the ensemble, or not in it.
    """

    name: str
    chosen: bool
    top1: float
    top5: float
    loss: float
    top1_interval: tuple[float, float]
    contribution: float | None


@dataclass(frozen=True)
class ChoiceStep:
    """One step of the greedy choice: the ensemble after a member was added.

    Attributes:
        name: The member that was added.
        top1: Top-1 accuracy of the ensemble so far, on the split to choose on.
        loss: Its mean cross-entropy there, in nats.
    """

    name: str
    top1: float
    loss: float


@dataclass(frozen=True)
class EnsembleEvaluation:
    """Result of evaluating an ensemble.

    Attributes:
        evaluation: The ensemble's metrics.
        members: The metrics of each member, in the order in which they were named.
        chosen_on: The split that the members were chosen on; empty: all were taken.
        steps: The steps of their choice.
    """

    evaluation: Evaluation
    members: tuple[MemberMetrics, ...]
    chosen_on: str
    steps: tuple[ChoiceStep, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        members = [
            {**dataclasses.asdict(member), "top1_interval": list(member.top1_interval)}
            for member in self.members
        ]
        choice = (
            {"chosen_on": self.chosen_on, "steps": [dataclasses.asdict(step) for step in self.steps]}
            if self.chosen_on
            else {}
        )
        return {**self.evaluation.to_dict(), "members": members, **choice}


class MemberAccumulator:
    """Accumulate the scores of each member alone, and those of the ensemble without it.

    Args:
        names: Names of the members.
        chosen: Indices of those that belong to the ensemble.
    """

    def __init__(self, names: Sequence[str], chosen: Sequence[int], num_classes: int) -> None:
        self._names, self._chosen = names, chosen
        self._alone = [ClassificationSums(num_classes) for _ in names]
        self._without = {member: ClassificationSums(num_classes) for member in chosen if len(chosen) > 1}

    def add(self, batch: ScoredBatch) -> None:
        """Count the scores of a batch."""
        for sums, scores in zip(self._alone, batch.scores, strict=True):
            sums.add(scores, batch.labels)
        for member, sums in self._without.items():
            rest = [other for other in self._chosen if other != member]
            sums.add(mean_of_probabilities(batch.scores[rest]), batch.labels)

    def metrics(self, together: Evaluation) -> tuple[MemberMetrics, ...]:
        """Return the metrics of each member, given those of the ensemble."""
        return tuple(
            MemberMetrics(
                name,
                member in self._chosen,
                sums.top1,
                sums.top5,
                sums.loss,
                wilson_interval(sums.top1_count, sums.count),
                together.top1 - self._without[member].top1 if member in self._without else None,
            )
            for member, (name, sums) in enumerate(zip(self._names, self._alone, strict=True))
        )


def choose_members(scores: torch.Tensor, labels: torch.Tensor) -> list[tuple[int, ClassificationSums]]:
    """Return members in the order in which they are added, each with the metrics of the ensemble so far.

    One ensemble is better than another if it predicts more samples correctly, or as many with a lower loss.
    The choice ends where no member makes it better.

    Args:
        scores: ``(M, N, K)`` of M members.
        labels: ``(N,)`` int64.
    """
    picked: list[tuple[int, ClassificationSums]] = []
    total = torch.zeros(scores.shape[1:], dtype=torch.float64)  # of probabilities
    while len(picked) < len(scores):
        taken = {member for member, _ in picked}
        found: list[tuple[tuple[int, float], int, ClassificationSums]] = []
        for member in range(len(scores)):
            if member in taken:
                continue
            sums = ClassificationSums(scores.shape[2])
            sums.add(_log_mean(total, scores[member], len(picked) + 1), labels)
            found.append(((sums.top1_count, -sums.loss_sum), member, sums))
        # Of equally good ones the first that was named.
        quality, member, sums = max(found, key=lambda entry: (entry[0], -entry[1]))
        if picked and quality <= (picked[-1][1].top1_count, -picked[-1][1].loss_sum):
            break
        picked.append((member, sums))
        total += scores[member].double().softmax(dim=1)
    return picked


def _log_mean(total: torch.Tensor, scores: torch.Tensor, count: int) -> torch.Tensor:
    mean = (total + scores.double().softmax(dim=1)) / count
    # A class that all hold for impossible keeps a finite loss.
    return mean.clamp_min(torch.finfo(torch.float64).tiny).log()
