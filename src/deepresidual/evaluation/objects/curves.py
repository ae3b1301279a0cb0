"""Curves of precision over recall at an IoU of .5, and the score from which on F1 is highest."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepresidual.evaluation.objects.matching import Matches

_LEVELS = np.linspace(0, 1, 51)
_DIGITS = 4  # of the numbers of a curve, which is drawn, not computed with


class Curve(NamedTuple):
    """Precision and recall of a class as fewer and fewer sure detections are taken.

    Attributes:
        recall: Levels of recall that are reached, every .02.
        precision: Highest precision at each or at a higher one.
        score: Score down to which detections are taken for it.
    """

    recall: tuple[float, ...] = ()
    precision: tuple[float, ...] = ()
    score: tuple[float, ...] = ()


class Threshold(NamedTuple):
    """The score from which on the F1 of a class is highest, and what it gives.

    It is chosen on the images that it is measured on, which flatters a little.

    Attributes:
        score: Detections of at least this score are taken.
        precision: Share of them that are right.
        recall: Share of the objects that they find.
        f1: Harmonic mean of the two.
    """

    score: float
    precision: float
    recall: float
    f1: float


def curve_and_threshold(matches: Matches, label: int, num_objects: int) -> tuple[Curve, Threshold | None]:
    """Return the curve of a class, empty where nothing is right, and its best threshold.

    Args:
        matches: Detections and objects of the images.
        label: The class.
        num_objects: Its objects that count.
    """
    chosen = (matches.found.labels == label) & ~matches.ignored[:, 0]
    scores, right = matches.found.scores[chosen], matches.right[chosen, 0]
    if not num_objects or not right.any():
        return Curve(), None
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], right[order].cumsum()
    # Detections of one score are taken together or not at all.
    last = np.flatnonzero(np.diff(scores, append=-np.inf))
    scores, hits = scores[last], hits[last]
    precision, recall = hits / (last + 1), hits / num_objects
    f1 = 2 * hits / (last + 1 + num_objects)
    best = int(f1.argmax())
    threshold = Threshold(*(float(values[best]) for values in (scores, precision, recall, f1)))
    levels = _LEVELS[: np.searchsorted(_LEVELS, recall[-1], side="right")]
    places = np.searchsorted(recall, levels)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return Curve(*(_rounded(values) for values in (levels, envelope[places], scores[places]))), threshold


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(value, _DIGITS) for value in values.tolist())
