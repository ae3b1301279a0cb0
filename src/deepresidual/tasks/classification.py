"""Classification: one label an image, cross-entropy or BCE over the classes, top-1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deepresidual.data.mix import apply_mix, choose_mix, soft_targets
from deepresidual.data.source import Split
from deepresidual.evaluation import Evaluation, evaluate_split
from deepresidual.models import TorchClassifier
from deepresidual.recipe.balance import class_weights, loss_shift
from deepresidual.runs.plan import Plan
from deepresidual.runs.read import CLASSIFICATION_CHARTS
from deepresidual.runtime.distributed import Processes
from deepresidual.runtime.random import step_generator
from deepresidual.runtime.signals import StopRequest
from deepresidual.tasks.pictures import heat_maps_of, photos_of
from deepresidual.tasks.task import TASKS, BatchSums


class Classification:
    """The task of the two papers.

    Args:
        plan: The plan of the run: loss, mixing, seed, number of classes.
    """

    head: tuple[str, ...] = ("fc.",)
    parts: tuple[str, ...] = ("right",)
    charts: Mapping[str, str] = CLASSIFICATION_CHARTS

    def __init__(self, plan: Plan) -> None:
        self._recipe, self._seed, self._num_classes = plan.recipe, plan.seed, plan.spec.num_classes
        self._weights, self._shift = _weights_and_shift(plan)
        self._preprocess = plan.preprocess

    def blank_targets(self, count: int) -> Tensor:
        """Return each class in turn."""
        return torch.arange(count) % self._num_classes

    def loss(
        self, network: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, step: int
    ) -> BatchSums:
        """Return the sums of losses and of right answers; ``targets`` are labels ``(N,)``."""
        recipe, labels = self._recipe, targets
        if recipe.mix or recipe.loss == "bce":
            # A threshold undoes smoothing, so there it comes after.
            early = 0.0 if recipe.loss == "bce" and recipe.bce_threshold else recipe.label_smoothing
            targets = soft_targets(labels, self._num_classes, early)
        if recipe.mix:
            generator = step_generator(self._seed, step)
            choice = choose_mix(recipe.mix, generator, images.shape[2], images.shape[3])
            if choice is not None:
                apply_mix(images, targets, choice)
        logits = network(images).float()
        right = (logits.detach().argmax(dim=1) == labels).sum()
        return BatchSums(self.loss_of(logits, targets), {"right": right})

    def loss_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of losses of ``(N, K)`` logits for labels ``(N,)`` or shares ``(N, K)``."""
        recipe, num_classes = self._recipe, logits.shape[1]
        if recipe.loss == "bce":
            if recipe.bce_threshold:
                # Smoothed after, as the targets of "1 (or 1 − ε with smoothing)" of Wightman et al. 2021: the
                # threshold would undo it.
                present = (targets > recipe.bce_threshold).to(targets.dtype)
                targets = present * (1 - recipe.label_smoothing) + recipe.label_smoothing / num_classes
            total = functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
            return total if recipe.bce_sum else total / num_classes
        smoothing = 0.0 if targets.is_floating_point() else recipe.label_smoothing
        if self._shift is not None:
            logits = logits + self._shift.to(logits.device)
        weights = None if self._weights is None else self._weights.to(logits.device)
        return functional.cross_entropy(logits, targets, weights, reduction="sum", label_smoothing=smoothing)

    def figures(self, loss: float, parts: Mapping[str, float], count: int) -> dict[str, float]:
        """Return mean loss in nats and top-1 as a fraction."""
        return {"loss": loss / count, "top1": parts["right"] / count}

    def training_error(self, parts: Mapping[str, float], count: int) -> float:
        """Return the top-1 error of the training images."""
        return 1 - parts["right"] / count

    def headline(self, figures: Mapping[str, Any], digits: int) -> str:
        """Return top-1 in per cent."""
        return f"top-1 {figures['top1']:.{digits}%}"

    def evaluate(
        self,
        model: TorchClassifier,
        split: Split,
        name: str,
        *,
        num_workers: int,
        processes: Processes,
        skip_bad: bool,
        stop: StopRequest,
    ) -> Evaluation:
        """Evaluate on the central crop."""
        return evaluate_split(
            model,
            split,
            name,
            num_workers=num_workers,
            processes=processes,
            skip_bad=skip_bad,
            stop=stop,
        )

    def settled(self, model: TorchClassifier, result: Evaluation) -> TorchClassifier:  # noqa: ARG002
        """Return the model as it is."""
        return model

    def error(self, result: Evaluation) -> float:
        """Return the top-1 error."""
        return 1 - result.top1

    def read(self, document: Mapping[str, Any]) -> Evaluation:
        """Build an evaluation from ``evaluation.json``."""
        return Evaluation.from_dict(document)

    def photos(self, split: Split, result: Evaluation) -> dict[str, bytes]:
        """Return the worst mistakes and the best hits."""
        return photos_of(split, result, self._preprocess)

    def heat_maps(self, model: TorchClassifier, split: Split, result: Evaluation) -> dict[str, bytes]:
        """Return Grad-CAM of the same images."""
        return heat_maps_of(model, split, result)


def _weights_and_shift(plan: Plan) -> tuple[Tensor | None, Tensor | None]:
    """Return the weights of the classes in the loss, and what is added to the logits before it."""
    recipe, counts = plan.recipe, plan.class_counts
    weights = torch.tensor(class_weights(counts)) if recipe.balance == "loss" else None
    shift = loss_shift(counts, recipe.balance, recipe.class_prior)
    return weights, torch.tensor(shift) if any(shift) else None


TASKS["classification"] = Classification
