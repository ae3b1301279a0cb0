"""Multi-label classification: any number of labels an image, binary cross-entropy, mean average precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deepresidual.backends.thresholds import MULTILABEL, Thresholds
from deepresidual.data.mix import apply_mix, choose_mix
from deepresidual.data.source import Split
from deepresidual.evaluation.multilabel import MultilabelEvaluation, evaluate_labels
from deepresidual.models import TorchClassifier
from deepresidual.recipe.balance import positive_weights
from deepresidual.runs.plan import Plan
from deepresidual.runtime.distributed import Processes
from deepresidual.runtime.random import step_generator
from deepresidual.runtime.signals import StopRequest
from deepresidual.tasks.pictures import heat_maps_of_labels, photos_of
from deepresidual.tasks.task import TASKS, BatchSums


class Multilabel:
    """One logit a label, each judged by itself.

    Args:
        plan: The plan of the run: mixing, smoothing, seed, number of labels.
    """

    head: tuple[str, ...] = ("fc.",)
    parts: tuple[str, ...] = ("exact",)
    charts: Mapping[str, str] = MappingProxyType(
        {"loss": "binary cross-entropy (nats)", "exact_match": "images with all labels right"}
    )

    def __init__(self, plan: Plan) -> None:
        self._recipe, self._seed, self._num_labels = plan.recipe, plan.seed, plan.spec.num_classes
        self._weights: Tensor | None = None
        if plan.recipe.balance == "loss":
            self._weights = torch.tensor(positive_weights(plan.class_counts, plan.num_samples))
        self._fingerprint, self._preprocess = plan.fingerprint, plan.preprocess

    def blank_targets(self, count: int) -> Tensor:
        """Return one label in turn."""
        return torch.eye(self._num_labels)[torch.arange(count) % self._num_labels]

    def loss(
        self, network: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, step: int
    ) -> BatchSums:
        """Return the sums of losses, and of images whose labels are all right at 0.5.

        ``targets`` are zeros and ones ``(N, K)``.
        """
        recipe = self._recipe
        wanted = targets.reshape(len(images), self._num_labels).float()
        present = wanted > 0.5
        if recipe.mix:
            choice = choose_mix(
                recipe.mix, step_generator(self._seed, step), images.shape[2], images.shape[3]
            )
            if choice is not None:
                wanted = wanted.clone()
                apply_mix(images, wanted, choice)
        logits = network(images).float()
        exact = ((logits.detach() > 0) == present).all(dim=1).sum()
        return BatchSums(self._loss_of(logits, wanted), {"exact": exact})

    def _loss_of(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over images of the mean, or with ``bce_sum`` the sum, over the labels."""
        recipe = self._recipe
        if recipe.bce_threshold:
            targets = (targets > recipe.bce_threshold).to(targets.dtype)
        if recipe.label_smoothing:
            targets = targets * (1 - recipe.label_smoothing) + recipe.label_smoothing / 2
        weights = None
        if self._weights is not None:
            # A weight of positives multiplies the odds by it, which is taken off again.
            weights = self._weights.to(logits.device)
            logits = logits + weights.log()
        total = functional.binary_cross_entropy_with_logits(
            logits, targets, pos_weight=weights, reduction="sum"
        )
        return total if recipe.bce_sum else total / self._num_labels

    def figures(self, loss: float, parts: Mapping[str, float], count: int) -> dict[str, float]:
        """Return the mean loss of a label in nats, and the share of images with all labels right."""
        labels = self._num_labels if self._recipe.bce_sum else 1
        return {"loss": loss / count / labels, "exact_match": parts["exact"] / count}

    def training_error(self, parts: Mapping[str, float], count: int) -> float:
        """Return the share of training images with a wrong label."""
        return 1 - parts["exact"] / count

    def headline(self, figures: Mapping[str, Any], digits: int) -> str:
        """Return mAP in per cent; of training, the images with all labels right."""
        name, shown = ("map", "mAP") if "map" in figures else ("exact_match", "all right")
        return f"{shown} {figures[name]:.{digits}%}"

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
    ) -> MultilabelEvaluation:
        """Evaluate on the central crop; a model without thresholds chooses some."""
        return evaluate_labels(
            model,
            split,
            name,
            fingerprint=self._fingerprint.get(name, ""),
            num_workers=num_workers,
            processes=processes,
            skip_bad=skip_bad,
            stop=stop,
        )

    def settled(self, model: TorchClassifier, result: MultilabelEvaluation) -> TorchClassifier:
        """Return the model with the thresholds of an evaluation."""
        chosen_on = result.thresholds_from
        thresholds = Thresholds(result.thresholds, chosen_on, self._fingerprint.get(chosen_on, ""))
        return dataclasses.replace(model, thresholds=thresholds)

    def error(self, result: MultilabelEvaluation) -> float:
        """Return 1 − mAP."""
        return 1 - result.map

    def read(self, document: Mapping[str, Any]) -> MultilabelEvaluation:
        """Build an evaluation from ``evaluation.json``."""
        return MultilabelEvaluation.from_dict(document)

    def photos(self, split: Split, result: MultilabelEvaluation) -> dict[str, bytes]:
        """Return the worst mistakes and the surest images whose labels are all right."""
        return photos_of(split, result, self._preprocess)

    def heat_maps(
        self, model: TorchClassifier, split: Split, result: MultilabelEvaluation
    ) -> dict[str, bytes]:
        """Return Grad-CAM of the same images, for the label of the highest loss."""
        return heat_maps_of_labels(model, split, result)


TASKS[MULTILABEL] = Multilabel
