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

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deepresidual.errors import ConfigurationError, DataError
from deepresidual.evaluation.calibration import fit_temperature
from deepresidual.recipe.balance import class_weights
from deepresidual.training.logistic_regression import (
    USUAL_C,
    PathPoint,
    RegularizationPath,
    Solved,
    solve,
    stratified_folds,
    walked,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepresidual.nn import ResNet
    from deepresidual.recipe.groups import ClassPrior

# A few errors among many images are no reason to sharpen all by more.
FEWEST_TO_CALIBRATE, COLDEST = 50, 0.5
# From so many images on a fifth is enough to choose by, and from so much work on (images · features ·
# classes) five folds would take an hour on a few cores.
MANY_IMAGES, MUCH_WORK = 10_000, 1_000_000_000
# So many features (images · features) are solved for in float64; more would not fit into a small memory.
MANY_NUMBERS = 20_000_000
# Below so much work the solver takes one thread: others spin between its many small calls, which took 1.7
# instead of 0.1 CPU s for 70 images on two busy cores.
ONE_THREAD = 200_000_000


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


def fit_probe(
    values: NDArray[np.float32],
    labels: NDArray[np.int64],
    num_classes: int,
    *,
    balanced: bool = False,
    class_prior: ClassPrior = "training",
) -> LinearProbe:
    """Fit a linear classifier to features; a pure function of its arguments.

    Args:
        values: ``(N, V, F)``: of N images in V views, the first the one that predictions see, F features.
        labels: ``(N,)``, rows of the classifier.
        num_classes: Number of its rows; not every class has to occur.
        balanced: Whether all classes weigh the same in the fit. Probabilities are corrected for it.
        class_prior: Frequencies of the classes that probabilities are for.

    Raises:
        ConfigurationError: The shapes do not fit, or a label is out of range.
        DataError: There are no images, or values that are not finite.
    """
    import sklearn.linear_model  # noqa: F401  # limits hold for the libraries that are loaded when they are set
    from threadpoolctl import threadpool_limits

    _check(values, labels, num_classes)
    present, rows = np.unique(labels, return_inverse=True)
    counts = np.bincount(rows)
    weights = np.array(class_weights(counts.tolist())) if balanced else None
    size = values[:, 0].size
    work = size * len(present)
    averaged = values.mean(axis=1, dtype=np.float64 if size <= MANY_NUMBERS else np.float32)
    folds, note = stratified_folds(averaged, rows)
    num_folds = int(folds.max()) + 1
    if num_folds and (len(labels) >= MANY_IMAGES or work >= MUCH_WORK):
        num_folds = 1
    curve: tuple[PathPoint, ...] = ()
    best: PathPoint | None = None
    c, temperature = USUAL_C, 1.0
    with threadpool_limits(1 if work < ONE_THREAD else None):
        if num_folds and len(present) > 1:
            path = RegularizationPath(averaged, values[:, 0], rows, folds, num_folds, weights)
            curve = walked(path.at)
            best = min(curve, key=lambda point: point.loss)
            c = best.c
            # Where every image is right the sharpest probabilities are the best, which says nothing.
            if len(path.targets) >= FEWEST_TO_CALIBRATE and best.top1 < 1:
                logits, targets = torch.from_numpy(path.logits[c]), torch.from_numpy(path.targets)
                temperature = max(COLDEST, fit_temperature(logits, targets))
        solved = solve(averaged, rows, c, weights=weights)
    weight, bias = _all_rows(solved, averaged, present, num_classes, temperature)
    if class_prior == "equal":
        bias[present] -= np.log(counts / counts.sum())
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


def _all_rows(
    solved: Solved,
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
