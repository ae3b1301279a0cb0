"""The way from anchors to detections, stage by stage, of one image: what :class:`Detector` passes through.

The detections are those of the detector itself, to the bit; beside them stands what they were made of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from deepresidual.nn.detection.anchors import make_anchors
from deepresidual.nn.detection.detector import Detector, blanked
from deepresidual.nn.detection.proposals import Proposed, Size
from deepresidual.nn.detection.regions import Candidates, Found


@dataclass(frozen=True, eq=False)
class Stages:
    """What each stage of a detector makes of one image, in pixels of the network's input.

    Attributes:
        anchors: Anchors of each level, ``(a, 4)``.
        places: Height and width of each level's map: an anchor belongs to one of its places.
        proposals: ``(k, 4)``, the best first.
        objectness: How likely each proposal is an object, ``(k,)`` from 0 to 1.
        proposal_anchors: Which anchor of all levels' each proposal was, ``(k,)`` int64.
        candidates: What the proposals became: boxes with class and score.
        kept: Which candidates are detections, ``(n,)`` int64.
        found: The detections.
        top_scores: The highest score that any proposal has of each class, given out or not, ``(classes,)``.
    """

    anchors: tuple[Tensor, ...]
    places: tuple[Size, ...]
    proposals: Tensor
    objectness: Tensor
    proposal_anchors: Tensor
    candidates: Candidates
    kept: Tensor
    found: Found
    top_scores: Tensor

    @property
    def regions(self) -> Tensor:
        """Which proposal each detection was, ``(n,)`` int64."""
        return self.candidates.regions[self.kept]

    def cpu(self) -> Stages:
        """Return the same on the CPU."""
        return replace(
            self,
            **_on_cpu(self),
            anchors=tuple(level.cpu() for level in self.anchors),
            candidates=replace(self.candidates, **_on_cpu(self.candidates)),
            found=replace(self.found, **_on_cpu(self.found)),
        )


def _on_cpu(value: Stages | Candidates | Found) -> dict[str, Any]:
    return {name: field.cpu() for name, field in vars(value).items() if isinstance(field, Tensor)}


@torch.no_grad()
def detect_in_stages(network: Detector, images: Tensor, size: Size) -> Stages:
    """Return how the objects of an image are found.

    Args:
        network: The detector, in evaluation mode.
        images: ``(1, in_channels, H, W)`` normalized float: one image, which lies in the top left corner.
        size: Its height and width; the rest is padding.
    """
    image = (images.shape[2], images.shape[3])
    maps = network.backbone(blanked(images, [size]))
    proposed: Proposed = network.rpn(maps, image, [size])
    (proposals,), (objectness,), (origins,) = proposed.boxes, proposed.objectness, proposed.anchors
    heads, read = network.roi_heads, maps[: len(network.spec.read_stages)]
    logits, codes = heads.predict(read, [proposals], network.backbone.last_stage)
    scores = logits.softmax(dim=1)
    candidates = heads.candidates(scores, codes, proposals, size)
    kept = heads.kept(candidates)
    is_finite = logits.isfinite().all() & codes.isfinite().all() & proposed.is_finite.all()
    found = Found(candidates.boxes[kept], candidates.labels[kept], candidates.scores[kept], is_finite)
    if network.spec.masks is not None:
        (found,) = heads.with_masks([found], read, network.backbone.last_stage)
    nothing = scores.new_zeros(1, network.num_classes)
    shapes = tuple((level.shape[2], level.shape[3]) for level in maps)
    return Stages(
        tuple(make_anchors(network.spec.anchors, shapes, image, network.spec.strides, images.device)),
        shapes,
        proposals,
        objectness,
        origins,
        candidates,
        kept,
        replace(found, is_finite=found.is_finite & is_finite),
        torch.cat([nothing, scores[:, 1:]]).amax(dim=0),
    )
