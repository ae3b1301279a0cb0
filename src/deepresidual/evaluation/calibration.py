"""Calibration: whether the probabilities that a model gives are how often it is right (Guo et al. 2017).

Samples are sorted into 15 bins of equal width by the probability of the predicted class. Where a model is
calibrated the mean of that probability in a bin, its confidence, is the share that is right, its accuracy;
the expected calibration error (ECE) is the mean distance between the two. Dividing all logits by one number,
the temperature, which is fitted on samples that are not reported, leaves every ranking as it is and usually
brings the two together.

Example:
    >>> fit_temperature(logits, labels)
    1.73
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepresidual.errors import DataError
from deepresidual.evaluation.metrics import CONFIDENCE_UNIT, NUM_BINS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import torch

    from deepresidual.evaluation.metrics import ClassificationSums

__all__ = ["Bin", "Temperature", "bins_of", "expected_calibration_error", "fit_temperature"]

# Fits end here where the samples want all or no confidence: with every one right, the sharper the better.
_COLDEST, _HOTTEST = 0.01, 100.0
_MOST_STEPS = 200


@dataclass(frozen=True)
class Bin:
    """Samples whose predicted class is about equally probable; one bar of a reliability diagram.

    Attributes:
        low: Where the bin begins, exclusive.
        high: Where it ends, inclusive.
        count: Samples in it; bins without any are left out.
        confidence: Mean probability of the predicted class.
        accuracy: Share of the samples whose predicted class is correct.
    """

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Temperature:
    """Metrics after temperature scaling: all logits divided by a temperature.

    Attributes:
        value: The temperature; above 1 where the model was too sure of itself.
        split: The split that it was fitted on.
        fit_count: Samples of that split.
        loss: Mean cross-entropy on the split that is reported, in nats, after it.
        bins: Calibration on that split after it.
    """

    value: float
    split: str
    fit_count: int
    loss: float
    bins: tuple[Bin, ...]

    @property
    def ece(self) -> float:
        """Expected calibration error after it, 0 to 1."""
        return expected_calibration_error(self.bins)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Temperature:
        """Build a record from the JSON types of its fields."""
        known = {name: fields[name] for name in ("value", "split", "fit_count", "loss")}
        return cls(**known, bins=tuple(Bin(**row) for row in fields["bins"]))


def bins_of(sums: ClassificationSums) -> tuple[Bin, ...]:
    """Return the bins that hold samples, the least confident first."""
    return tuple(
        Bin(
            number / NUM_BINS,
            (number + 1) / NUM_BINS,
            count,
            units * CONFIDENCE_UNIT / count,
            correct / count,
        )
        for number, (count, units, correct) in enumerate(sums.bins.tolist())
        if count
    )


def expected_calibration_error(bins: Iterable[Bin]) -> float:
    """Return the mean distance between confidence and accuracy, 0 to 1 (Guo et al. 2017, equation 3)."""
    bins = list(bins)
    total = sum(part.count for part in bins)
    return sum(part.count / total * abs(part.accuracy - part.confidence) for part in bins)


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the temperature that minimizes the mean cross-entropy of ``logits / temperature``.

    The cross-entropy is convex in the inverse β of the temperature; its slope, the mean of z over the
    classes, weighted by their probabilities, minus z of the true class, is brought to zero by Newton's steps
    that a bracket keeps from leaving. Computed in float64.

    Args:
        logits: ``(N, K)``, or logarithms of probabilities.
        labels: ``(N,)`` int64.

    Returns:
        The temperature, within 0.01 to 100.

    Raises:
        DataError: There are no samples.
    """
    if not len(labels):
        raise DataError("there are no samples to fit a temperature on", remedy="name another split")
    scores = logits.double()
    true = scores.gather(1, labels[:, None])[:, 0]

    def slope_and_curvature(beta: float) -> tuple[float, float]:
        probabilities = (beta * scores).softmax(dim=1)
        mean = (probabilities * scores).sum(dim=1)
        square = (probabilities * scores.square()).sum(dim=1)
        return float((mean - true).mean()), float((square - mean.square()).mean())

    low, high = 1 / _HOTTEST, 1 / _COLDEST
    if slope_and_curvature(low)[0] >= 0:
        return _HOTTEST
    if slope_and_curvature(high)[0] <= 0:
        return _COLDEST
    beta = 1.0
    for _ in range(_MOST_STEPS):
        slope, curvature = slope_and_curvature(beta)
        low, high = (beta, high) if slope < 0 else (low, beta)
        newton = beta - slope / curvature if curvature > 0 else math.nan
        # Outside the bracket, or nowhere: halve it, on the scale of logarithms.
        following = newton if low < newton < high else math.sqrt(low * high)
        if math.isclose(following, beta, rel_tol=1e-12):
            break
        beta = following
    return 1 / beta
