"""Thresholds of probability from which a label is given, chosen for the highest F1 on a split.

A class of many positive images has a threshold of its own; others share one, since on few images the best
threshold of a class is a matter of luck: on made-up images of digits thresholds chosen on 30 images promised
a macro F1 of .86 and gave .77, and the common one gave .76.

What is chosen on some images flatters them. Figures of the same split are therefore taken crosswise: each
half of it is judged by the thresholds that the other half would have chosen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepresidual.evaluation.multilabel.metrics import decisions

USUAL = 0.5
"""The threshold where nothing is known of a better one."""

FEWEST_POSITIVES = 20
"""From so many positive images on a class has a threshold of its own."""

_GRID = np.arange(1, 20) / 20


def choose_thresholds(probabilities: NDArray[np.floating[Any]], targets: NDArray[np.bool_]) -> list[float]:
    """Return a threshold for every class, a multiple of 0.05, ties to the one nearest 0.5.

    Args:
        probabilities: ``(N, K)``.
        targets: ``(N, K)``.
    """
    f1 = []
    common = []
    for threshold in _GRID:
        counted = decisions(probabilities >= threshold, targets)
        f1.append(counted.f1[0])
        common.append(counted.macro_f1[0])
    shared = _best(np.array(common))
    own = np.array(f1)
    return [
        _best(own[:, row]) if count >= FEWEST_POSITIVES else shared
        for row, count in enumerate(targets.sum(axis=0).tolist())
    ]


def _best(scores: NDArray[np.float64]) -> float:
    """Return the threshold of the highest score; ``USUAL`` where there is none."""
    if np.isnan(scores).all():
        return USUAL
    highest = np.flatnonzero(scores >= np.nanmax(scores) - 1e-12)
    nearest = min(highest.tolist(), key=lambda place: (abs(_GRID[place] - USUAL), place))
    return float(_GRID[nearest])


def decide_crosswise(
    probabilities: NDArray[np.floating[Any]], targets: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the labels that images are given by thresholds that were chosen on the other half, ``(N, K)``.

    The halves are the same every time.
    """
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(targets))
    given = np.zeros(targets.shape, dtype=np.bool_)
    for chosen_on, judged in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        given[judged] = probabilities[judged] >= choose_thresholds(
            probabilities[chosen_on], targets[chosen_on]
        )
    return given
