"""Calibration: compare the probabilities that a model gives with how often it is correct (Guo et al. 2017).

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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from deepresidual.errors import DataError
from deepresidual.evaluation.metrics import CONFIDENCE_UNIT, NUM_BINS, ClassificationSums

# Fits end here where the samples want all or no confidence: with every one right, the sharper the better.
_COLDEST, _HOTTEST = 0.01, 100.0


@dataclass(frozen=True)
class Bin:
    """Samples whose predicted class is about equally probable; one bar of a reliability diagram.

    Attributes:
        low: Lower end of the bin, exclusive.
        high: Upper end, inclusive.
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

    The cross-entropy is convex in the inverse β of the temperature. Its slope, the mean of z over the
    classes, weighted by their probabilities, minus z of the true class, has one root, which Brent's method
    finds on the scale of logarithms. Computed in float64.

    Args:
        logits: ``(N, K)``, or logarithms of probabilities.
        labels: ``(N,)`` int64.

    Returns:
        The temperature, within 0.01 to 100.

    Raises:
        DataError: There are no samples.
    """
    from scipy.optimize import brentq

    if not len(labels):
        raise DataError("there are no samples to fit a temperature on", remedy="name another split")
    scores = logits.double()
    true = scores.gather(1, labels[:, None])[:, 0]

    def slope(log_beta: float) -> float:
        probabilities = (math.exp(log_beta) * scores).softmax(dim=1)
        return float(((probabilities * scores).sum(dim=1) - true).mean())

    low, high = -math.log(_HOTTEST), -math.log(_COLDEST)
    if slope(low) >= 0:
        return _HOTTEST
    if slope(high) <= 0:
        return _COLDEST
    return math.exp(-brentq(slope, low, high, xtol=1e-12))
