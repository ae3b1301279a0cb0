"""Choose the probability from which on a model answers, so that a share of its answers is right.

The threshold is the smallest one for which the share of right answers is at least the target *with 95 %
confidence*: the one-sided lower bound of Clopper and Pearson (1934) of the answered images. The observed
share alone would not do: with the smallest threshold whose answers reach the target on 60 to 3,000 images,
the true share is below the target in 52 to 59 of 100 cases; with the bound in 3 to 9, from 200 images on.
(Simulated: 600 draws, target 0.95, calibrated probabilities, 87 % right. The bound does not pay for the
choice among many thresholds, hence nine instead of five.) The price is that few images show little: a target
of 0.95 takes 59 answers without a mistake.

Probabilities are those that prediction shows: of the central view, without a temperature.

Example:
    >>> answers = Answers()
    >>> answers.add(scores, labels)
    >>> answers.choose(0.95, "val", fingerprint)
    Abstention(min_probability=0.83, precision_target=0.95, chosen_on='val', count=620, answered=390, …)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepresidual.backends.abstention import Abstention
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.evaluation.result import AbstentionMetrics

_RISK = 0.05
"""One minus the confidence of the lower bound."""
_REMEDY = "give more images, or a lower --precision-target"


class Answers:
    """Probabilities of the best classes of a split, and whether these are right."""

    def __init__(self) -> None:
        self._confidences: list[torch.Tensor] = []
        self._correct: list[torch.Tensor] = []

    def add(self, scores: torch.Tensor, labels: torch.Tensor) -> None:
        """Add a batch: logits ``(N, K)`` and true classes ``(N,)``."""
        predicted = scores.argmax(dim=1)
        self._confidences.append(scores.double().softmax(dim=1).gather(1, predicted[:, None])[:, 0])
        self._correct.append(predicted == labels)

    def to_dict(self) -> dict[str, Any]:
        """Return what was added as JSON types."""
        confidences, correct = self._arrays()
        return {"confidences": confidences.tolist(), "correct": correct.tolist()}

    @classmethod
    def joined(cls, parts: Sequence[Mapping[str, Any]]) -> Answers:
        """Return the answers of all ``parts``, each what :meth:`to_dict` returned."""
        whole = cls()
        for part in parts:
            whole._confidences.append(torch.tensor(part["confidences"], dtype=torch.float64))
            whole._correct.append(torch.tensor(part["correct"], dtype=torch.bool))
        return whole

    def measured(self, rule: Abstention, fingerprint: str) -> AbstentionMetrics:
        """Return what a threshold gives on these images.

        Args:
            rule: The threshold.
            fingerprint: Fingerprint of the images, to tell whether they are those it was chosen on.
        """
        confidences, correct = self._arrays()
        is_answered = confidences >= rule.min_probability
        return AbstentionMetrics(
            rule=rule,
            is_chosen_here=fingerprint == rule.fingerprint,
            count=len(confidences),
            answered=int(is_answered.sum()),
            correct=int((correct & is_answered).sum()),
        )

    def choose(self, target: float, split: str, fingerprint: str) -> Abstention:
        """Return the smallest threshold that is shown to give the target.

        Args:
            target: Share of the answers that are to be right, above 0 and below 1.
            split: Name of the split that these images are.
            fingerprint: Its fingerprint.

        Raises:
            ConfigurationError: The target is out of range.
            DataError: The target cannot be shown on so few images, or is not reached; the message says what
                would be needed, or is.
        """
        confidences, correct = self._arrays()
        total = len(confidences)
        require_enough(total, target, split)
        order = np.argsort(-confidences, kind="stable")
        ranked, right = confidences[order], np.cumsum(correct[order], dtype=np.int64)
        counts = np.arange(1, total + 1)
        bounds = lower_bounds(right, counts)
        # Equal probabilities are answered together: a threshold stands only behind the last of them.
        is_last = np.append(ranked[1:] < ranked[:-1], True)
        shown = np.flatnonzero((bounds >= target) & is_last)
        if not len(shown):
            best = int(np.argmax(np.where(is_last, bounds, 0)))
            raise DataError(
                f"on {total:,} images of {split} a precision of {target} is not shown at any probability: of "
                f"the {counts[best]:,} surest answers {right[best]:,} are right, which shows "
                f"{math.floor(100 * bounds[best]) / 100}",
                remedy=_REMEDY,
            )
        last = int(shown[-1])
        below = float(ranked[last + 1]) if last + 1 < total else 0.0
        return Abstention(
            min_probability=_between(below, float(ranked[last])),
            precision_target=target,
            chosen_on=split,
            count=total,
            answered=int(counts[last]),
            correct=int(right[last]),
            fingerprint=fingerprint,
        )

    def _arrays(self) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        return torch.cat(self._confidences).numpy(), torch.cat(self._correct).numpy()


def require_enough(num_images: int, target: float, split: str) -> None:
    """Refuse a target that could not be shown even if all answers were right.

    Raises:
        ConfigurationError: The target is out of range.
        DataError: There are too few images; the message says how many are needed.
    """
    if not 0 < target < 1:
        raise ConfigurationError(f"precision_target is {target}", expected="a number above 0 and below 1")
    needed = answers_needed(target)
    if num_images < needed:
        raise DataError(
            f"with {num_images:,} images of {split} a precision of {target} cannot be shown: {needed:,} "
            "answers without a mistake are needed",
            remedy=_REMEDY,
        )


def answers_needed(target: float) -> int:
    """Return how many answers without a mistake show a target: the smallest n with targetⁿ ≤ 0.05."""
    return math.ceil(math.log(_RISK) / math.log(target))


def lower_bounds(correct: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the one-sided 95 % lower bounds of shares (Clopper and Pearson 1934).

    Args:
        correct: Number of correct ones.
        counts: Of how many; at least 1.
    """
    from scipy.special import betaincinv

    bounds: NDArray[np.float64] = np.asarray(
        betaincinv(np.maximum(correct, 1), counts - correct + 1, _RISK), dtype=np.float64
    )
    bounds[correct == 0] = 0
    return bounds


def _between(low: float, high: float) -> float:
    """Return a short number above ``low`` and at most ``high``.

    So the last digits, in which machines differ, do not decide about the image at the threshold.
    """
    middle = (low + high) / 2
    for digits in range(2, 9):
        if low < (short := round(middle, digits)) < high:
            return short
    return high
