"""Estimate what more images would give: the error of probes on a quarter, a half and all of them.

In each fold of a cross-validation a classifier is fitted to every quarter, both halves and all of the other
folds, so each image is judged at three sizes by classifiers that have not seen it. If the error falls as a
power of the number of images (Hestness et al. 2017, arXiv 1712.00409), its slope b gives the share of errors
that a doubling takes away, 1 − 2^b. Three points within a factor of four say nothing of what lies far beyond
them, so no more than one doubling is foretold; and it is said of the features as they are: a network that is
trained on more images learns other ones.

Example:
    >>> learning_curve(features.values, features.labels, c=0.01).gain
    'a little'
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from deepresidual.training.logistic_regression import solve, stratified_folds

if TYPE_CHECKING:
    from numpy.typing import NDArray

Gain: TypeAlias = Literal["a lot", "a little", "none"]

_LOT, _LITTLE = 0.15, 0.05
_DIVISORS = (4, 2, 1)  # of the images
_FEWEST_PER_CLASS = 8  # two of each class in a quarter
_NUM_DRAWS = 1000


@dataclass(frozen=True)
class CurvePoint:
    """The error at one number of images.

    Attributes:
        count: Training images.
        error: Share wrong among images that were not fitted to, 0 to 1.
        num_fits: Classifiers of which it is the mean.
    """

    count: int
    error: float
    num_fits: int


@dataclass(frozen=True)
class LearningCurve:
    """What more images would give.

    Attributes:
        points: The error at a quarter, a half and all of the images; none where there are too few.
        doubling: Share of the errors that a doubling took away, 1 − 2^b; below 0 where there were more.
        doubling_interval: Its 95 % interval, by a bootstrap over images and subsets.
        gain: That in words: 15 % or more, 5 to 15 %, or less or an interval that holds 0.
        reason: Why there are no points; empty where there are.
    """

    points: tuple[CurvePoint, ...] = ()
    doubling: float = 0.0
    doubling_interval: tuple[float, float] = (0.0, 0.0)
    gain: Gain = "none"
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the document of ``learning-curve.json``."""
        return {"schema_version": 1, **dataclasses.asdict(self)}


def learning_curve(values: NDArray[np.float32], labels: NDArray[np.int64], c: float) -> LearningCurve:
    """Return the learning curve of a logistic regression on features; a pure function of its arguments.

    Args:
        values: ``(N, V, F)``, as for :func:`deepresidual.training.probe.fit_probe`.
        labels: ``(N,)``.
        c: Inverse strength of the penalty.
    """
    present, rows = np.unique(labels, return_inverse=True)
    counts = np.bincount(rows)
    if len(present) < 2 or np.median(counts) < _FEWEST_PER_CLASS:
        return LearningCurve(
            reason=f"A class has {int(np.median(counts))} training images as a rule; to see what more would "
            f"give takes {_FEWEST_PER_CLASS}."
        )
    averaged = values.mean(axis=1, dtype=np.float64)
    folds, _ = stratified_folds(averaged, rows)
    wrong = [_errors(averaged, values[:, 0], rows, folds, divisor, c) for divisor in _DIVISORS]
    judged = folds >= 0
    wrong = [errors[judged] for errors in wrong]
    train_count = round(int(judged.sum()) * (1 - 1 / (int(folds.max()) + 1))) + int((~judged).sum())
    points = tuple(
        CurvePoint(train_count // divisor, float(errors.mean()), errors.shape[1] * (int(folds.max()) + 1))
        for divisor, errors in zip(_DIVISORS, wrong, strict=True)
    )
    quarter, _, whole = wrong
    doubling = _doubling(quarter.mean() * len(quarter), whole.mean() * len(whole), len(whole))
    low, high = _interval(quarter, whole)
    return LearningCurve(points, doubling, (low, high), _gain(doubling, low), "")


def _errors(
    averaged: NDArray[np.float64],
    seen: NDArray[np.float32],
    rows: NDArray[np.int64],
    folds: NDArray[np.int64],
    divisor: int,
    c: float,
) -> NDArray[np.bool_]:
    """Return whether each image is wrong, ``(N, divisor)``, by classifiers of one part of the others each."""
    wrong = np.zeros((len(rows), divisor), dtype=bool)
    random = np.random.default_rng(0)
    for fold in range(int(folds.max()) + 1):
        held_out = folds == fold
        part_of = _parts(rows, ~held_out, divisor, random)
        for part in range(divisor):
            chosen = part_of == part
            classes, targets = np.unique(rows[chosen], return_inverse=True)
            solved = solve(averaged[chosen], targets, c)
            logits = seen[held_out].astype(np.float64) @ solved.weight.T + solved.bias
            wrong[held_out, part] = classes[logits.argmax(axis=1)] != rows[held_out]
    return wrong


def _parts(
    rows: NDArray[np.int64], among: NDArray[np.bool_], divisor: int, random: np.random.Generator
) -> NDArray[np.int64]:
    """Return the part that each image is dealt to, every part with its share of every class; −1: none."""
    part_of, dealt = np.full(len(rows), -1), 0
    for row in range(int(rows.max()) + 1):
        members = random.permutation(np.flatnonzero(among & (rows == row)))
        part_of[members] = (dealt + np.arange(len(members))) % divisor
        dealt += len(members)
    return part_of


def _doubling(quarter: Any, whole: Any, count: int) -> Any:
    """Return 1 − 2^b of numbers of errors; of three sizes the slope is that between the outer ones."""
    # Half an error more in one image more, so that none has a logarithm.
    slopes = np.log(((whole + 0.5) / (count + 1)) / ((quarter + 0.5) / (count + 1))) / (2 * math.log(2))
    return 1 - 2.0**slopes


def _interval(quarter: NDArray[np.bool_], whole: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the 95 % interval of what a doubling takes away, over images and over subsets of a quarter."""
    random, count = np.random.default_rng(0), len(whole)
    doublings = np.empty(_NUM_DRAWS)
    for draw in range(_NUM_DRAWS):
        images = random.integers(count, size=count)
        subsets = random.integers(quarter.shape[1], size=quarter.shape[1])
        few = quarter[images][:, subsets].mean() * count
        doublings[draw] = _doubling(few, float(whole[images].sum()), count)
    low, high = np.quantile(doublings, (0.025, 0.975)).tolist()
    return low, high


def _gain(doubling: float, low: float) -> Gain:
    if low <= 0 or doubling < _LITTLE:
        return "none"
    return "a lot" if doubling >= _LOT else "a little"
