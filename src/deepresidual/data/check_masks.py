"""Check the masks of a data set beside its boxes: where they lie, and which objects have none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from deepresidual.data.masks import Crop
from deepresidual.data.objects import Objects

# Corners of polygons and boxes are rounded each for itself, to a pixel at most.
_ROUNDING_PX = 1.0
# What fills so little of its box is thinner than skis: a line, or the mask of another object.
_LEAST_FILLED = 0.05
# Where a part of an object is hidden some draw the box around all of it; half of it is seen as a rule.
_LEAST_EXTENT = 0.5
# A mask may have the shape of a box where things are square; most of them do where boxes were exported.
_MANY_BOXES, _FEW = 0.5, 10


@dataclass(frozen=True, slots=True)
class JudgedMasks:
    """The masks of an image, or of several, beside their boxes; crowds are not counted.

    Attributes:
        num_objects: Objects.
        num_known: How many have a mask.
        num_boxes: How many masks cover their whole box, as boxes do that were exported as polygons.
        differing: Row of every object whose mask is not that of its box, and how it differs, as a clause.
    """

    num_objects: int = 0
    num_known: int = 0
    num_boxes: int = 0
    differing: tuple[tuple[int, str], ...] = ()

    def __add__(self, other: JudgedMasks) -> JudgedMasks:
        """Return the counts of both; rows belong to an image and are left out."""
        return JudgedMasks(
            self.num_objects + other.num_objects,
            self.num_known + other.num_known,
            self.num_boxes + other.num_boxes,
        )


def judge_masks(objects: Objects) -> JudgedMasks:
    """Hold the masks of an image against their boxes, one at a time in memory."""
    masks, num_objects = objects.masks, int((~objects.crowd).sum())
    if masks is None:
        return JudgedMasks(num_objects)
    rows = np.flatnonzero(masks.known & ~objects.crowd).tolist()
    num_boxes, differing = 0, []
    for row in rows:
        mask, box = masks.crop(row), objects.boxes[row].astype(np.float64).tolist()
        if difference := _difference(mask, box):
            differing.append((row, difference))
        elif mask.pixels.all() and _extent(mask) >= _area(box) - _rounding(box):
            num_boxes += 1
    return JudgedMasks(num_objects, len(rows), num_boxes, tuple(differing))


def findings_of_masks(judged: JudgedMasks) -> Iterator[tuple[str, str]]:
    """Yield kind and clause of what is wrong with the masks of a split as a whole."""
    total, known = judged.num_objects, judged.num_known
    if 0 < known < total:
        detail = f"{total - known:,} of {total:,} objects have no mask, and the others have one"
        yield "mask-missing", f"{detail}; of these only boxes are learned and measured"
    if known >= _FEW and judged.num_boxes > _MANY_BOXES * known:
        detail = (
            f"{judged.num_boxes:,} of {known:,} masks cover their whole box, as boxes do that were exported"
        )
        yield "mask-is-box", f"{detail} as polygons; --task detect learns boxes alone"


def _difference(mask: Crop, box: Sequence[float]) -> str:
    """Return how a mask differs from a box that should lie around it; empty where it does not."""
    if not mask.pixels.size:
        return "covers no pixel"
    left, top, right, bottom = mask.box
    reach = max(box[0] - left, box[1] - top, right - box[2], bottom - box[3])
    if reach > _ROUNDING_PX:
        return f"reaches {reach:.0f} px out of its box"
    area = _area(box)
    if _extent(mask) < _LEAST_EXTENT * area - _rounding(box):
        own = f"{right - left:.0f}×{bottom - top:.0f}"
        return f"spans {own} px, and its box {box[2] - box[0]:.0f}×{box[3] - box[1]:.0f}"
    if (share := float(mask.pixels.sum()) / area) < _LEAST_FILLED and area > _rounding(box):
        return f"fills {share:.1%} of its box"
    return ""


def _extent(mask: Crop) -> int:
    """Return the area of the closest box around a mask."""
    return mask.pixels.size


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _rounding(box: Sequence[float]) -> float:
    """Return the area that rounding adds to a box or takes off: a pixel on two of its sides."""
    return (box[2] - box[0]) + (box[3] - box[1])
