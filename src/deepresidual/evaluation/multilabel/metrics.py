"""Average precision and F1 of several labels an image, of the images as they are or of draws from them.

Every function takes weights of the images, a row for each draw of a bootstrap, so that a thousand draws cost
one sort. Classes without a positive image have no average precision and no recall: they are NaN here, and
left out of means. (scikit-learn gives such a class 0, which drags the mean down for no fault of the model.)

Example:
    >>> scores, targets = np.array([[0.9], [0.2], [0.7]]), np.array([[True], [False], [False]])
    >>> average_precision(scores[:, 0], targets[:, 0])
    array([1.])
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]


def average_precision(
    scores: Scores, targets: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the average precision: the sum over thresholds of precision times the gain in recall.

    Not interpolated, and images of equal scores come together, as in scikit-learn.

    Args:
        scores: ``(N,)``, higher where the label is more probable.
        targets: ``(N,)``, whether the label is there.
        weights: ``(D, N)``, how often each image counts in each of D draws. Default: once, in one.

    Returns:
        ``(D,)``; NaN where a draw has no positive image.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(scores) - 1)
    weights = np.ones((1, len(scores))) if weights is None else weights
    counts = weights[:, order]
    found = np.cumsum(counts, axis=1)[:, ends]
    right = np.cumsum(counts * targets[order], axis=1)[:, ends]
    gains = np.diff(right, axis=1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(found > 0, right / found, 0)
        area: NDArray[np.float64] = (precision * gains).sum(axis=1) / right[:, -1]
    return area


def mean_average_precision(
    scores: Scores, targets: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the mean over the classes that have a positive image, ``(D,)``; NaN where none has.

    Args:
        scores: ``(N, K)``.
        targets: ``(N, K)``.
        weights: ``(D, N)``.
    """
    columns = [
        average_precision(scores[:, row], targets[:, row], weights)
        for row in range(scores.shape[1])
        if targets[:, row].any()
    ]
    return _mean_of_known(np.array(columns)) if columns else np.full(_num_draws(weights), np.nan)


def micro_average_precision(
    scores: Scores, targets: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the average precision of all pairs of image and class together, ``(D,)``."""
    repeated = None if weights is None else np.repeat(weights, scores.shape[1], axis=1)
    return average_precision(scores.ravel(), targets.ravel(), repeated)


class Decisions(NamedTuple):
    """Counts of decisions for every class.

    Attributes:
        right: ``(D, K)`` images that have the label and were given it.
        given: ``(D, K)`` images that were given it.
        support: ``(D, K)`` images that have it.
    """

    right: NDArray[np.float64]
    given: NDArray[np.float64]
    support: NDArray[np.float64]

    @property
    def f1(self) -> NDArray[np.float64]:
        """``(D, K)``; NaN where a class has no positive image."""
        with np.errstate(invalid="ignore"):
            scores = 2 * self.right / (self.given + self.support)
        scores[self.support == 0] = np.nan
        return scores

    @property
    def macro_f1(self) -> NDArray[np.float64]:
        """``(D,)``: mean over the classes that have a positive image."""
        return _mean_of_known(self.f1.T)

    @property
    def micro_f1(self) -> NDArray[np.float64]:
        """``(D,)``: F1 of all decisions together."""
        right, given, support = (part.sum(axis=1) for part in self)
        with np.errstate(invalid="ignore"):
            scores: NDArray[np.float64] = 2 * right / (given + support)
        return scores


def decisions(
    predicted: NDArray[np.bool_], targets: NDArray[np.bool_], weights: NDArray[np.float64] | None = None
) -> Decisions:
    """Count the decisions of every class.

    Args:
        predicted: ``(N, K)``, the labels that images were given.
        targets: ``(N, K)``, those that they have.
        weights: ``(D, N)``.
    """
    weights = np.ones((1, len(targets))) if weights is None else weights
    return Decisions(*(weights @ part for part in (predicted & targets, predicted, targets)))


def _mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over rows ``(K, D)`` without NaN; NaN where there is no other."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(known, values, 0).sum(axis=0) / known.sum(axis=0)
    return mean


def _num_draws(weights: NDArray[np.float64] | None) -> int:
    return 1 if weights is None else len(weights)
