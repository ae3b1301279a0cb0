"""The heads of regions: what each proposal is, and where exactly (Girshick 2015; He et al. 2015, app. A)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from deepresidual.nn.detection import boxes as boxes_
from deepresidual.nn.detection.masks import (
    MaskConvs,
    MaskPredictor,
    conv,
    make_heads,
    mask_targets,
    masks_loss,
    of_class,
)
from deepresidual.nn.detection.matching import Taught, match
from deepresidual.nn.detection.pooling import pool_regions
from deepresidual.nn.detection.proposals import Losses, Size, boxes_loss
from deepresidual.nn.detection.sampling import draw_samples
from deepresidual.spec import DetectorSpec

MIN_DETECTION_PX = 1e-2


@dataclass(frozen=True, eq=False)
class Found:
    """What a detector finds in an image, sorted by (−score, place).

    Attributes:
        boxes: ``(n, 4)`` float32: left, top, right, bottom, in pixels of the network's input.
        labels: ``(n,)`` int64: classes from 0.
        scores: ``(n,)`` float32 from 0 to 1.
        is_finite: ``()`` bool: whether all scores and codes of the image's anchors and regions were finite;
            those that are not are never found.
        masks: ``(n, m, m)`` float32 from 0 to 1: whether each of m × m pixels of each box is the object's;
            ``None`` of a detector of boxes.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    is_finite: Tensor
    masks: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Candidates:
    """The boxes that the regions of an image become before worse ones are suppressed.

    A region gives one for each class whose score is high enough, in the order of regions and classes.

    Attributes:
        boxes: ``(c, 4)`` float32, in pixels of the network's input.
        labels: ``(c,)`` int64: classes from 0.
        scores: ``(c,)`` float32 from 0 to 1.
        regions: ``(c,)`` int64: which region each was.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    regions: Tensor


@dataclass(frozen=True, eq=False)
class Sampled:
    """The regions of a batch that are learned from, image after image.

    Attributes:
        regions: ``(k, 4)`` boxes of each image.
        labels: ``(K,)`` int64: rows of the classifier; 0 is the background.
        positive: ``(P,)`` int64: which of the K are an object's; what heads of objects alone read.
        targets: ``(P, 4)`` codes of their objects.
        objects: ``(p,)`` int64 of each image: which of its objects each positive region is.
        weight: 0 where there is none, and one stands for them.
    """

    regions: list[Tensor]
    labels: Tensor
    positive: Tensor
    targets: Tensor
    objects: list[Tensor]
    weight: float


class TwoLayers(nn.Module):
    """Two fully connected layers over the bins of a region: ``(K, C, bins, bins)`` → ``(K, hidden)``."""

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        hidden = spec.regions.hidden
        self.fc6 = nn.Linear(spec.map_channels * spec.regions.bins**2, hidden)
        self.fc7 = nn.Linear(hidden, hidden)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the features of each region."""
        hidden = functional.relu(self.fc6(pooled.flatten(1)))
        return functional.relu(self.fc7(hidden))


class ConvsAndLayer(nn.Sequential):
    """Convolutions with BN over the bins of a region, and a fully connected layer → ``(K, hidden)``.

    Layers are numbered as torchvision numbers those of its ``FastRCNNConvFCHead``.
    """

    def __init__(self, spec: DetectorSpec) -> None:
        width, bins, hidden = spec.map_channels, spec.regions.bins, spec.regions.hidden
        super().__init__(
            *(conv(width, width, norm=True) for _ in range(spec.regions.convs)),
            nn.Flatten(),
            nn.Linear(width * bins**2, hidden),
            nn.ReLU(inplace=True),
        )


class Predictor(nn.Module):
    """Logits of the classes, the background's first, and codes of a box for each of them."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(in_features, num_classes + 1)
        self.bbox_pred = nn.Linear(in_features, 4 * (num_classes + 1))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits ``(K, 1 + classes)`` and codes ``(K, 1 + classes, 4)``, float32."""
        with torch.autocast(features.device.type, enabled=False):
            logits, codes = (layer(features.float()) for layer in (self.cls_score, self.bbox_pred))
        return logits, codes.unflatten(1, (-1, 4))


class RegionHeads(nn.Module):
    """Pooling, head and predictor, and what is made of what they say: detections, and in training losses."""

    def __init__(self, spec: DetectorSpec) -> None:
        super().__init__()
        self.box_head: nn.Module | None = None
        if spec.neck == "fpn":
            self.box_head = ConvsAndLayer(spec) if spec.regions.convs else TwoLayers(spec)
        features = spec.regions.hidden if spec.neck == "fpn" else spec.backbone.out_channels
        self.box_predictor = Predictor(features, spec.num_classes)
        self.mask_head: MaskConvs | None = None
        self.mask_predictor: MaskPredictor | None = None
        if spec.masks is not None:
            self.mask_head, self.mask_predictor = make_heads(spec, spec.masks)
        self._mask_px = spec.mask_px
        self._mask_pooling = spec.regions if spec.neck == "c4" else replace(spec.regions, bins=spec.mask_bins)
        self._settings = spec.regions
        self._detections = spec.detections
        self._strides = spec.strides[: len(spec.read_stages)]

    def forward(
        self,
        maps: Sequence[Tensor],
        proposals: Sequence[Tensor],
        sizes: Sequence[Size],
        last_stage: Callable[[Tensor], Tensor],
    ) -> list[Found]:
        """Return what is found in each image.

        Args:
            maps: The maps that are read, ``(N, C, H, W)`` each.
            proposals: Proposals of each image, ``(k, 4)``.
            sizes: Height and width of each image.
            last_stage: The backbone's last stage, which is the head of ``c4``.
        """
        logits, codes = self.predict(maps, proposals, last_stage)
        counts = [len(regions) for regions in proposals]
        is_finite = logits.isfinite().all(dim=1) & codes.flatten(1).isfinite().all(dim=1)
        of_images = (torch.split(values, counts) for values in (logits.softmax(dim=1), codes, is_finite))
        found = [self._detect(*rows) for rows in zip(*of_images, proposals, sizes, strict=True)]
        return found if self.mask_predictor is None else self.with_masks(found, maps, last_stage)

    def with_masks(
        self, found: Sequence[Found], maps: Sequence[Tensor], last_stage: Callable[[Tensor], Tensor]
    ) -> list[Found]:
        """Return what was found with the mask of each: that of its class, in its own box."""
        labels = torch.cat([each.labels for each in found]) + 1
        if len(labels):
            logits = self.mask_logits(maps, [each.boxes for each in found], last_stage)
            masks = of_class(logits, labels).sigmoid()
        else:
            masks = torch.zeros(0, self._mask_px, self._mask_px, device=labels.device)
        parts = torch.split(masks, [len(each.labels) for each in found])
        return [
            replace(each, masks=part, is_finite=each.is_finite & part.isfinite().all())
            for each, part in zip(found, parts, strict=True)
        ]

    def mask_logits(
        self, maps: Sequence[Tensor], regions: Sequence[Tensor], last_stage: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return the logits of the masks of regions, ``(K, 1 + classes, m, m)``."""
        pooled = pool_regions(maps, self._strides, regions, self._mask_pooling)
        return self._masks_of(last_stage(pooled) if self.box_head is None else pooled)

    def _masks_of(self, features: Tensor) -> Tensor:
        assert self.mask_head is not None and self.mask_predictor is not None  # noqa: S101, PT018
        return cast("Tensor", self.mask_predictor(self.mask_head(features)))

    def losses(
        self,
        maps: Sequence[Tensor],
        proposals: Sequence[Tensor],
        taught: Sequence[Taught],
        last_stage: Callable[[Tensor], Tensor],
    ) -> Losses:
        """Return the losses of regions that are drawn from the proposals and the objects."""
        settings = self._settings
        with torch.no_grad():
            sampled = self.sample(proposals, taught)
        features = self._features(maps, sampled.regions, last_stage)
        logits, codes = self._predicted(features)
        of_classes = functional.cross_entropy(logits, sampled.labels, reduction="sum")
        positive = sampled.positive
        of_box = boxes_loss(
            codes[positive, sampled.labels[positive]], sampled.targets, settings.smooth_l1_beta
        )
        share = sampled.weight / settings.samples
        losses = {"class": of_classes * share, "box": of_box * share}
        if self.mask_predictor is not None:
            losses["mask"] = self._mask_loss(maps, features, sampled, taught)
        return losses

    def _mask_loss(
        self, maps: Sequence[Tensor], features: Tensor, sampled: Sampled, taught: Sequence[Taught]
    ) -> Tensor:
        """Return the sum over the images of the mean loss of the masks of their positive regions.

        An image's share does not depend on which others are beside it.
        """
        # Where no region is an object's, the first stays in the graph, and teaches nothing.
        rows = sampled.positive if len(sampled.positive) else sampled.positive.new_zeros(1)
        is_read = torch.zeros(len(sampled.labels), dtype=torch.bool, device=rows.device)
        is_read[rows] = True
        of_images = torch.split(is_read, [len(boxes) for boxes in sampled.regions])
        regions = [boxes[read] for boxes, read in zip(sampled.regions, of_images, strict=True)]
        px = self._mask_px
        targets = torch.zeros(len(rows), px, px, device=rows.device)
        weights = torch.zeros(len(rows), device=rows.device)
        start = 0
        for boxes, objects, lesson in zip(regions, sampled.objects, taught, strict=True):
            if len(objects):
                part = slice(start, start + len(objects))
                targets[part], known = mask_targets(lesson.object_masks, objects, boxes, px)
                weights[part] = known.float() / known.sum().clamp(min=1)
                start = part.stop
        if self.box_head is None:
            logits = self._masks_of(features.index_select(0, rows))
        else:
            logits = self._masks_of(pool_regions(maps, self._strides, regions, self._mask_pooling))
        return masks_loss(of_class(logits, sampled.labels[rows]), targets, weights)

    def predict(
        self,
        maps: Sequence[Tensor],
        regions: Sequence[Tensor],
        last_stage: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Return logits and codes of the regions of all images, one after the other."""
        return self._predicted(self._features(maps, regions, last_stage))

    def _features(
        self, maps: Sequence[Tensor], regions: Sequence[Tensor], last_stage: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Return what is pooled of regions, of ``c4`` after the last stage; ``(K, C, bins, bins)``."""
        pooled = pool_regions(maps, self._strides, regions, self._settings)
        return last_stage(pooled) if self.box_head is None else pooled

    def _predicted(self, features: Tensor) -> tuple[Tensor, Tensor]:
        head = self.box_head
        vectors = features.mean(dim=(2, 3)) if head is None else head(features)
        return cast("tuple[Tensor, Tensor]", self.box_predictor(vectors))

    def sample(self, proposals: Sequence[Tensor], taught: Sequence[Taught]) -> Sampled:
        """Draw the regions of each image that are learned from, its objects' own boxes among them."""
        settings = self._settings
        regions, labels, positives, targets = list[Tensor](), list[Tensor](), list[Tensor](), list[Tensor]()
        taught_objects = list[Tensor]()
        start = 0
        for of_image, objects in zip(proposals, taught, strict=True):
            boxes = torch.cat([of_image, objects.objects])
            matches = match(
                boxes, objects, positive_iou=settings.positive_iou, negative_iou=settings.negative_iou
            )
            positive, negative = draw_samples(
                matches, settings.samples, settings.positive_share, objects.seed, "regions"
            )
            label = torch.zeros(len(positive) + len(negative), dtype=torch.int64, device=boxes.device)
            nearest = matches.objects[positive]
            label[: len(positive)] = objects.labels[~objects.ignored][nearest] + 1
            regions.append(boxes[torch.cat([positive, negative])])
            labels.append(label)
            targets.append(boxes_.encode(objects.objects[nearest], boxes[positive], settings.box_weights))
            positives.append(torch.arange(start, start + len(positive), device=boxes.device))
            taught_objects.append(nearest)
            start += len(label)
        weight = 1.0
        if not start:
            # Every head stays in the graph, and BN sees no batch of nothing.
            regions[0] = regions[0].new_tensor([[0.0, 0.0, 1.0, 1.0]])
            labels[0] = labels[0].new_zeros(1)
            weight = 0.0
        return Sampled(
            regions, torch.cat(labels), torch.cat(positives), torch.cat(targets), taught_objects, weight
        )

    def _detect(self, scores: Tensor, codes: Tensor, is_finite: Tensor, regions: Tensor, size: Size) -> Found:
        candidates = self.candidates(scores, codes, regions, size)
        kept = self.kept(candidates)
        return Found(
            candidates.boxes[kept], candidates.labels[kept], candidates.scores[kept], is_finite.all()
        )

    def candidates(self, scores: Tensor, codes: Tensor, regions: Tensor, size: Size) -> Candidates:
        """Return the boxes that an image's regions become.

        Args:
            scores: ``(k, 1 + classes)`` from 0 to 1, the background's first.
            codes: ``(k, 1 + classes, 4)``.
            regions: ``(k, 4)``: the proposals.
            size: Height and width of the image.
        """
        # Row 0 is the background's.
        place, label = (scores[:, 1:] > self._detections.min_score).nonzero().unbind(1)
        boxes = boxes_.decode(codes[place, label + 1], regions[place], self._settings.box_weights)
        boxes, score = boxes_.clip(boxes, size), scores[place, label + 1]
        large = boxes_.at_least(boxes, MIN_DETECTION_PX).nonzero()[:, 0]
        return Candidates(boxes[large], label[large], score[large], place[large])

    def kept(self, candidates: Candidates) -> Tensor:
        """Return which candidates are detections, the surest first, ``(n,)`` int64."""
        settings = self._detections
        return boxes_.suppress(
            candidates.boxes, candidates.scores, candidates.labels, settings.nms_iou, settings.most
        )
