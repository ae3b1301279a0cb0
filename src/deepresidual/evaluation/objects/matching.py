"""Which detections are right: each matched to an object of its image, by COCO's rule or Pascal VOC's.

COCO (``cocoeval.py``, ``evaluateImg``): the detections of an image and class, highest score first, each take
the object of the highest IoU that none has taken yet, if that IoU reaches the threshold.

Pascal VOC (Everingham et al. 2010, section 4.2): each detection belongs to the object of the highest IoU. It
is right if that IoU exceeds the threshold and no detection of a higher score has the object. VOC counts whole
pixels from 1 to the last, so its sides are last − first + 1; edges here are continuous, and right − left is
the same number.

Either way a detection of a crowd or of a difficult object is neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.objects import Objects
from deepresidual.evaluation.objects.overlaps import Flat, Pairs, overlapping_masks, overlapping_pairs
from deepresidual.evaluation.objects.rules import OVERLAPS, Metric, Overlap

_NO_OBJECT = -1


@dataclass(frozen=True)
class Matches:
    """Detections and objects of a split, matched at ``T`` IoU.

    Attributes:
        found: ``D`` detections, by score within an image.
        truth: ``G`` objects.
        pairs: Those that overlap, of all classes.
        taken: ``(D, T)`` int64: the object that each detection takes, −1 where it takes none.
        num_classes: Number of classes.
    """

    found: Flat
    truth: Flat
    pairs: Pairs
    taken: NDArray[np.int64]
    num_classes: int

    @cached_property
    def ignored(self) -> NDArray[np.bool_]:
        """``(D, T)``: detections that are neither right nor wrong."""
        ignored: NDArray[np.bool_] = (self.taken != _NO_OBJECT) & _at(self.truth.ignored, self.taken)
        return ignored

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """``(D, T)``: detections that are right."""
        right: NDArray[np.bool_] = (self.taken != _NO_OBJECT) & ~_at(self.truth.ignored, self.taken)
        return right

    @cached_property
    def same_class(self) -> NDArray[np.bool_]:
        """``(P,)``: pairs of one class."""
        same: NDArray[np.bool_] = self.found.labels[self.pairs.found] == self.truth.labels[self.pairs.truth]
        return same


def match(
    found: Sequence[Objects],
    truth: Sequence[Objects],
    num_classes: int,
    metric: Metric = "coco",
    overlap: Overlap = "boxes",
) -> Matches:
    """Match the detections of all images at every IoU of :data:`OVERLAPS`.

    Args:
        found: What was found in each image, highest score first.
        truth: What each image has.
        num_classes: Number of classes.
        metric: Whose rule.
        overlap: What is compared; of masks both sides have some.
    """
    detections, objects = Flat.of(found), Flat.of(truth)
    if overlap == "masks":
        pairs = overlapping_masks(found, truth, whole_crowds=metric == "coco")
    else:
        pairs = overlapping_pairs(detections, objects, whole_crowds=metric == "coco")
    matches = Matches(detections, objects, pairs, np.zeros((0, 0), np.int64), num_classes)
    own = pairs[matches.same_class]
    taken = _coco(own, matches) if metric == "coco" else _voc(own, matches)
    return Matches(detections, objects, pairs, taken, num_classes)


def _coco(pairs: Pairs, matches: Matches) -> NDArray[np.int64]:
    """Match by COCO's rule, one detection of every image and class at a time.

    Objects that count come before ignored ones; of equal IoU COCO takes the last object.
    """
    found, truth = matches.found, matches.truth
    pairs = pairs[pairs.iou >= OVERLAPS[0]]
    taken = np.full((len(found), len(OVERLAPS)), _NO_OBJECT)
    if not len(pairs.found):
        return taken
    turns = _turns(pairs.found, found.image * matches.num_classes + found.labels)
    order = np.lexsort((-pairs.truth, -pairs.iou, truth.ignored[pairs.truth], pairs.found, turns))
    pairs, turns = pairs[order], turns[order]
    thresholds = np.minimum(OVERLAPS, 1 - 1e-10)
    is_free = np.ones((len(truth), len(OVERLAPS)), np.bool_)
    bounds = np.searchsorted(turns, np.arange(turns[-1] + 2))
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        detection, thing, iou = pairs.found[start:stop], pairs.truth[start:stop], pairs.iou[start:stop]
        usable = is_free[thing] & (iou[:, None] >= thresholds)
        starts = np.flatnonzero(np.diff(detection, prepend=-1))
        places = np.where(usable, np.arange(len(thing))[:, None], len(thing))
        best = np.minimum.reduceat(places, starts, axis=0)
        row, column = np.nonzero(best < len(thing))
        chosen = thing[best[row, column]]
        taken[detection[starts][row], column] = chosen
        is_free[chosen, column] = truth.crowd[chosen]
    return taken


def _turns(detections: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each pair how many detections of its image and class come before its own."""
    present, inverse = np.unique(detections, return_inverse=True)
    order = np.argsort(groups[present], kind="stable")
    in_order = groups[present][order]
    turns = np.empty(len(present), np.int64)
    turns[order] = np.arange(len(present)) - np.searchsorted(in_order, in_order)
    of_pairs: NDArray[np.int64] = turns[inverse]
    return of_pairs


def _voc(pairs: Pairs, matches: Matches) -> NDArray[np.int64]:
    """Match by Pascal VOC's rule; of equal IoU the first object."""
    taken = np.full((len(matches.found), len(OVERLAPS)), _NO_OBJECT)
    order = np.lexsort((pairs.truth, -pairs.iou, pairs.found))
    pairs = pairs[order]
    pairs = pairs[np.diff(pairs.found, prepend=-1) > 0]
    for column, threshold in enumerate(OVERLAPS.tolist()):
        enough = pairs[pairs.iou > threshold]
        is_first = np.zeros(len(enough.found), np.bool_)
        is_first[np.unique(enough.truth, return_index=True)[1]] = True
        chosen = enough[is_first | matches.truth.ignored[enough.truth]]
        taken[chosen.found, column] = chosen.truth
    return taken


def _at(values: NDArray[np.bool_], places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return ``values[places]``, anything where a place is none."""
    return values[places] if len(values) else np.zeros(places.shape, np.bool_)
