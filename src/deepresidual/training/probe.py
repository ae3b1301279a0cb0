"""Fit a linear classifier to features, and put it into a network: the probe.

The fit is multinomial logistic regression with an L2 penalty on standardized features, which is convex: it is
solved to its optimum rather than trained. The strength of the penalty, C as scikit-learn has it, is chosen by
the log loss of folds that the fit has not seen, and a temperature fitted on the same logits calibrates the
probabilities. Standardization and temperature are folded into the weights, so the result is one ``Linear``.

Kornblith et al. 2019 (arXiv 1805.08974) evaluate backbones in this way.

Example:
    >>> probe = fit_probe(features.values, features.labels, num_classes=2)
    >>> with_probe(network, probe)
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepresidual.errors import ConfigurationError, DataError
from deepresidual.evaluation.calibration import fit_temperature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepresidual.nn import ResNet

PATH = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""Values of C that are tried."""

_USUAL_C = 0.01
_NUM_FOLDS, _FEWEST_PER_CLASS = 5, 3
_FEWEST_TO_CALIBRATE = 50
_MOST_ITERATIONS = 1000


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
class Probe:
    """A linear classifier of features.

    Attributes:
        weight: ``(K, F)`` float32, for features as the network gives them.
        bias: ``(K,)`` float32.
        c: Inverse strength of the penalty that was chosen.
        curve: What every strength reached, the strongest penalty first; empty where there were too few
            images to choose by.
        num_folds: Folds of the cross-validation; 0 where there was none.
        temperature: What the logits were divided by, which is in ``weight`` and ``bias``; 1 where there were
            too few images to fit it.
        out_of_fold_loss: Mean cross-entropy in nats on folds that the fit has not seen, before the
            temperature; ``None`` without folds.
        out_of_fold_top1: Share correct likewise.
        converged: Whether the solver reached its optimum.
        num_images: Images that it was fitted to.
        note: What is unusual about the fit, as a sentence; or empty.
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


def fit_probe(values: NDArray[np.float32], labels: NDArray[np.int64], num_classes: int) -> Probe:
    """Fit a linear classifier to features; a pure function of its arguments.

    Args:
        values: ``(N, V, F)``: the V views of an image are averaged.
        labels: ``(N,)``, rows of the classifier.
        num_classes: Number of its rows; not every class has to occur.

    Raises:
        ConfigurationError: The shapes do not fit, or a label is out of range.
        DataError: There are no images, or values that are not finite.
    """
    _check(values, labels, num_classes)
    averaged = values.mean(axis=1, dtype=np.float64)
    folds = _folds(labels)
    num_folds = int(folds.max()) + 1
    curve, held_out = [], {}
    for c in PATH if num_folds else ():
        logits = np.empty((len(labels), num_classes))
        converged = True
        for fold in range(num_folds):
            part = folds == fold
            solved = _solve(averaged[~part], labels[~part], num_classes, c)
            logits[part] = averaged[part] @ solved.weight.T + solved.bias
            converged &= solved.converged
        held_out[c] = logits
        loss, top1 = _scores(logits, labels)
        curve.append(PathPoint(c, loss, top1, converged))
    best = min(curve, key=lambda point: point.loss, default=None)
    c, temperature, note = _USUAL_C, 1.0, ""
    if best is None:
        note = f"too few images a class to choose C by; it is {_USUAL_C}"
    else:
        c = best.c
        if len(labels) >= _FEWEST_TO_CALIBRATE:
            temperature = fit_temperature(torch.from_numpy(held_out[c]), torch.from_numpy(labels))
    solved = _solve(averaged, labels, num_classes, c)
    return Probe(
        (solved.weight / temperature).astype(np.float32),
        (solved.bias / temperature).astype(np.float32),
        c,
        tuple(curve),
        num_folds,
        temperature,
        None if best is None else best.loss,
        None if best is None else best.top1,
        solved.converged,
        len(labels),
        note,
    )


def with_probe(network: ResNet, probe: Probe) -> None:
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
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    converged: bool


def _solve(values: NDArray[np.float64], labels: NDArray[np.int64], num_classes: int, c: float) -> _Solved:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, std = values.mean(axis=0), values.std(axis=0)
    std[std == 0] = 1
    present = np.unique(labels)
    weight, bias = np.zeros((num_classes, values.shape[1])), np.zeros(num_classes)
    unseen = -math.log(len(labels) + num_classes)
    bias[:] = unseen
    bias[present] = 0
    if len(present) < 2:
        return _Solved(weight, bias, converged=True)
    regression = LogisticRegression(C=c, max_iter=_MOST_ITERATIONS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        regression.fit((values - mean) / std, labels)
    converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    coefficients, intercepts = regression.coef_, regression.intercept_
    if len(present) == 2:
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    weight[present] = coefficients / std
    bias[present] = intercepts - weight[present] @ mean
    return _Solved(weight, bias, converged)


def _folds(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the fold of every image, each with its share of every class; -1: too few images."""
    counts = np.bincount(labels)
    fewest = int(counts[counts > 0].min())
    if fewest < _FEWEST_PER_CLASS:
        return np.full(len(labels), -1)
    num_folds = min(_NUM_FOLDS, fewest)
    folds = np.empty(len(labels), dtype=np.int64)
    random = np.random.default_rng(0)
    for label in np.flatnonzero(counts):
        members = random.permutation(np.flatnonzero(labels == label))
        folds[members] = np.arange(len(members)) % num_folds
    return folds


def _scores(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return the mean cross-entropy in nats and the share that is correct."""
    scores, targets = torch.from_numpy(logits), torch.from_numpy(labels)
    loss = torch.nn.functional.cross_entropy(scores, targets)
    return float(loss), float((scores.argmax(dim=1) == targets).double().mean())


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
