"""Why detections are wrong and objects are missed, and what mending each kind of error would gain.

The kinds are those of TIDE (Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object Detection
Errors", section 2.2), at an IoU of .5 for a match and .1 for the background; a wrong detection is of the
first kind that fits:

- ``place``: near an object of its class, at an IoU from .1 to .5 (localization)
- ``class``: on an object of another class
- ``twice``: on an object of its class that a surer detection has (duplicate)
- ``background``: on no object
- ``both``: near an object of another class

An object that no detection has is ``missed`` unless an error of place or class explains it.

What a kind costs is the AP50 that would be gained were it mended (section 2.3): the surest detection of the
wrong class or place of an object that none has becomes right, other wrong detections of the kind vanish, and
missed objects are not asked for. Gains do not add up.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from deepresidual.evaluation.objects.matching import Matches
from deepresidual.evaluation.objects.overlaps import LEAST
from deepresidual.evaluation.objects.precision import average_precisions
from deepresidual.evaluation.objects.rules import OVERLAPS, Metric

ErrorKind = Literal["class", "place", "both", "twice", "background", "missed"]

ERROR_KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)

_NO_KIND, _NO_OBJECT = -1, -1


@dataclass(frozen=True)
class Errors:
    """The errors of a split at an IoU of .5.

    Attributes:
        kind: ``(D,)`` int64, index into :data:`ERROR_KINDS` of each wrong detection; −1 of the others.
        nearest: ``(D,)`` int64, the object that a wrong detection overlaps most; −1 of those on none.
        unfound: ``(G,)``, objects that no detection has.
        missed: ``(G,)``, those of them that no error of place or class explains.
    """

    kind: NDArray[np.int64]
    nearest: NDArray[np.int64]
    unfound: NDArray[np.bool_]
    missed: NDArray[np.bool_]

    def count(self, kind: ErrorKind) -> int:
        """Return the number of errors of a kind."""
        return int(self.missed.sum() if kind == "missed" else (self.kind == ERROR_KINDS.index(kind)).sum())


def find_errors(matches: Matches) -> Errors:
    """Return the errors of the first IoU of ``matches``."""
    found, truth, needed = matches.found, matches.truth, OVERLAPS[0]
    taken, right = matches.taken[:, 0], matches.right[:, 0]
    is_found = np.zeros(len(truth), np.bool_)
    is_found[taken[right]] = True
    pairs = matches.pairs
    is_same = matches.same_class
    counts = ~truth.ignored[pairs.truth]
    same, same_object = _highest(matches, counts & is_same)
    other, other_object = _highest(matches, counts & ~is_same)
    again, again_object = _highest(matches, counts & is_same & is_found[pairs.truth])
    every, every_object = _highest(matches, counts)
    cases = [
        ("place", (same >= LEAST) & (same <= needed), same_object),
        ("class", other >= needed, other_object),
        ("twice", again >= needed, again_object),
        ("background", every <= LEAST, every_object),
        ("both", np.ones(len(found), np.bool_), every_object),
    ]
    wrong = ~right & ~matches.ignored[:, 0]
    conditions = [wrong & condition for _, condition, _ in cases]
    kind = np.select(conditions, [ERROR_KINDS.index(name) for name, _, _ in cases], _NO_KIND)
    nearest = np.select(conditions, [objects for _, _, objects in cases], _NO_OBJECT)
    unfound = ~is_found & ~truth.ignored
    explained = np.zeros(len(truth), np.bool_)
    explained[nearest[np.isin(kind, [ERROR_KINDS.index("place"), ERROR_KINDS.index("class")])]] = True
    return Errors(kind, nearest, unfound, unfound & ~explained)


def _highest(matches: Matches, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return for each detection the highest IoU among the chosen pairs, 0 without one, and its object."""
    pairs = matches.pairs[chosen]
    order = np.lexsort((pairs.truth, -pairs.iou, pairs.found))
    pairs = pairs[order]
    pairs = pairs[np.diff(pairs.found, prepend=-1) > 0]
    iou, objects = np.zeros(len(matches.found)), np.full(len(matches.found), _NO_OBJECT)
    iou[pairs.found], objects[pairs.found] = pairs.iou, pairs.truth
    return iou, objects


def gains(matches: Matches, errors: Errors, metric: Metric) -> dict[ErrorKind, float]:
    """Return the AP50 that mending each kind of error would gain; 0 where there is no object."""
    now = _ap50(matches, metric)
    return {kind: max(0.0, _ap50(_mended(matches, errors, kind), metric) - now) for kind in ERROR_KINDS}


def _ap50(matches: Matches, metric: Metric) -> float:
    figures = average_precisions(matches, metric)[0, 0]
    known = figures[~np.isnan(figures)]
    return float(known.mean()) if len(known) else 0.0


def _mended(matches: Matches, errors: Errors, kind: ErrorKind) -> Matches:
    """Return the matches at the first IoU without the errors of a kind."""
    first = dataclasses.replace(matches, taken=matches.taken[:, :1])
    if kind == "missed":
        truth = dataclasses.replace(matches.truth, ignored=matches.truth.ignored | errors.missed)
        return dataclasses.replace(first, truth=truth)
    wrong = errors.kind == ERROR_KINDS.index(kind)
    becomes_right = np.zeros(len(wrong), np.bool_)
    if kind in ("place", "class"):
        rows = np.flatnonzero(wrong)
        rows = rows[errors.unfound[errors.nearest[rows]]]
        rows = rows[np.lexsort((rows, -matches.found.scores[rows]))]
        becomes_right[rows[np.unique(errors.nearest[rows], return_index=True)[1]]] = True
    taken, labels = first.taken.copy(), matches.found.labels.copy()
    taken[becomes_right, 0] = errors.nearest[becomes_right]
    labels[becomes_right] = matches.truth.labels[errors.nearest[becomes_right]]
    kept = ~wrong | becomes_right
    left = {
        name: getattr(matches.found, name)[kept] for name in ("image", "boxes", "crowd", "ignored", "scores")
    }
    found = dataclasses.replace(matches.found, labels=labels[kept], **left)
    return dataclasses.replace(first, found=found, taken=taken[kept])
