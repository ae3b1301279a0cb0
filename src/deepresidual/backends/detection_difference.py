"""``DetectionDifference``: how what a detector finds differs from a reference, object by object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepresidual.backends.object_detector import FoundInView
    from deepresidual.data.objects import Objects

SAME_BOX_PX, SAME_SCORE, SAME_MASK = 0.1, 1e-3, 0.02
"""Largest difference of the edges of a box in pixels of the view, of its score, and of the cells of its mask,
up to which an object is the same. Sums in another order move them by thousandths of that."""

LEAST_SAME = 0.98
"""Share of the objects that have to be the same. Two boxes that a detector is equally sure of may suppress
each other the other way round, and one whose score is at the limit may be found or not."""

_MATCHES = 0.5


@dataclass(frozen=True)
class DetectionDifference:
    """Difference of what was found in some images from a reference.

    Attributes:
        images: Number of images.
        objects: Objects that the reference finds in them.
        matched: Objects of the reference that are found with the same class and an overlap of at least half.
        same: Those whose box, score and mask are the same (:data:`SAME_BOX_PX`, :data:`SAME_SCORE`,
            :data:`SAME_MASK`).
        others: Objects that are found and that the reference does not find.
        equal_images: Share of the images whose objects are all the same, with no others.
        box_px: Largest difference of an edge of a matched box, in pixels of the view.
        score: Largest difference of the score of a matched object.
        mask: Largest difference of a cell of the mask of a matched object; 0 without masks.
    """

    images: int
    objects: int
    matched: int
    same: int
    others: int
    equal_images: float
    box_px: float
    score: float
    mask: float

    @classmethod
    def between(cls, found: Sequence[FoundInView], reference: Sequence[FoundInView]) -> DetectionDifference:
        """Compare what was found in each image with a reference; what is not finite differs by infinity."""
        gaps = [_gaps(own, other) for own, other in zip(found, reference, strict=True)]
        same = [int((each <= _limits()).all(axis=1).sum()) for each in gaps]
        equal = [
            count == len(own) == len(other) for count, own, other in zip(same, found, reference, strict=True)
        ]
        everything = np.concatenate([np.zeros((1, 3)), *gaps]).max(axis=0)
        return cls(
            len(reference),
            sum(map(len, reference)),
            sum(map(len, gaps)),
            sum(same),
            sum(map(len, found)) - sum(map(len, gaps)),
            sum(equal) / len(equal) if equal else 1.0,
            *(float(value) for value in everything),
        )

    @property
    def share(self) -> float:
        """Share of all objects, of both sides, that are the same on both."""
        total = self.objects + self.others
        return self.same / total if total else 1.0

    def is_within(self, least: float = LEAST_SAME) -> bool:
        """Return whether at least this share of the objects is the same."""
        return self.share >= least

    def matched_summary(self) -> str:
        """Return in words what is found again, of a file that rounds."""
        others = f"; {self.others:,} are others" if self.others else ""
        return f"{self.matched:,} of {self.objects:,} objects are found with half an overlap or more{others}"

    def summary(self) -> str:
        """Return the difference in words."""
        masks = f", cells of masks by {self.mask:.2g}" if self.mask else ""
        return (
            f"{self.same:,} of {self.objects:,} objects are the same"
            f"{f' and {self.others:,} are others' if self.others else ''}; "
            f"boxes differ by {self.box_px:.2g} px, scores by {self.score:.2g}{masks}"
        )


def sure_agreement(
    found: Sequence[FoundInView | Objects],
    reference: Sequence[FoundInView | Objects],
    min_score: float,
    max_gap: float = 1.0,
) -> float:
    """Return the share of the objects of either side that the other finds as well, 1 where there is none.

    Objects whose score is at least ``min_score`` count. The other side finds one if it has an object of the
    same class that overlaps by half, whatever its score: what is just above a limit on one side may be just
    below on the other.

    Args:
        found: What was found in each image.
        reference: What another one finds.
        min_score: Score from which on an object counts.
        max_gap: Largest difference of the two scores.
    """
    num_sure = num_found = 0
    for own, other in zip(found, reference, strict=True):
        for first, second in ((own, other), (other, own)):
            for number in np.flatnonzero(_scores(first) >= min_score):
                overlap = _overlaps(second.boxes, first.boxes[number])
                gap = np.abs(_scores(second).astype(np.float64) - float(_scores(first)[number]))
                is_there = (overlap >= _MATCHES) & (second.labels == first.labels[number]) & (gap <= max_gap)
                num_sure += 1
                num_found += bool(is_there.any())
    return num_found / num_sure if num_sure else 1.0


def _scores(objects: FoundInView | Objects) -> NDArray[np.float32]:
    assert objects.scores is not None  # noqa: S101  # of what was found
    return objects.scores


def _limits() -> NDArray[np.float64]:
    return np.array([SAME_BOX_PX, SAME_SCORE, SAME_MASK])


def _gaps(found: FoundInView, reference: FoundInView) -> NDArray[np.float64]:
    """Return how box, score and mask of each object of a reference that is found differ, ``(k, 3)``."""
    rows = []
    free = np.ones(len(found), np.bool_)
    for number in range(len(reference)):
        overlap = _overlaps(found.boxes, reference.boxes[number])
        overlap[~free | (found.labels != reference.labels[number])] = -1
        if not len(overlap) or overlap.max() < _MATCHES:
            continue
        best = int(overlap.argmax())
        free[best] = False
        gaps = [
            np.abs(found.boxes[best].astype(np.float64) - reference.boxes[number]).max(),
            abs(float(found.scores[best]) - float(reference.scores[number])),
            0.0,
        ]
        if found.masks is not None and reference.masks is not None:
            gaps[2] = np.abs(found.masks[best].astype(np.float64) - reference.masks[number]).max(initial=0)
        rows.append([value if np.isfinite(value) else np.inf for value in gaps])
    return np.array(rows, np.float64).reshape(-1, 3)


def _overlaps(boxes: NDArray[np.float32], box: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the intersection over union of each of ``(n, 4)`` boxes with one."""
    edges = boxes.astype(np.float64)
    low, high = np.maximum(edges[:, :2], box[:2]), np.minimum(edges[:, 2:], box[2:])
    shared = (high - low).clip(min=0).prod(axis=1)
    areas = (edges[:, 2:] - edges[:, :2]).prod(axis=1)
    overlaps: NDArray[np.float64] = shared / np.maximum(
        areas + float((box[2:] - box[:2]).prod()) - shared, 1e-9
    )
    return overlaps
