"""Ensembles: the mean of several models' probabilities (He et al. 2015, section 4.1 and Table 5).

Beside the figures of the ensemble stand those of each member alone and of the ensemble without it, which is
what it contributes. Which members to take can be chosen on other samples than those that are reported:
greedily, beginning with the best one and adding the one that helps most, until none helps (Caruana et al.
2004, section 2, without repetition).

Example:
    >>> measured = evaluate_ensemble(["runs/a", "runs/b", "runs/c"], "photos", choose_on="val")
    >>> measured.evaluation.top1, [member.contribution for member in measured.members]
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from deepresidual.errors import ConfigurationError
from deepresidual.evaluation.evaluation import opened_results
from deepresidual.evaluation.intervals import wilson_interval
from deepresidual.evaluation.measurement import FittedTemperature, Measurement
from deepresidual.evaluation.metrics import ClassificationSums
from deepresidual.evaluation.scoring import mean_of_probabilities
from deepresidual.evaluation.task import EVALUATION_BATCH_SIZE, fitted_temperature, open_task

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from deepresidual.data.source import SampleSource
    from deepresidual.evaluation.figures import Evaluation
    from deepresidual.evaluation.views import Views
    from deepresidual.models import TorchClassifier
    from deepresidual.runtime.device import PrecisionChoice

__all__ = ["ChoiceStep", "EnsembleEvaluation", "MemberFigures", "choose_members", "evaluate_ensemble"]


@dataclass(frozen=True)
class MemberFigures:
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
    """What was measured of an ensemble.

    Attributes:
        evaluation: The ensemble's figures.
        members: Each member's, in the order in which they were named.
        chosen_on: The split that the members were chosen on; empty: all were taken.
        steps: How they were chosen.
    """

    evaluation: Evaluation
    members: tuple[MemberFigures, ...]
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


def evaluate_ensemble(
    models: Sequence[TorchClassifier | str | Path],
    data: SampleSource | str | Path,
    *,
    choose_on: str | None = None,
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
) -> EnsembleEvaluation:
    """Evaluate the mean of several models' probabilities; every image is decoded once.

    Args:
        models: Two or more models that know the same classes, in any order.
        data: As for :func:`deepresidual.evaluate`, like all arguments that are not here.
        choose_on: Another split, to choose the members on; all are taken where left out.
        split: Which split to report; ``test`` where there is one, else ``val``.
        views: What every member sees of an image; its own preprocessing holds.
        validation: Share of the training images to call ``val``.
        fit_temperature: Another split, to fit a temperature of the ensemble on.
        predictions: A file for the ensemble's results of single images.
        top_k: How many classes to name there.
        batch_size: Images at a time.
        num_workers: Threads that load data.
        device: Where to compute; all members are there at once.
        precision: Precision of the forward passes.

    Raises:
        ConfigurationError: There are fewer than two models, they know different classes, or the split to
            choose or fit on is the one that is reported.
        DataError, ModelFileError, RunError: As for :func:`deepresidual.evaluate`.
    """
    if len(models) < 2:
        raise ConfigurationError(f"an ensemble of {len(models)}", expected="2 models or more")
    task = open_task(
        models,
        data,
        split=split,
        views=views,
        validation=validation,
        batch_size=batch_size,
        num_workers=num_workers,
        device=device,
        precision=precision,
    )
    names, num_classes = task.names, len(task.classes)
    with opened_results(predictions, num_classes, top_k) as write:
        chosen, steps = list(range(len(models))), list[ChoiceStep]()
        chosen_on = "" if choose_on is None else task.other_split(choose_on, "choose members on")
        fitted_on = (
            "" if fit_temperature is None else task.other_split(fit_temperature, "fit a temperature on")
        )
        others = {
            other: task.all_scores(other, f"scoring {other}") for other in {chosen_on, fitted_on} if other
        }
        if chosen_on:
            picked = choose_members(*others[chosen_on])
            chosen = [member for member, _ in picked]
            steps = [ChoiceStep(names[member], tally.top1, tally.loss) for member, tally in picked]
        temperature: FittedTemperature | None = None
        if fitted_on:
            scores, labels = others[fitted_on]
            temperature = fitted_temperature(mean_of_probabilities(scores[chosen]), labels, fitted_on)
        others.clear()

        together = Measurement(task.classes, temperature=temperature, write=write, top_k=top_k)
        alone = [ClassificationSums(num_classes) for _ in names]
        without = {member: ClassificationSums(num_classes) for member in chosen if len(chosen) > 1}
        for batch in task.scores(task.split, status=lambda: f"top-1 {together.tally.top1:.2%}"):
            for tally, scores in zip(alone, batch.scores, strict=True):
                tally.add(scores, batch.labels)
            for member, tally in without.items():
                rest = [other for other in chosen if other != member]
                tally.add(mean_of_probabilities(batch.scores[rest]), batch.labels)
            together.add(mean_of_probabilities(batch.scores[chosen]), batch)
        evaluation = together.evaluation(task.split)
    members = tuple(
        MemberFigures(
            name,
            member in chosen,
            tally.top1,
            tally.top5,
            tally.loss,
            wilson_interval(tally.top1_count, tally.count),
            evaluation.top1 - without[member].top1 if member in without else None,
        )
        for member, (name, tally) in enumerate(zip(names, alone, strict=True))
    )
    return EnsembleEvaluation(evaluation, members, chosen_on, tuple(steps))


def choose_members(scores: torch.Tensor, labels: torch.Tensor) -> list[tuple[int, ClassificationSums]]:
    """Return members in the order in which they are added, each with the figures of the ensemble so far.

    One ensemble is better than another if it has more samples right, or as many and a lower loss. The choice
    ends where no member makes it better.

    Args:
        scores: ``(M, N, K)`` of M members.
        labels: ``(N,)`` int64.
    """
    picked: list[tuple[int, ClassificationSums]] = []
    sums = torch.zeros(scores.shape[1:], dtype=torch.float64)  # of probabilities
    while len(picked) < len(scores):
        taken = {member for member, _ in picked}
        found: list[tuple[tuple[int, float], int, ClassificationSums]] = []
        for member in range(len(scores)):
            if member in taken:
                continue
            tally = ClassificationSums(scores.shape[2])
            tally.add(_log_mean(sums, scores[member], len(picked) + 1), labels)
            found.append(((tally.top1_count, -tally.loss_sum), member, tally))
        # Of equally good ones the first that was named.
        quality, member, tally = max(found, key=lambda entry: (entry[0], -entry[1]))
        if picked and quality <= (picked[-1][1].top1_count, -picked[-1][1].loss_sum):
            break
        picked.append((member, tally))
        sums += scores[member].double().softmax(dim=1)
    return picked


def _log_mean(sums: torch.Tensor, scores: torch.Tensor, count: int) -> torch.Tensor:
    mean = (sums + scores.double().softmax(dim=1)) / count
    # A class that all hold for impossible keeps a finite loss.
    return mean.clamp_min(torch.finfo(torch.float64).tiny).log()
