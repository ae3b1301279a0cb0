"""Pairs of a detection and an object of its image that overlap, with their IoU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.masks import Runs
from deepresidual.data.objects import Objects
from deepresidual.errors import ConfigurationError

LEAST = 0.1
"""IoU below which a detection has nothing to do with an object (TIDE's background)."""

_TOGETHER = 2_000_000  # pairs of a block


@dataclass(frozen=True)
class Flat:
    """The objects of many images in one array, image by image.

    Attributes:
        image: ``(n,)`` int64, which image each is in.
        boxes: ``(n, 4)`` float64: left, top, right, bottom, in pixels.
        labels: ``(n,)`` int64.
        crowd: ``(n,)``, whether it is a crowd.
        ignored: ``(n,)``, whether it is neither right nor wrong to find it: crowds and difficult objects.
        scores: ``(n,)`` float64; zeros of annotated objects.
        num_images: Number of images.
        images: The objects of each image.
    """

    image: NDArray[np.int64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    scores: NDArray[np.float64]
    num_images: int
    images: Sequence[Objects] = ()

    @classmethod
    def of(cls, images: Sequence[Objects]) -> Flat:
        """Return the objects of ``images`` in their order."""
        every = [Objects.none(), *images]
        crowd = np.concatenate([objects.crowd for objects in every])
        zeros = np.zeros(0, np.float32)
        return cls(
            image=np.repeat(np.arange(len(images)), [len(objects) for objects in images]),
            boxes=np.concatenate([objects.boxes for objects in every]).astype(np.float64),
            labels=np.concatenate([objects.labels for objects in every]),
            crowd=crowd,
            ignored=crowd | np.concatenate([objects.difficult for objects in every]),
            scores=np.concatenate(
                [zeros if each.scores is None else each.scores for each in every]
                if any(each.scores is not None for each in every)
                else [np.zeros(len(crowd), np.float32)]
            ).astype(np.float64),
            num_images=len(images),
            images=images,
        )

    def __len__(self) -> int:
        return len(self.image)

    @property
    def areas(self) -> NDArray[np.float64]:
        """``(n,)``, areas of the boxes."""
        product: NDArray[np.float64] = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1)
        return product

    def mask(self, row: int) -> Runs | None:
        """Return the mask of an object; ``None``: it has none."""
        image = int(self.image[row])
        masks, place = self.images[image].masks, row - int(np.searchsorted(self.image, image))
        return None if masks is None or not masks.known[place] else masks.runs(place)


@dataclass(frozen=True)
class Pairs:
    """Detections with objects of their images, in order of the detections.

    Attributes:
        found: ``(P,)`` int64, which detection.
        truth: ``(P,)`` int64, which object.
        iou: ``(P,)`` float64, intersection over union.
    """

    found: NDArray[np.int64]
    truth: NDArray[np.int64]
    iou: NDArray[np.float64]

    def __getitem__(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> Pairs:
        """Return the pairs that a mask or an index array chooses."""
        return Pairs(self.found[chosen], self.truth[chosen], self.iou[chosen])


def overlapping_pairs(found: Flat, truth: Flat, *, whole_crowds: bool) -> Pairs:
    """Return all pairs in one image whose IoU is at least :data:`LEAST`.

    Args:
        found: Detections.
        truth: Objects.
        whole_crowds: Whether the overlap with a crowd is a share of the detection, as COCO has it; otherwise
            a crowd is a box like any other.
    """
    numbers = np.bincount(truth.image, minlength=truth.num_images)
    first = np.concatenate([[0], np.cumsum(numbers)])
    partners = numbers[found.image]
    ends = np.cumsum(partners)
    parts = []
    start = 0
    while start < len(found):
        begun = ends[start] - partners[start]
        stop = max(start + 1, int(np.searchsorted(ends, begun + _TOGETHER, side="right")))
        rows = np.repeat(np.arange(start, stop), partners[start:stop])
        place = np.arange(len(rows)) - (ends[rows] - partners[rows] - begun)
        columns = first[found.image[rows]] + place
        iou = _iou(found, truth, rows, columns, whole_crowds=whole_crowds)
        chosen = iou >= LEAST
        parts.append((rows[chosen], columns[chosen], iou[chosen]))
        start = stop
    if not parts:
        none = np.zeros(0, np.int64)
        return Pairs(none, none, np.zeros(0))
    return Pairs(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def overlapping_masks(found: Sequence[Objects], truth: Sequence[Objects], *, whole_crowds: bool) -> Pairs:
    """Return all pairs in one image whose masks have an IoU of at least :data:`LEAST`.

    Args:
        found: Detections of each image, with masks.
        truth: Objects of each, with masks.
        whole_crowds: As for :func:`overlapping_pairs`.
    """
    from faster_coco_eval.core import mask

    none = np.zeros(0, np.int64)
    parts = [(none, none, np.zeros(0))]
    first_found, first_truth = 0, 0
    for here, there in zip(found, truth, strict=True):
        if len(here) and len(there):
            crowd = there.crowd if whole_crowds else np.zeros(len(there), np.bool_)
            iou = np.asarray(mask.iou(runs_of(here), runs_of(there), crowd.astype(int).tolist()))
            rows, columns = np.nonzero(iou >= LEAST)
            parts.append((rows + first_found, columns + first_truth, iou[rows, columns]))
        first_found, first_truth = first_found + len(here), first_truth + len(there)
    return Pairs(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def runs_of(objects: Objects) -> list[dict[str, Any]]:
    """Return COCO's document of the mask of each object.

    Raises:
        ConfigurationError: They have none.
    """
    if objects.masks is None:
        raise ConfigurationError("objects have no masks", expected="a mask for each")
    return [objects.masks.runs(row).to_dict() for row in range(len(objects))]


def _iou(
    found: Flat, truth: Flat, rows: NDArray[np.int64], columns: NDArray[np.int64], *, whole_crowds: bool
) -> NDArray[np.float64]:
    here, there = found.boxes[rows], truth.boxes[columns]
    sides = np.minimum(here[:, 2:], there[:, 2:]) - np.maximum(here[:, :2], there[:, :2])
    shared = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], 0)
    own = found.areas[rows]
    union = own + truth.areas[columns] - shared
    if whole_crowds:
        union = np.where(truth.crowd[columns], own, union)
    iou: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)
    return iou
