"""Fit a linear classifier to features, and put it into a network: the probe.

The fit is multinomial logistic regression with an L2 penalty on standardized features, which is convex: it is
solved to its optimum rather than trained. The strength of the penalty, C as scikit-learn has it, is chosen by
the log loss of folds that the fit has not seen, and a temperature fitted on the same logits calibrates the
probabilities. Standardization and temperature are folded into the weights, so the result is one ``Linear``.

Views of an image are averaged to fit, and the first view alone is what is judged, since that is what a
prediction sees. As rows of their own, the views of an image together in one fold, they cost twice the time
for a log loss that was 0.002 nats lower on the photos of ants and bees (0.511 for 0.514).

Kornblith et al. 2019 (arXiv 1805.08974) evaluate backbones in this way.

Example:
    >>> probe = fit_probe(features.values, features.labels, num_classes=2)
    >>> with_probe(network, probe)
"""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deepresidual.errors import ConfigurationError, DataError
from deepresidual.evaluation.calibration import fit_temperature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepresidual.nn import ResNet

PATH = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Values of C that are tried, in this order, until the loss has risen twice."""

_BETWEEN = math.sqrt(10)  # then half a step to either side of the best
_USUAL_C = 0.01
_NUM_FOLDS, _FEWEST_PER_CLASS = 5, 3
# A few errors among many images are no reason to sharpen all by more.
_FEWEST_TO_CALIBRATE, _COLDEST = 50, 0.5
# From so many images on a fifth is enough to choose by, and from so much work on (images · features ·
# classes) five folds would take an hour on a few cores.
_MANY_IMAGES, _MUCH_WORK = 10_000, 1_000_000_000
# So many features (images · features) are solved for in float64; more would not fit into a small memory.
_MANY_NUMBERS = 20_000_000
# Below so much work the solver takes one thread: others spin between its many small calls, which took 1.7
# instead of 0.1 CPU s for 70 images on two busy cores.
_ONE_THREAD = 200_000_000
# Below so much work the optimum is found to many digits.
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


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier of features.

    Attributes:
        weight: ``(K, F)`` float32, for features as the network gives them.
        bias: ``(K,)`` float32. A class without any image has a bias that makes it less probable than one
            image among all would be.
        c: Inverse strength of the penalty that was chosen.
        curve: What every strength that was tried reached, the strongest penalty first; empty where there
            were too few images to choose by.
        num_folds: Folds that were held out one after the other; of very many images the first of five alone,
            1; 0 where there were too few.
        temperature: What the logits were divided by, which is in ``weight`` and ``bias``; 1 where there were
            too few images to fit it, or no errors among them.
        out_of_fold_loss: Mean cross-entropy in nats on folds that the fit has not seen, before the
            temperature; ``None`` without folds.
        out_of_fold_top1: Share correct likewise.
        converged: Whether the solver reached its optimum.
        num_images: Images that it was fitted to.
        note: What is unusual about the fit, as a clause; or empty.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    c: float
    curve: tuple[PathPoint, ...]
    num_folds: int
    temperature: float
    out_of_fold_loss: float | None
    out_of_fold_top1: float | None
    converged: bool
    num_images: int
    note: str = ""


def fit_probe(values: NDArray[np.float32], labels: NDArray[np.int64], num_classes: int) -> LinearProbe:
    """Fit a linear classifier to features; a pure function of its arguments.

    Args:
        values: ``(N, V, F)``: of N images in V views, the first the one that predictions see, F features.
        labels: ``(N,)``, rows of the classifier.
        num_classes: Number of its rows; not every class has to occur.

    Raises:
        ConfigurationError: The shapes do not fit, or a label is out of range.
        DataError: There are no images, or values that are not finite.
    """
    import sklearn.linear_model  # noqa: F401  # limits hold for the libraries that are loaded when they are set
    from threadpoolctl import threadpool_limits

    _check(values, labels, num_classes)
    present, rows = np.unique(labels, return_inverse=True)
    size = values[:, 0].size
    work = size * len(present)
    averaged = values.mean(axis=1, dtype=np.float64 if size <= _MANY_NUMBERS else np.float32)
    folds, note = _folds(averaged, rows)
    num_folds = int(folds.max()) + 1
    if num_folds and (len(labels) >= _MANY_IMAGES or work >= _MUCH_WORK):
        num_folds = 1
    curve: tuple[PathPoint, ...] = ()
    best: PathPoint | None = None
    c, temperature = _USUAL_C, 1.0
    with threadpool_limits(1 if work < _ONE_THREAD else None):
        if num_folds and len(present) > 1:
            path = _Path(averaged, values[:, 0], rows, folds, num_folds)
            curve = path.walk()
            best = min(curve, key=lambda point: point.loss)
            c = best.c
            # Where every image is right the sharpest probabilities are the best, which says nothing.
            if len(path.targets) >= _FEWEST_TO_CALIBRATE and best.top1 < 1:
                logits, targets = torch.from_numpy(path.logits[c]), torch.from_numpy(path.targets)
                temperature = max(_COLDEST, fit_temperature(logits, targets))
        solved = _solve(averaged, rows, c)
    weight, bias = _all_rows(solved, averaged, present, num_classes, temperature)
    return LinearProbe(
        weight,
        bias,
        c,
        curve,
        num_folds if curve else 0,
        temperature,
        None if best is None else best.loss,
        None if best is None else best.top1,
        solved.converged,
        len(labels),
        note,
    )


def with_probe(network: ResNet, probe: LinearProbe) -> None:
    """Put a probe into a network as its classifier, which gets as many rows.

    Raises:
        ConfigurationError: The probe was fitted to other features.
    """
    num_classes, num_features = probe.weight.shape
    if num_features != network.num_features:
        raise ConfigurationError(
            f"the probe reads {num_features} features and the network gives {network.num_features}",
            expected="the same",
        )
    if network.num_classes != num_classes:
        network.reset_classifier(num_classes)
    with torch.no_grad():
        network.fc.weight.copy_(torch.from_numpy(probe.weight))
        network.fc.bias.copy_(torch.from_numpy(probe.bias))


@dataclass(frozen=True)
class _Solved:
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


def _solve(values: NDArray[Any], rows: NDArray[np.int64], c: float, begin: _Solved | None = None) -> _Solved:
    """Solve for one strength of the penalty, from the solution of another where there is one.

    Args:
        values: ``(N, F)``.
        rows: ``(N,)``: classes, each of which occurs.
        c: Inverse strength of the penalty.
        begin: Solution for another strength and the same classes.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    num_classes = int(rows.max()) + 1
    if num_classes == 1:
        return _Solved(np.zeros((1, values.shape[1])), np.zeros(1), converged=True)
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
        regression.fit(standardized, rows)
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    coefficients, intercepts = regression.coef_, regression.intercept_
    if num_classes == 2:
        # It has one row for two classes, whose logits differ by it.
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight = coefficients / std
    return _Solved(weight, intercepts - weight @ mean, converged, (regression.coef_, regression.intercept_))


class _Path:
    """Fits of all folds along the strengths of the penalty.

    Args:
        averaged: ``(N, F)``, what is fitted to.
        seen: ``(N, F)``, what is judged.
        rows: ``(N,)``, classes, each of which occurs.
        folds: ``(N,)``, the fold in which an image is held out; −1: in none.
        num_folds: How many folds are held out.
    """

    def __init__(
        self,
        averaged: NDArray[Any],
        seen: NDArray[np.float32],
        rows: NDArray[np.int64],
        folds: NDArray[np.int64],
        num_folds: int,
    ) -> None:
        self._averaged, self._seen, self._rows, self._folds = averaged, seen, rows, folds
        self._solved: list[_Solved | None] = [None] * num_folds
        held_out = [np.flatnonzero(folds == fold) for fold in range(num_folds)]
        self.targets: NDArray[np.int64] = rows[np.concatenate(held_out)]
        self.logits: dict[float, NDArray[np.float64]] = {}
        """By strength ``(H, P)``, of the H images that were held out in the order of :attr:`targets`."""

    def walk(self) -> tuple[PathPoint, ...]:
        """Try the strengths, until the loss has risen twice, and half a step around the best."""
        points: list[PathPoint] = []
        for c in PATH:
            points.append(self._at(c))
            best = min(points, key=lambda point: point.loss)
            if len(points) >= points.index(best) + 3:
                break
        points += [self._at(c) for c in (best.c / _BETWEEN, best.c * _BETWEEN)]
        return tuple(sorted(points, key=lambda point: point.c))

    def _at(self, c: float) -> PathPoint:
        logits = []
        for fold, begin in enumerate(self._solved):
            held_out = self._folds == fold
            solved = self._solved[fold] = _solve(self._averaged[~held_out], self._rows[~held_out], c, begin)
            logits.append(self._seen[held_out].astype(np.float64) @ solved.weight.T + solved.bias)
        together = self.logits[c] = np.concatenate(logits)
        scores, targets = torch.from_numpy(together), torch.from_numpy(self.targets)
        loss = torch.nn.functional.cross_entropy(scores, targets)
        top1 = (scores.argmax(dim=1) == targets).double().mean()
        converged = all(solved is not None and solved.converged for solved in self._solved)
        return PathPoint(c, float(loss), float(top1), converged)


def _folds(values: NDArray[Any], rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
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
    enough = [members for members in groups if len(members) >= _FEWEST_PER_CLASS]
    folds = np.full(len(rows), -1)
    if len(enough) < 2:
        return (
            folds,
            f"fewer than {_FEWEST_PER_CLASS} images a class are too few to choose C by: {_USUAL_C:g}",
        )
    num_folds = min(_NUM_FOLDS, *(len(members) for members in enough))
    random, dealt = np.random.default_rng(0), 0
    for members in enough:
        for number in random.permutation(len(members)):
            folds[members[number]] = dealt % num_folds
            dealt += 1
    few = len(groups) - len(enough)
    noun = "class" if few == 1 else "classes"
    note = f"{few} {noun} of fewer than {_FEWEST_PER_CLASS} images took no part in choosing C"
    return folds, note if few else ""


def _all_rows(
    solved: _Solved,
    values: NDArray[Any],
    present: NDArray[np.int64],
    num_classes: int,
    temperature: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return weight and bias of all classes, those that never occurred among them."""
    few, bias_of_few = solved.weight / temperature, solved.bias / temperature
    weight = np.zeros((num_classes, values.shape[1]), dtype=np.float32)
    weight[present] = few
    bias = np.empty(num_classes, dtype=np.float32)
    if len(present) < num_classes:
        logits = torch.from_numpy(values.astype(np.float64) @ few.T + bias_of_few)
        bias[:] = float(logits.logsumexp(dim=1).min()) - math.log(len(values) + num_classes)
    bias[present] = bias_of_few
    return weight, bias


def _check(values: NDArray[np.float32], labels: NDArray[np.int64], num_classes: int) -> None:
    if values.ndim != 3 or len(values) != len(labels):
        raise ConfigurationError(
            f"the features have the shape {values.shape} for {len(labels)} labels",
            expected="images, views, features, and a label for each image",
        )
    if not len(labels):
        raise DataError("there are no images to fit a classifier to")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ConfigurationError(
            f"the labels are from {labels.min()} to {labels.max()}", expected=f"0 to {num_classes - 1}"
        )
    if not np.isfinite(values).all():
        raise DataError("there are features that are not finite", remedy="look at the weights of the network")
