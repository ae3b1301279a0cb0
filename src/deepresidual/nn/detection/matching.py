"""Matching: which object an anchor or a region is taught, or that it is background, or neither."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepresidual.errors import ConfigurationError
from deepresidual.fields import check_seed
from deepresidual.nn.detection.boxes import areas, intersections, iou
from deepresidual.nn.detection.masks import TaughtMask

MIN_IGNORED = 0.5
"""Share of a box's own area inside an ignored one from which on the box is not taken for background."""


@dataclass(frozen=True, eq=False)
class Taught:
    """What an image teaches a detector.

    Attributes:
        boxes: ``(n, 4)`` float32: left, top, right, bottom, in pixels of the network's input; areas above 0.
        labels: ``(n,)`` int64: classes from 0.
        ignored: ``(n,)`` bool: boxes (crowds, and what is difficult) that are taught neither as objects nor
            as background, as is what lies in them.
        seed: Decides which anchors and regions are learned from, 0 to 2⁶³ − 1.
        masks: The mask of each; ``None`` for what has none. Empty: none has one.

    Raises:
        ConfigurationError: Shapes do not fit each other, or the seed is none.
    """

    boxes: Tensor
    labels: Tensor
    ignored: Tensor
    seed: int = 0
    masks: tuple[TaughtMask | None, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.boxes)
        shapes = [tuple(tensor.shape) for tensor in (self.boxes, self.labels, self.ignored)]
        if shapes != [(count, 4), (count,), (count,)]:
            raise ConfigurationError(
                f"boxes, labels and ignored have the shapes {', '.join(map(str, shapes))}",
                expected="(n, 4), (n,) and (n,)",
            )
        if self.masks and len(self.masks) != count:
            raise ConfigurationError(f"there are {len(self.masks)} masks", expected=f"{count}, one a box")
        check_seed(self.seed)

    def to(self, device: torch.device) -> Taught:
        """Return the same on a device."""
        boxes, labels, ignored = (each.to(device) for each in (self.boxes, self.labels, self.ignored))
        return Taught(boxes, labels, ignored, self.seed, self.masks)

    @property
    def objects(self) -> Tensor:
        """Boxes of the objects, ``(k, 4)`` float32."""
        return self.boxes[~self.ignored].float()

    @property
    def object_masks(self) -> tuple[TaughtMask | None, ...]:
        """Masks of the objects."""
        masks = self.masks or (None,) * len(self.boxes)
        return tuple(mask for mask, ignored in zip(masks, self.ignored.tolist(), strict=True) if not ignored)


@dataclass(frozen=True, eq=False)
class Matches:
    """What each of n anchors or regions is.

    Attributes:
        objects: ``(n,)`` int64: which of :attr:`Taught.objects` it overlaps most; 0 where there are none.
        positive: ``(n,)`` bool: it is taught as that object.
        negative: ``(n,)`` bool: it is taught as background.
    """

    objects: Tensor
    positive: Tensor
    negative: Tensor


def match(
    boxes: Tensor,
    taught: Taught,
    *,
    positive_iou: float,
    negative_iou: tuple[float, float],
    best_of_each: bool = False,
    usable: Tensor | None = None,
) -> Matches:
    """Match boxes with the objects of an image.

    Args:
        boxes: ``(n, 4)`` anchors or regions.
        taught: The objects.
        positive_iou: Overlap from which on a box is an object's.
        negative_iou: Overlap with the nearest object of what is background: from the first, below the second.
        best_of_each: Whether the boxes that overlap an object most are positive in any case (Ren et al. 2015,
            section 3.1.2); all of them, where several overlap it equally.
        usable: ``(n,)`` bool: which boxes can be either. Default: all.
    """
    objects = taught.objects
    if len(objects):
        overlaps = iou(objects, boxes)
        if usable is not None:
            overlaps = overlaps.masked_fill(~usable, 0)
        highest, nearest = overlaps.max(dim=0)
        positive = highest >= positive_iou
        if best_of_each:
            of_object = overlaps.max(dim=1, keepdim=True).values
            # An object that no box overlaps would otherwise be every box's.
            positive = positive | ((overlaps == of_object) & (of_object > 0)).any(dim=0)
    else:
        highest, nearest = boxes.new_zeros(len(boxes)), boxes.new_zeros(len(boxes), dtype=torch.int64)
        positive = torch.zeros_like(nearest, dtype=torch.bool)
    low, high = negative_iou
    negative = (highest >= low) & (highest < high) & ~positive
    ignored = taught.boxes[taught.ignored].float()
    if len(ignored):
        negative = negative & (intersections(ignored, boxes).amax(dim=0) < MIN_IGNORED * areas(boxes))
    if usable is not None:
        positive, negative = positive & usable, negative & usable
    return Matches(nearest, positive, negative)
