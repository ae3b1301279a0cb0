"""The region proposal network (Ren et al. 2015, section 3.1): where there may be objects."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepresidual.nn.detection import boxes as boxes_
from deepresidual.nn.detection.anchors import inside, make_anchors
from deepresidual.nn.detection.gathering import pixel_table, weighted_sums
from deepresidual.nn.detection.matching import Taught, match
from deepresidual.nn.detection.sampling import draw_samples
from deepresidual.spec import DetectorSpec

_WEIGHTS = (1.0, 1.0, 1.0, 1.0)

Losses = dict[str, Tensor]
Size = tuple[int, int]


class ProposalHead(nn.Module):
    """Convolutions over each map, and two 1×1 for each place's anchors: objectness, and codes of boxes."""

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        width = spec.fpn_channels if spec.neck == "fpn" else spec.rpn_channels
        channels = [spec.map_channels, *[width] * spec.rpn_convs]
        self.conv = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(inputs, width, 3, padding=1), nn.ReLU(inplace=True))
                for inputs in channels[:-1]
            )
        )
        self.cls_logits = nn.Conv2d(width, spec.num_anchors, 1)
        self.bbox_pred = nn.Conv2d(width, 4 * spec.num_anchors, 1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return logits ``(N, a)`` and codes ``(N, a, 4)`` of the anchors of each map, float32."""
        logits, codes = [], []
        for level in maps:
            hidden = self.conv(level).float()
            # Half precision has so few numbers that anchors by the thousands would tie.
            with torch.autocast(hidden.device.type, enabled=False):
                of_class, of_box = (
                    layer(hidden).permute(0, 2, 3, 1) for layer in (self.cls_logits, self.bbox_pred)
                )
            logits.append(of_class.reshape(len(level), -1))
            codes.append(of_box.reshape(len(level), -1, 4))
        return logits, codes

    def at(self, maps: Sequence[Tensor], images: Tensor, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Return what :meth:`forward` does for some anchors alone: logits ``(n,)`` and codes ``(n, 4)``.

        A gradient then passes few places instead of whole maps: 256 of 16,368 anchors in an image of 256
        pixels. Of a head with one convolution.

        Args:
            maps: The map of each level, ``(N, C, H, W)``.
            images: ``(n,)`` int64: which image of the batch.
            anchors: ``(n,)`` int64: which anchor of all levels'.
        """
        count = self.cls_logits.out_channels
        places, kinds = anchors // count, anchors % count
        conv = cast("nn.Conv2d", self.conv.get_submodule("0.0"))
        patches = _patches(maps, images, places)
        hidden = functional.relu(functional.linear(patches, _as_matrix(conv), conv.bias)).float()
        with torch.autocast(hidden.device.type, enabled=False):
            logits, codes = (
                functional.linear(hidden, _as_matrix(layer), layer.bias)
                for layer in (self.cls_logits, self.bbox_pred)
            )
        each = torch.arange(len(anchors), device=anchors.device)
        return logits[each, kinds], codes.view(-1, count, 4)[each, kinds]


def _as_matrix(conv: nn.Conv2d) -> Tensor:
    """Return the weight of a convolution as ``(out, height · width · in)``, as gradients lie in memory."""
    return conv.weight.permute(0, 2, 3, 1).flatten(1)


class ProposalNetwork(nn.Module):
    """The head and what is made of what it says: proposals, and in training losses."""

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.head = ProposalHead(spec)
        self._anchors = spec.anchors
        self._strides = spec.strides
        self._settings = spec.proposals
        self._convs = spec.rpn_convs

    def forward(
        self,
        maps: Sequence[Tensor],
        image: Size,
        sizes: Sequence[Size],
        taught: Sequence[Taught] | None = None,
    ) -> Proposed:
        """Return the proposals of each image, and the losses.

        Args:
            maps: The map of each level, ``(N, C, H, W)``.
            image: Height and width of the batch's images, padding included.
            sizes: Height and width of each image.
            taught: What the images teach; ``None`` in evaluation.
        """
        shapes = [(level.shape[2], level.shape[3]) for level in maps]
        learns_at_places = self._learns_at_places(shapes)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not learns_at_places):
            logits, codes = self.head(maps)
        anchors = make_anchors(self._anchors, shapes, image, self._strides, maps[0].device)
        with torch.no_grad():
            proposed = self._propose(logits, codes, anchors, sizes, is_training=taught is not None)
            if taught is None:
                return proposed
            samples = self._sample(torch.cat(anchors), sizes, taught)
        if learns_at_places:
            logit, code = self.head.at(maps, samples.images, samples.anchors)
        else:
            logit, code = (
                torch.cat(values, dim=1)[samples.images, samples.anchors] for values in (logits, codes)
            )
        return replace(proposed, losses=self._losses(logit, code, samples))

    def _learns_at_places(self, shapes: Sequence[Size]) -> bool:
        """Return whether few places are sampled: then their outputs are computed again, with a gradient."""
        places = sum(rows * columns for rows, columns in shapes)
        return self._convs == 1 and places > 2 * self._settings.samples

    def _propose(
        self,
        logits: Sequence[Tensor],
        codes: Sequence[Tensor],
        anchors: Sequence[Tensor],
        sizes: Sequence[Size],
        *,
        is_training: bool,
    ) -> Proposed:
        settings = self._settings
        before = settings.before_nms_train if is_training else settings.before_nms
        after = settings.after_nms_train if is_training else settings.after_nms
        firsts = [0, *itertools.accumulate(len(level) for level in anchors)]
        proposals, objectness, origins = list[Tensor](), list[Tensor](), list[Tensor]()
        for number, size in enumerate(sizes):
            found, scores, groups, places = list[Tensor](), list[Tensor](), list[Tensor](), list[Tensor]()
            for level, (of_level, level_codes, level_anchors) in enumerate(
                zip(logits, codes, anchors, strict=True)
            ):
                chosen = boxes_.best(of_level[number], before)
                found.append(boxes_.decode(level_codes[number, chosen], level_anchors[chosen], _WEIGHTS))
                scores.append(of_level[number, chosen].sigmoid())
                groups.append(torch.full_like(chosen, level))
                places.append(chosen + firsts[level])
            boxes = boxes_.clip(torch.cat(found), size)
            large = boxes_.at_least(boxes, settings.min_px).nonzero()[:, 0]
            boxes, score = boxes[large], torch.cat(scores)[large]
            kept = boxes_.suppress(boxes, score, torch.cat(groups)[large], settings.nms_iou, after)
            proposals.append(boxes[kept])
            objectness.append(score[kept])
            origins.append(torch.cat(places)[large[kept]])
        return Proposed(proposals, objectness, origins, _finite([*logits, *codes]), {})

    def _sample(self, anchors: Tensor, sizes: Sequence[Size], taught: Sequence[Taught]) -> _Samples:
        settings = self._settings
        positives, negatives, targets = list[Tensor](), list[Tensor](), list[Tensor]()
        for size, objects in zip(sizes, taught, strict=True):
            matches = match(
                anchors,
                objects,
                positive_iou=settings.positive_iou,
                negative_iou=(0.0, settings.negative_iou),
                best_of_each=True,
                usable=inside(anchors, size) if self._anchors.inside_only else None,
            )
            positive, negative = draw_samples(
                matches, settings.samples, settings.positive_share, objects.seed, "anchors"
            )
            nearest = objects.objects[matches.objects[positive]]
            targets.append(boxes_.encode(nearest, anchors[positive], _WEIGHTS))
            positives.append(positive)
            negatives.append(negative)
        counts = torch.tensor([len(places) for places in (*positives, *negatives)], device=anchors.device)
        images = torch.arange(len(taught), device=anchors.device).repeat(2).repeat_interleave(counts)
        return _Samples(images, torch.cat([*positives, *negatives]), torch.cat(targets))

    def _losses(self, logits: Tensor, codes: Tensor, samples: _Samples) -> Losses:
        settings, positive = self._settings, len(samples.targets)
        is_object = torch.zeros_like(logits)
        is_object[:positive] = 1
        of_class = functional.binary_cross_entropy_with_logits(logits, is_object, reduction="sum")
        of_box = boxes_loss(codes[:positive], samples.targets, settings.smooth_l1_beta)
        return {"rpn_class": of_class / settings.samples, "rpn_box": of_box / settings.samples}


@dataclass(frozen=True, eq=False)
class Proposed:
    """What is proposed in the images of a batch, and learned from them.

    Attributes:
        boxes: The proposals of each image, ``(k, 4)``, the best first.
        objectness: How likely each is an object, ``(k,)`` from 0 to 1.
        anchors: Which anchor of all levels' each was coded against, ``(k,)`` int64.
        is_finite: ``(N,)`` bool: whether all that the head says of an image is finite.
        losses: Sums over the images; empty in evaluation.
    """

    boxes: list[Tensor]
    objectness: list[Tensor]
    anchors: list[Tensor]
    is_finite: Tensor
    losses: Losses


@dataclass(frozen=True, eq=False)
class _Samples:
    """The anchors of a batch that are learned from: all positive ones, and then the negative ones.

    Attributes:
        images: ``(n,)`` int64: which image of the batch.
        anchors: ``(n,)`` int64: which anchor of all levels'.
        targets: ``(p, 4)`` codes of the objects of the positive ones.
    """

    images: Tensor
    anchors: Tensor
    targets: Tensor


def _finite(values: Sequence[Tensor]) -> Tensor:
    """Return ``(N,)`` bool: whether all values of each image are finite, given ``(N, …)`` of each level."""
    return torch.stack([each.flatten(1).isfinite().all(dim=1) for each in values]).all(dim=0)


def boxes_loss(codes: Tensor, targets: Tensor, beta: float) -> Tensor:
    """Return the sum of the smooth L1 losses of codes (Girshick 2015, equation 3; a line from ``beta``)."""
    return functional.smooth_l1_loss(codes, targets, beta=beta, reduction="sum")


def _patches(maps: Sequence[Tensor], images: Tensor, places: Tensor) -> Tensor:
    """Return the 3×3 pixels around places of all levels, ``(n, 9 · C)``; what is outside of a map is zero."""
    device = places.device
    heights, widths = torch.tensor([level.shape[2:] for level in maps], device=device).unbind(1)
    sizes = heights * widths
    ends = sizes.cumsum(0)
    levels = torch.bucketize(places, ends, right=True)
    height, width = heights[levels], widths[levels]
    place = places - (ends - sizes)[levels]
    across = torch.tensor([-1, 0, 1], device=device)
    rows = (place // width)[:, None] + across
    columns = (place % width)[:, None] + across
    is_inside = (
        ((rows >= 0) & (rows < height[:, None]))[:, :, None]
        & ((columns >= 0) & (columns < width[:, None]))[:, None, :]
    ).flatten(1)
    starts = (ends - sizes)[levels] * len(maps[0]) + images * sizes[levels]
    pixels = (starts[:, None, None] + rows[:, :, None] * width[:, None, None] + columns[:, None, :]).flatten(
        1
    )
    # A sum of one pixel, or of none.
    patches = weighted_sums(
        pixel_table(maps), pixels.where(is_inside, 0).view(-1, 1), is_inside.float().view(-1, 1)
    )
    return patches.view(len(places), -1)
