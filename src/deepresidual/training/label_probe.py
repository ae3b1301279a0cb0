"""Fit a linear classifier of several labels an image to features: one logistic regression a label.

One-vs-rest, with what :mod:`deepresidual.training.probe` does for one class an image: standardized features,
an L2 penalty whose strength is chosen for all labels together by the log loss of folds that the fit has not
seen, and a temperature that calibrates the probabilities.

Example:
    >>> probe = fit_label_probe(features.values, features.labels > 0)
    >>> with_probe(network, probe)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from deepresidual.data.source.multilabel import rarest_labels
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.recipe.balance import positive_weights
from deepresidual.training.logistic_regression import (
    NUM_FOLDS,
    USUAL_C,
    PathPoint,
    Solved,
    solve,
    walked,
)
from deepresidual.training.probe import (
    COLDEST,
    FEWEST_TO_CALIBRATE,
    MANY_IMAGES,
    MANY_NUMBERS,
    MUCH_WORK,
    ONE_THREAD,
    LinearProbe,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEWEST_IMAGES = 15
_WARMEST = 20.0


def fit_label_probe(
    values: NDArray[np.float32], targets: NDArray[np.bool_], *, balanced: bool = False
) -> LinearProbe:
    """Fit a linear classifier of several labels to features; a pure function of its arguments.

    Args:
        values: ``(N, V, F)``: of N images in V views, the first the one that predictions see, F features.
        targets: ``(N, K)``: which labels each image has. One that all images or none have gets a constant
            logit, that of its share.
        balanced: Whether images with a label and those without it weigh the same. Probabilities are corrected
            for it.

    Raises:
        ConfigurationError: The shapes do not fit.
        DataError: There are no images, or values that are not finite.
    """
    import sklearn.linear_model  # noqa: F401  # limits hold for the libraries that are loaded when they are set
    from threadpoolctl import threadpool_limits

    _check(values, targets)
    size = values[:, 0].size
    work = size * targets.shape[1]
    averaged = values.mean(axis=1, dtype=np.float64 if size <= MANY_NUMBERS else np.float32)
    num_folds, note = NUM_FOLDS, ""
    if len(targets) < _FEWEST_IMAGES:
        num_folds, note = 0, f"fewer than {_FEWEST_IMAGES} images are too few to choose C by: {USUAL_C:g}"
    elif len(targets) >= MANY_IMAGES or work >= MUCH_WORK:
        num_folds = 1
    curve: tuple[PathPoint, ...] = ()
    best: PathPoint | None = None
    c, temperature = USUAL_C, 1.0
    with threadpool_limits(1 if work < ONE_THREAD else None):
        if num_folds:
            path = _Path(averaged, values[:, 0], targets, num_folds, balanced=balanced)
            curve = walked(path.at)
            best = min(curve, key=lambda point: point.loss)
            c = best.c
            if len(path.targets) >= FEWEST_TO_CALIBRATE and best.top1 < 1:
                temperature = _temperature(path.logits[c], path.targets)
        solved = list(_solve_labels(averaged, targets, c, balanced=balanced))
    weight = np.stack([label.weight for label in solved])
    bias = np.array([label.bias for label in solved])
    return LinearProbe(
        (weight / temperature).astype(np.float32),
        (bias / temperature).astype(np.float32),
        c,
        curve,
        num_folds,
        temperature,
        None if best is None else best.loss,
        None if best is None else best.top1,
        all(label.converged for label in solved),
        len(targets),
        note,
    )


def _solve_labels(
    values: NDArray[Any],
    targets: NDArray[np.bool_],
    c: float,
    begin: list[Solved] | None = None,
    *,
    balanced: bool,
) -> Iterator[Solved]:
    """Yield the logistic regression of each label: ``weight`` ``(F,)`` and ``bias`` ``()``."""
    for row, target in enumerate(targets.T):
        positives = int(target.sum())
        if positives in (0, len(target)):
            # Half an image more on either side, lest the logit be infinite.
            odds = (positives + 0.5) / (len(target) - positives + 0.5)
            yield Solved(np.zeros(values.shape[1]), np.array(math.log(odds)), converged=True)
            continue
        (weight_of_positives,) = positive_weights([positives], len(target))
        weights = np.array([1.0, weight_of_positives]) if balanced else None
        both = solve(values, target.astype(np.int64), c, None if begin is None else begin[row], weights)
        weight, bias = both.weight[1] - both.weight[0], both.bias[1] - both.bias[0]
        yield Solved(weight, bias, both.converged, both.state)


class _Path:
    """Fits of all folds along the strengths of the penalty.

    Args:
        averaged: ``(N, F)``, what is fitted to.
        seen: ``(N, F)``, what is judged.
        targets: ``(N, K)``.
        num_folds: How many of the five folds are held out.
        balanced: Whether images with a label and those without it weigh the same.
    """

    def __init__(
        self,
        averaged: NDArray[Any],
        seen: NDArray[np.float32],
        targets: NDArray[np.bool_],
        num_folds: int,
        *,
        balanced: bool,
    ) -> None:
        self._averaged, self._seen, self._targets = averaged, seen, targets
        self._folds, self._balanced = _folds(averaged, targets), balanced
        self._solved: list[list[Solved] | None] = [None] * num_folds
        held_out = [np.flatnonzero(self._folds == fold) for fold in range(num_folds)]
        self.targets: NDArray[np.bool_] = targets[np.concatenate(held_out)]
        self.logits: dict[float, NDArray[np.float64]] = {}
        """By strength ``(H, K)``, of the H images that were held out in the order of :attr:`targets`."""

    def at(self, c: float) -> PathPoint:
        logits = []
        for fold, begin in enumerate(self._solved):
            held_out = self._folds == fold
            known = self._averaged[~held_out], self._targets[~held_out]
            solved = list(_solve_labels(*known, c, begin, balanced=self._balanced))
            self._solved[fold] = solved
            weight = np.stack([label.weight for label in solved])
            bias = np.array([label.bias for label in solved])
            logits.append(self._seen[held_out].astype(np.float64) @ weight.T + bias)
        together = self.logits[c] = np.concatenate(logits)
        exact = ((together > 0) == self.targets).all(axis=1).mean()
        converged = all(label.converged for labels in self._solved for label in labels or [])
        return PathPoint(c, _loss(together, self.targets), float(exact), converged)


def _folds(values: NDArray[Any], targets: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the fold in which every image is held out; copies of one photo share a fold.

    They are dealt out by the rarest label of each, so that every fold has its share of the rare ones.
    """
    groups: dict[bytes, list[int]] = {}
    for index, features in enumerate(values):
        groups.setdefault(hashlib.sha256(features.tobytes()).digest(), []).append(index)
    strata, random = rarest_labels(targets), np.random.default_rng(0)
    members = list(groups.values())
    order = random.permutation(len(members)).tolist()
    order.sort(key=lambda place: int(strata[members[place][0]]))
    folds = np.zeros(len(values), dtype=np.int64)
    for dealt, place in enumerate(order):
        folds[members[place]] = dealt % NUM_FOLDS
    return folds


def _loss(logits: NDArray[np.float64], targets: NDArray[np.bool_]) -> float:
    """Return the binary cross-entropy in nats, mean over images and labels."""
    return float((np.logaddexp(0, logits) - logits * targets).mean())


def _temperature(logits: NDArray[np.float64], targets: NDArray[np.bool_]) -> float:
    """Return what all logits are divided by for the lowest loss."""
    from scipy.optimize import minimize_scalar

    bounds = (math.log(COLDEST), math.log(_WARMEST))
    found = minimize_scalar(
        lambda log_of_it: _loss(logits / math.exp(log_of_it), targets), bounds=bounds, method="bounded"
    )
    return math.exp(found.x)


def _check(values: NDArray[np.float32], targets: NDArray[np.bool_]) -> None:
    if values.ndim != 3 or targets.ndim != 2 or len(values) != len(targets):
        raise ConfigurationError(
            f"the features have the shape {values.shape} and the targets {targets.shape}",
            expected="images, views, features; and images, labels",
        )
    if not len(targets):
        raise DataError("there are no images to fit a classifier to")
    if not np.isfinite(values).all():
        raise DataError("there are features that are not finite", remedy="look at the weights of the network")
