"""Find labels that are likely wrong, by cross-validated self-confidence.

Every image is judged by a classifier that was fitted without it, on features of a network that has not seen
its label. The probability which that classifier gives to the label, the self-confidence, ranks the images;
those whose most probable class is another are listed, the least probable label first (Northcutt et al. 2021,
arXiv 1911.00068, rank by the same score). What it finds of labels that were swapped on purpose is in
``docs/results.md``.

A list of a weak classifier is mostly of hard images, so it says how far to trust it, and below a certain
accuracy there is none.

Example:
    >>> crossed = cross_validate(features.values, features.labels, num_classes=2)
    >>> find_label_errors(crossed, features.labels).places
    (17, 301, 44)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from deepresidual.evaluation.calibration import fit_temperature
from deepresidual.training.logistic_regression import RegularizationPath, stratified_folds, walked

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST_TOP1, _ABOVE_BASELINE = 0.65, 0.10
_FEWEST_LISTED, _LISTED_SHARE = 10, 0.02
# Wrong labels among ten of a list with 5 % of the labels swapped on purpose, by the cross-validated accuracy
# with clean labels from which it holds, of few classes and of many, among which a swapped label stands out
# (benchmarks/label_errors.py; docs/results.md has the figures).
_MANY_CLASSES = 10
_TRUST_OF_FEW, _TRUST_OF_MANY = ((0.95, 9), (0.85, 8), (0.0, 4)), ((0.0, 9),)


@dataclass(frozen=True)
class CrossValidated:
    """Out-of-fold predictions of a logistic regression on features.

    Attributes:
        probabilities: ``(N, K)`` float64, calibrated by a temperature; rows of images that no fold held out
            are NaN.
        top1: Share correct of the images that were held out.
        c: Inverse strength of the penalty.
        num_folds: Folds; 0: too few images, and all rows are NaN.
    """

    probabilities: NDArray[np.float64]
    top1: float
    c: float
    num_folds: int


@dataclass(frozen=True)
class LabelErrors:
    """Images whose labels are likely wrong.

    Attributes:
        places: Which images, the least probable label first.
        suggested: The most probable class of each.
        probabilities: Self-confidence of each: the probability of its label, 0 to 1.
        suggested_probabilities: Probability of the suggested class of each.
        top1: Cross-validated accuracy of the classifiers; ``None``: too few images.
        trust: Wrong labels among ten of such a list in our measurements; ``None`` without a list.
        reason: Why there is no list; empty where there is one.
    """

    places: tuple[int, ...] = ()
    suggested: tuple[int, ...] = ()
    probabilities: tuple[float, ...] = ()
    suggested_probabilities: tuple[float, ...] = ()
    top1: float | None = None
    trust: int | None = None
    reason: str = ""


def cross_validate(
    values: NDArray[np.float32], labels: NDArray[np.int64], num_classes: int, c: float | None = None
) -> CrossValidated:
    """Fit a classifier without each fold and let it judge that fold; a pure function of its arguments.

    Args:
        values: ``(N, V, F)``, as for :func:`deepresidual.training.probe.fit_probe`.
        labels: ``(N,)``.
        num_classes: Number of classes; not every one has to occur.
        c: Inverse strength of the penalty. Default: that of the lowest out-of-fold loss.
    """
    present, rows = np.unique(labels, return_inverse=True)
    averaged = values.mean(axis=1, dtype=np.float64)
    folds, _ = stratified_folds(averaged, rows)
    num_folds = int(folds.max()) + 1
    probabilities = np.full((len(labels), num_classes), np.nan)
    if not num_folds:
        return CrossValidated(probabilities, 0.0, c or 0.0, 0)
    path = RegularizationPath(averaged, values[:, 0], rows, folds, num_folds)
    if c is None:
        c = min(walked(path.at), key=lambda point: point.loss).c
    else:
        path.at(c)
    logits, targets = torch.from_numpy(path.logits[c]), torch.from_numpy(path.targets)
    top1 = float((logits.argmax(dim=1) == targets).double().mean())
    temperature = fit_temperature(logits, targets) if top1 < 1 else 1.0
    held_out = np.concatenate([np.flatnonzero(folds == fold) for fold in range(num_folds)])
    # A class that does not occur is not a label that could be right.
    shares = np.zeros((len(held_out), num_classes))
    shares[:, present] = (logits / temperature).softmax(dim=1).numpy()
    probabilities[held_out] = shares
    return CrossValidated(probabilities, top1, c, num_folds)


def self_confidence(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the probability of each image's own label, ``(N,)``, from ``(N, K)``."""
    scores: NDArray[np.float64] = probabilities[np.arange(len(labels)), labels]
    return scores


def find_label_errors(crossed: CrossValidated, labels: NDArray[np.int64]) -> LabelErrors:
    """List the labels that are likely wrong, at most 2 % of the images, or 10 where that is more.

    Args:
        crossed: Out-of-fold predictions of the images.
        labels: ``(N,)``, their labels.
    """
    if not crossed.num_folds:
        return LabelErrors(
            reason="There are too few images to judge their labels: three of a class at least."
        )
    top1, baseline = crossed.top1, float(np.bincount(labels).max()) / len(labels)
    if top1 < max(_LEAST_TOP1, baseline + _ABOVE_BASELINE):
        return LabelErrors(
            top1=top1,
            reason="None are listed: classifiers on the features of the network, as it was before it saw "
            f"these labels, are right in {top1:.0%} of the images they were not fitted to, and always "
            f"answering the most frequent class in {baseline:.0%}. That is too weak to doubt a label.",
        )
    judged = ~np.isnan(crossed.probabilities[:, 0])
    scores = self_confidence(crossed.probabilities, labels)
    suggested = np.where(judged[:, None], crossed.probabilities, 0).argmax(axis=1)
    doubted = np.flatnonzero(judged & (suggested != labels))
    table = _TRUST_OF_MANY if len(np.unique(labels)) >= _MANY_CLASSES else _TRUST_OF_FEW
    # Of equal scores the first image comes first.
    most = max(_FEWEST_LISTED, round(_LISTED_SHARE * len(labels)))
    places = doubted[np.argsort(scores[doubted], kind="stable")][:most]
    return LabelErrors(
        tuple(places.tolist()),
        tuple(suggested[places].tolist()),
        tuple(scores[places].tolist()),
        tuple(crossed.probabilities[places, suggested[places]].tolist()),
        top1,
        next(trust for least, trust in table if top1 >= least),
        "" if len(places) else "None: the classifiers agree with every label.",
    )


def to_document(
    found: LabelErrors, names: list[tuple[str, str, str]], classes: tuple[str, ...]
) -> dict[str, Any]:
    """Return the document of ``label-errors.json``.

    Args:
        found: The list.
        names: Path, split and class of every image.
        classes: Names of the classes.
    """
    rows = zip(found.places, found.suggested, found.probabilities, found.suggested_probabilities, strict=True)
    return {
        "schema_version": 1,
        "reason": found.reason,
        "num_images": len(names),
        "top1": found.top1,
        "trust": found.trust,
        "rows": [
            {
                "path": names[place][0],
                "split": names[place][1],
                "label": names[place][2],
                "suggested": classes[suggested],
                "probability": probability,
                "suggested_probability": suggested_probability,
            }
            for place, suggested, probability, suggested_probability in rows
        ],
    }
