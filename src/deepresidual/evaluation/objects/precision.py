"""Average precision from matches, for many draws of the images at once.

Precision changes its envelope at right detections alone. What lies between two of them only matters as a
sum, so that a draw costs the additions of its detections and a few operations for each right one. A draw is
a weight for each image: how often it comes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deepresidual.evaluation.objects.matching import Matches
from deepresidual.evaluation.objects.rules import RECALLS, Metric

_RECALLS_2007: NDArray[np.float64] = np.linspace(0, 1, 11)
_TOGETHER = 400_000  # numbers of a block of draws


def average_precisions(
    matches: Matches, metric: Metric, weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Return the average precision of each draw, IoU and class, ``(B, T, K)``; NaN without an object.

    Args:
        matches: Detections and objects of the images.
        metric: ``coco``: mean of the precision at 101 recalls; ``voc07``: at 11; ``voc12``: area under the
            curve. Of each recall the highest precision at that recall or a higher one.
        weights: ``(B, N)``, how often each image comes. Default: one draw, each image once.
    """
    weights = np.ones((1, matches.found.num_images)) if weights is None else weights
    # Half the memory to move; sums of whole numbers are exact up to 2^24.
    by_image = np.ascontiguousarray(weights.T, dtype=np.float32)
    right, ignored = matches.right, matches.ignored
    found, truth = matches.found, matches.truth
    by_class = np.lexsort((np.arange(len(found)), -found.scores, found.labels))
    bounds = np.searchsorted(found.labels[by_class], np.arange(matches.num_classes + 1))
    figures = np.full((len(weights), right.shape[1], matches.num_classes), np.nan)
    for label in range(matches.num_classes):
        objects = truth.image[(truth.labels == label) & ~truth.ignored]
        if not len(objects):
            continue
        rows = by_class[bounds[label] : bounds[label + 1]]
        last = np.flatnonzero(right[rows].any(axis=1))
        rows = rows[: last[-1] + 1 if len(last) else 0]
        block = max(1, _TOGETHER // max(1, len(rows)))
        for start in range(0, len(weights), block):
            part = by_image[:, start : start + block]
            figures[start : start + block, :, label] = _of_class(
                part,
                found.image[rows],
                right[rows],
                ignored[rows],
                part[objects].sum(axis=0, dtype=np.float64),
                metric,
            ).T
    return figures


def _of_class(
    weights: NDArray[np.float32],
    image: NDArray[np.int64],
    right: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
    num_objects: NDArray[np.float64],
    metric: Metric,
) -> NDArray[np.float64]:
    """Return the average precision of a class at each IoU in each draw, ``(T, B)``.

    Args:
        weights: ``(N, B)``.
        image: ``(n,)``, images of the detections of the class, highest score first; the last one is right.
        right: ``(n, T)``.
        ignored: ``(n, T)``.
        num_objects: ``(B,)``, objects of the class in each draw.
        metric: See :func:`average_precisions`.
    """
    figures = np.zeros((right.shape[1], weights.shape[1]))
    steps = np.flatnonzero(right.any(axis=1))
    if len(steps):
        between = np.add.reduceat(weights[image], np.concatenate([[0], steps[:-1] + 1]), axis=0)
        all_found = between.cumsum(axis=0, dtype=np.float64)
    for column in range(right.shape[1]):
        own = np.flatnonzero(right[steps, column])
        if not len(own):
            continue
        hits = weights[image[steps[own]]].cumsum(axis=0, dtype=np.float64)
        counted = all_found[own]
        neither = np.flatnonzero(ignored[:, column])
        if len(neither):
            skipped = np.concatenate(
                [np.zeros_like(counted[:1]), weights[image[neither]].cumsum(axis=0, dtype=np.float64)]
            )
            counted = counted - skipped[np.searchsorted(neither, steps[own])]
        precision = np.divide(hits, counted, out=np.zeros_like(hits), where=counted > 0)
        envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        recall = np.divide(hits, num_objects, out=np.zeros_like(hits), where=num_objects > 0)
        width = _width(recall, metric)
        width[1:] -= width[:-1].copy()
        figures[column] = (envelope * width).sum(axis=0)
    figures[:, num_objects == 0] = np.nan
    return figures


def _width(recall: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    """Return how much of the axis of recalls each recall has reached, 0 to 1."""
    match metric:
        case "coco":
            return _num_reached(recall, RECALLS) / len(RECALLS)
        case "voc07":
            return _num_reached(recall, _RECALLS_2007) / len(_RECALLS_2007)
        case "voc12":
            return recall.copy()


def _num_reached(recall: NDArray[np.float64], levels: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return how many of evenly spaced levels are at most each recall; a search without its steps."""
    level = (recall * (len(levels) - 1) + 1e-9).astype(np.int64)
    return level + 1 - (levels[level] > recall)
