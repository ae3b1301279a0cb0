"""The region proposal network (Ren et al. 2015, section 3.1): where there may be objects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepresidual.nn.detection import boxes as boxes_
from deepresidual.nn.detection.anchors import inside, make_anchors
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
            hidden = self.conv(level)
            count = len(level)
            logits.append(self.cls_logits(hidden).permute(0, 2, 3, 1).reshape(count, -1).float())
            codes.append(self.bbox_pred(hidden).permute(0, 2, 3, 1).reshape(count, -1, 4).float())
        return logits, codes


class ProposalNetwork(nn.Module):
    """The head and what is made of what it says: proposals, and in training losses."""

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.head = ProposalHead(spec)
        self._anchors = spec.anchors
        self._settings = spec.proposals

    def forward(
        self,
        maps: Sequence[Tensor],
        image: Size,
        sizes: Sequence[Size],
        taught: Sequence[Taught] | None = None,
    ) -> tuple[list[Tensor], Losses]:
        """Return the proposals of each image, ``(k, 4)``, the best first, and the losses.

        Args:
            maps: The map of each level, ``(N, C, H, W)``.
            image: Height and width of the batch's images, padding included.
            sizes: Height and width of each image.
            taught: What the images teach; ``None`` in evaluation.
        """
        logits, codes = self.head(maps)
        shapes = [(level.shape[2], level.shape[3]) for level in maps]
        anchors = make_anchors(self._anchors, shapes, image, maps[0].device)
        with torch.no_grad():
            proposals = self._propose(logits, codes, anchors, sizes, is_training=taught is not None)
        if taught is None:
            return proposals, {}
        return proposals, self._losses(
            torch.cat(logits, dim=1), torch.cat(codes, dim=1), torch.cat(anchors), sizes, taught
        )

    def _propose(
        self,
        logits: Sequence[Tensor],
        codes: Sequence[Tensor],
        anchors: Sequence[Tensor],
        sizes: Sequence[Size],
        *,
        is_training: bool,
    ) -> list[Tensor]:
        settings = self._settings
        before = settings.before_nms_train if is_training else settings.before_nms
        after = settings.after_nms_train if is_training else settings.after_nms
        proposals = []
        for number, size in enumerate(sizes):
            found, scores, groups = list[Tensor](), list[Tensor](), list[Tensor]()
            for level, (of_level, level_codes, level_anchors) in enumerate(
                zip(logits, codes, anchors, strict=True)
            ):
                chosen = boxes_.best(of_level[number], before)
                found.append(boxes_.decode(level_codes[number, chosen], level_anchors[chosen], _WEIGHTS))
                scores.append(of_level[number, chosen].sigmoid())
                groups.append(torch.full_like(chosen, level))
            boxes = boxes_.clip(torch.cat(found), size)
            large = boxes_.at_least(boxes, settings.min_px).nonzero()[:, 0]
            boxes, score = boxes[large], torch.cat(scores)[large]
            kept = boxes_.suppress(boxes, score, torch.cat(groups)[large], settings.nms_iou, after)
            proposals.append(boxes[kept])
        return proposals

    def _losses(
        self, logits: Tensor, codes: Tensor, anchors: Tensor, sizes: Sequence[Size], taught: Sequence[Taught]
    ) -> Losses:
        settings = self._settings
        positives, negatives, targets = list[Tensor](), list[Tensor](), list[Tensor]()
        with torch.no_grad():
            for number, (size, objects) in enumerate(zip(sizes, taught, strict=True)):
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
                targets.append(
                    boxes_.encode(objects.objects[matches.objects[positive]], anchors[positive], _WEIGHTS)
                )
                positives.append(positive + number * len(anchors))
                negatives.append(negative + number * len(anchors))
            positive = torch.cat(positives)
            sampled = torch.cat([positive, *negatives])
            is_object = (torch.arange(len(sampled), device=sampled.device) < len(positive)).to(logits.dtype)
        of_class = functional.binary_cross_entropy_with_logits(
            logits.flatten()[sampled], is_object, reduction="sum"
        )
        of_box = boxes_loss(codes.flatten(0, 1)[positive], torch.cat(targets), settings.smooth_l1_beta)
        return {"rpn_class": of_class / settings.samples, "rpn_box": of_box / settings.samples}


def boxes_loss(codes: Tensor, targets: Tensor, beta: float) -> Tensor:
    """Return the sum of the smooth L1 losses of codes (Girshick 2015, equation 3; a line from ``beta``)."""
    return functional.smooth_l1_loss(codes, targets, beta=beta, reduction="sum")
