"""Fit multinomial logistic regressions to standardized features: one, along a path of penalties, in folds.

The L2-penalized problem is convex, and scikit-learn solves it. The strength of the penalty is C as
scikit-learn has it.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

PATH = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Values of C that are tried, in this order, until the loss has risen twice."""

BETWEEN = math.sqrt(10)  # then half a step to either side of the best
NUM_FOLDS, FEWEST_PER_CLASS = 5, 3
USUAL_C = 0.01
"""Strength of the penalty where there are too few images to choose it by."""

# Below so much work (images · features · classes) the optimum is found to many digits.
_LITTLE_WORK = 10_000_000
_MOST_ITERATIONS = 1000
# A feature that varies by less than what float32 rounds off at its size is constant.
_RELATIVE_NOISE = 1e-6


@dataclass(frozen=True)
class PathPoint:
    """What one strength of the penalty reaches on folds that the fit has not seen.

    Attributes:
        c: Inverse strength of the penalty.
        loss: Mean cross-entropy in nats.
        top1: Share of images whose most probable class is correct.
        converged: Whether the solver reached its optimum in every fold.
    """

    c: float
    loss: float
    top1: float
    converged: bool


def walked(at: Callable[[float], PathPoint]) -> tuple[PathPoint, ...]:
    """Return what the strengths reach, until the loss has risen twice, and half a step around the best.

    Args:
        at: Fits with one strength of the penalty.
    """
    points: list[PathPoint] = []
    for c in PATH:
        points.append(at(c))
        best = min(points, key=lambda point: point.loss)
        if len(points) >= points.index(best) + 3:
            break
    points += [at(c) for c in (best.c / BETWEEN, best.c * BETWEEN)]
    return tuple(sorted(points, key=lambda point: point.c))


@dataclass(frozen=True)
class Solved:
    """A classifier of the features as they are, and the state from which the solver goes on.

    Attributes:
        weight: ``(P, F)`` for the P classes that occur.
        bias: ``(P,)``.
        converged: Whether this is the optimum.
        state: Coefficients of the solver, of standardized features.
    """

    weight: NDArray[Any]
    bias: NDArray[Any]
    converged: bool
    state: tuple[NDArray[Any], NDArray[Any]] | None = None


def solve(
    values: NDArray[Any],
    rows: NDArray[np.int64],
    c: float,
    begin: Solved | None = None,
    weights: NDArray[np.float64] | None = None,
) -> Solved:
    """Solve for one strength of the penalty, from the solution of another where there is one.

    Args:
        values: ``(N, F)``.
        rows: ``(N,)``: classes, each of which occurs.
        c: Inverse strength of the penalty.
        begin: Solution for another strength and the same classes.
        weights: ``(P,)``: weight of an image of each class. Probabilities are those of the images as they
            are: the log of the weights is taken off the biases.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    num_classes = int(rows.max()) + 1
    if num_classes == 1:
        return Solved(np.zeros((1, values.shape[1])), np.zeros(1), converged=True)
    mean, std = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    std[std <= _RELATIVE_NOISE * np.abs(mean)] = 1
    # The largest slope at which the solver ends: slopes are shared out among the classes. A large problem is
    # left when its loss is right to some 1e-4, which takes a quarter of the time.
    tolerance = (1e-6 if values.size * num_classes < _LITTLE_WORK else 2e-4) * 2 / num_classes
    regression = LogisticRegression(C=c, tol=tolerance, max_iter=_MOST_ITERATIONS, warm_start=True)
    if begin is not None and begin.state is not None:
        regression.coef_, regression.intercept_ = (state.copy() for state in begin.state)
    standardized = values - mean.astype(values.dtype)
    standardized /= std.astype(values.dtype)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        regression.fit(standardized, rows, None if weights is None else weights[rows])
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    coefficients, intercepts = regression.coef_, regression.intercept_
    if num_classes == 2:
        # It has one row for two classes, whose logits differ by it.
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight = coefficients / std
    bias = intercepts - weight @ mean
    if weights is not None:
        bias = bias - np.log(weights)
    return Solved(weight, bias, converged, (regression.coef_, regression.intercept_))


class RegularizationPath:
    """Fits of all folds along the strengths of the penalty.

    Args:
        averaged: ``(N, F)``, what is fitted to.
        seen: ``(N, F)``, what is judged.
        rows: ``(N,)``, classes, each of which occurs.
        folds: ``(N,)``, the fold in which an image is held out; −1: in none.
        num_folds: How many folds are held out.
        weights: Weight of an image of each class, for :func:`solve`.
    """

    def __init__(
        self,
        averaged: NDArray[Any],
        seen: NDArray[np.float32],
        rows: NDArray[np.int64],
        folds: NDArray[np.int64],
        num_folds: int,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        self._averaged, self._seen, self._rows, self._folds = averaged, seen, rows, folds
        self._weights = weights
        self._solved: list[Solved | None] = [None] * num_folds
        held_out = [np.flatnonzero(folds == fold) for fold in range(num_folds)]
        self.targets: NDArray[np.int64] = rows[np.concatenate(held_out)]
        self.logits: dict[float, NDArray[np.float64]] = {}
        """By strength ``(H, P)``, of the H images that were held out in the order of :attr:`targets`."""

    def at(self, c: float) -> PathPoint:
        """Fit every fold with one strength of the penalty, and return what that reaches."""
        logits = []
        for fold, begin in enumerate(self._solved):
            held_out = self._folds == fold
            solved = self._solved[fold] = solve(
                self._averaged[~held_out], self._rows[~held_out], c, begin, self._weights
            )
            logits.append(self._seen[held_out].astype(np.float64) @ solved.weight.T + solved.bias)
        together = self.logits[c] = np.concatenate(logits)
        scores, targets = torch.from_numpy(together), torch.from_numpy(self.targets)
        loss = torch.nn.functional.cross_entropy(scores, targets)
        top1 = (scores.argmax(dim=1) == targets).double().mean()
        converged = all(solved is not None and solved.converged for solved in self._solved)
        return PathPoint(c, float(loss), float(top1), converged)


def stratified_folds(values: NDArray[Any], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
    """Return the fold in which every image is held out, and what is unusual about them.

    Every fold has its share of every class. Images of equal features, copies of one photo, share a fold.
    Of a class of fewer than three images none is held out (−1): too little of it would be left.
    """
    groups: list[list[list[int]]] = [[] for _ in range(int(rows.max()) + 1)]
    place: dict[tuple[int, bytes], list[int]] = {}
    for index, (row, features) in enumerate(zip(rows.tolist(), values, strict=True)):
        key = (row, hashlib.sha256(features.tobytes()).digest())
        if key not in place:
            place[key] = []
            groups[row].append(place[key])
        place[key].append(index)
    enough = [members for members in groups if len(members) >= FEWEST_PER_CLASS]
    folds = np.full(len(rows), -1)
    if len(enough) < 2:
        return (
            folds,
            f"fewer than {FEWEST_PER_CLASS} images a class are too few to choose C by: {USUAL_C:g}",
        )
    num_folds = min(NUM_FOLDS, *(len(members) for members in enough))
    random, dealt = np.random.default_rng(0), 0
    for members in enough:
        for number in random.permutation(len(members)):
            folds[members[number]] = dealt % num_folds
            dealt += 1
    few = len(groups) - len(enough)
    noun = "class" if few == 1 else "classes"
    note = f"{few} {noun} of fewer than {FEWEST_PER_CLASS} images took no part in choosing C"
    return folds, note if few else ""
