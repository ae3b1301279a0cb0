"""Faster and Mask R-CNN of detectron2 and mmdetection, in plain torch by their documented formulas.

Random weights in detectron2's layout, and what a network of these weights finds: written anew, image by
image, with loops, from the two libraries' public code. Both are given the same weights under their own names.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_iou, roi_align

State = dict[str, Tensor]

WIDTHS = (8, 16, 24, 32)
CHANNELS = 16
CLASSES = 3
RATIOS = (0.5, 1.0, 2.0)
C4_SIZES = (32, 64, 128, 256, 512)


def detectron2_state(neck: str, *, masks: bool, agnostic: bool = False, seed: int = 0) -> State:
    """Return random weights of a small network under detectron2's names."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}

    def layer(name: str, *shape: int, scale: float = 1.0) -> None:
        fan_in = math.prod(shape[1:])
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * scale / math.sqrt(fan_in)
        state[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.3

    def conv(name: str, outputs: int, inputs: int, kernel: int) -> None:
        weight = torch.randn(outputs, inputs, kernel, kernel, generator=generator)
        state[f"{name}.weight"] = weight * math.sqrt(2 / (inputs * kernel**2))
        state[f"{name}.norm.weight"] = torch.rand(outputs, generator=generator) * 0.5 + 0.5
        state[f"{name}.norm.bias"] = torch.randn(outputs, generator=generator) * 0.2
        state[f"{name}.norm.running_mean"] = torch.randn(outputs, generator=generator) * 0.2
        state[f"{name}.norm.running_var"] = torch.rand(outputs, generator=generator) + 0.5

    body = "backbone.bottom_up." if neck == "fpn" else "backbone."
    conv(f"{body}stem.conv1", WIDTHS[0], 3, 7)
    inputs = WIDTHS[0]
    for number, width in enumerate(WIDTHS):
        stage = f"res{number + 2}"
        prefix = f"roi_heads.{stage}" if neck == "c4" and number == 3 else f"{body}{stage}"
        for unit in range(2 if number == 1 else 1):
            name = f"{prefix}.{unit}"
            conv(f"{name}.conv1", width, inputs, 1)
            conv(f"{name}.conv2", width, width, 3)
            conv(f"{name}.conv3", 4 * width, width, 1)
            if unit == 0:
                conv(f"{name}.shortcut", 4 * width, inputs, 1)
            inputs = 4 * width
    maps = 4 * WIDTHS[2]
    if neck == "fpn":
        maps = CHANNELS
        for number, width in enumerate(WIDTHS):
            layer(f"backbone.fpn_lateral{number + 2}", maps, 4 * width, 1, 1)
            layer(f"backbone.fpn_output{number + 2}", maps, maps, 3, 3)
    anchors = len(RATIOS) * (1 if neck == "fpn" else len(C4_SIZES))
    layer("proposal_generator.rpn_head.conv", maps, maps, 3, 3, scale=1.4)
    layer("proposal_generator.rpn_head.objectness_logits", anchors, maps, 1, 1)
    layer("proposal_generator.rpn_head.anchor_deltas", 4 * anchors, maps, 1, 1, scale=0.3)
    features, after = 24, 4 * WIDTHS[3]
    if neck == "fpn":
        layer("roi_heads.box_head.fc1", features, maps * 49, scale=1.4)
        layer("roi_heads.box_head.fc2", features, features, scale=1.4)
    else:
        features = after
    layer("roi_heads.box_predictor.cls_score", CLASSES + 1, features, scale=0.3)
    layer("roi_heads.box_predictor.bbox_pred", 4 if agnostic else 4 * CLASSES, features)
    if masks:
        inputs = after if neck == "c4" else maps
        for number in range(2 if neck == "fpn" else 0):
            layer(f"roi_heads.mask_head.mask_fcn{number + 1}", CHANNELS, inputs, 3, 3, scale=1.4)
            inputs = CHANNELS
        layer("roi_heads.mask_head.deconv", inputs, CHANNELS, 2, 2, scale=2.0)
        state["roi_heads.mask_head.deconv.bias"] = torch.randn(CHANNELS, generator=generator) * 0.3
        layer("roi_heads.mask_head.predictor", 1 if agnostic else CLASSES, CHANNELS, 1, 1, scale=2.0)
    return state


_MMDETECTION = (
    (r"backbone\.(bottom_up\.)?stem\.conv1\.norm", "backbone.bn1"),
    (r"backbone\.(bottom_up\.)?stem\.conv1", "backbone.conv1"),
    (r"backbone\.(bottom_up\.)?res(\d)", lambda m: f"backbone.layer{int(m[2]) - 1}"),
    (r"roi_heads\.res5", "roi_head.shared_head.layer4"),
    (r"(layer\d\.\d)\.conv(\d)\.norm", r"\1.bn\2"),
    (r"(layer\d\.\d)\.shortcut\.norm", r"\1.downsample.1"),
    (r"(layer\d\.\d)\.shortcut", r"\1.downsample.0"),
    (r"backbone\.fpn_lateral(\d)", lambda m: f"neck.lateral_convs.{int(m[1]) - 2}.conv"),
    (r"backbone\.fpn_output(\d)", lambda m: f"neck.fpn_convs.{int(m[1]) - 2}.conv"),
    (r"proposal_generator\.rpn_head\.conv", "rpn_head.rpn_conv"),
    (r"proposal_generator\.rpn_head\.objectness_logits", "rpn_head.rpn_cls"),
    (r"proposal_generator\.rpn_head\.anchor_deltas", "rpn_head.rpn_reg"),
    (r"roi_heads\.box_head\.fc(\d)", lambda m: f"roi_head.bbox_head.shared_fcs.{int(m[1]) - 1}"),
    (r"roi_heads\.box_predictor\.cls_score", "roi_head.bbox_head.fc_cls"),
    (r"roi_heads\.box_predictor\.bbox_pred", "roi_head.bbox_head.fc_reg"),
    (r"roi_heads\.mask_head\.mask_fcn(\d)", lambda m: f"roi_head.mask_head.convs.{int(m[1]) - 1}.conv"),
    (r"roi_heads\.mask_head\.deconv", "roi_head.mask_head.upsample"),
    (r"roi_heads\.mask_head\.predictor", "roi_head.mask_head.conv_logits"),
)


def mmdetection_state(state: State) -> State:
    """Return the same weights under mmdetection's names."""
    renamed: State = {}
    for name, tensor in state.items():
        for pattern, there in _MMDETECTION:
            name = re.sub(rf"{pattern}(?=\.)", there, name)
        renamed[name] = tensor
    return renamed


@dataclass(frozen=True)
class Objects:
    """What is found in an image.

    Attributes:
        boxes: ``(n, 4)``.
        labels: ``(n,)`` from 0.
        scores: ``(n,)``.
        masks: ``(n, m, m)`` from 0 to 1, or ``None``.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    masks: Tensor | None


@dataclass(frozen=True)
class Plain:
    """A network of weights under detectron2's names.

    Attributes:
        state: The weights.
        neck: ``fpn`` or ``c4``.
        stride_in_1x1: Which convolution of a bottleneck strides.
        sizes_first: Whether anchors have sizes before shapes (detectron2), or the other way round.
        padded_to: Multiple that the image is padded to.
        aligned: Whether RoIAlign takes the center of the first pixel half a pixel from the edge.
    """

    state: State
    neck: str
    stride_in_1x1: bool
    sizes_first: bool
    padded_to: int
    aligned: bool = True

    def _conv(self, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        s = self.state
        x = functional.conv2d(x, s[f"{name}.weight"], s.get(f"{name}.bias"), stride, padding)
        if f"{name}.norm.weight" not in s:
            return x
        parts = (s[f"{name}.norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        mean, variance, weight, bias = (part[None, :, None, None] for part in parts)
        return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias

    def _stage(self, name: str, x: Tensor, stride: int) -> Tensor:
        unit = 0
        while f"{name}.{unit}.conv1.weight" in self.state:
            first, second = (stride, 1) if self.stride_in_1x1 else (1, stride)
            inside = functional.relu(self._conv(f"{name}.{unit}.conv1", x, first))
            inside = functional.relu(self._conv(f"{name}.{unit}.conv2", inside, second, 1))
            inside = self._conv(f"{name}.{unit}.conv3", inside)
            x = functional.relu(
                inside + (self._conv(f"{name}.{unit}.shortcut", x, stride) if not unit else x)
            )
            unit, stride = unit + 1, 1
        return x

    def _maps(self, image: Tensor) -> list[Tensor]:
        body = "backbone.bottom_up." if self.neck == "fpn" else "backbone."
        x = functional.relu(self._conv(f"{body}stem.conv1", image, 2, 3))
        x = functional.max_pool2d(x, 3, 2, 1)
        found = []
        for number in range(4 if self.neck == "fpn" else 3):
            x = self._stage(f"{body}res{number + 2}", x, 1 if number == 0 else 2)
            found.append(x)
        if self.neck == "c4":
            return found[-1:]
        above: Tensor | None = None
        maps: list[Tensor] = []
        for number in (3, 2, 1, 0):
            lateral = self._conv(f"backbone.fpn_lateral{number + 2}", found[number])
            above = lateral if above is None else lateral + functional.interpolate(above, scale_factor=2.0)
            maps.insert(0, self._conv(f"backbone.fpn_output{number + 2}", above, padding=1))
        return [*maps, functional.max_pool2d(maps[-1], 1, 2)]

    def _anchors(self, level: int, rows: int, columns: int) -> Tensor:
        stride = 4 * 2**level if self.neck == "fpn" else 16
        sizes = (8 * stride,) if self.neck == "fpn" else C4_SIZES
        pairs = [(size, ratio) for size in sizes for ratio in RATIOS]
        if not self.sizes_first:
            pairs = [(size, ratio) for ratio in RATIOS for size in sizes]
        boxes = []
        for row in range(rows):
            for column in range(columns):
                for size, ratio in pairs:
                    width = math.sqrt(size**2 / ratio)
                    height = ratio * width
                    x, y = column * stride, row * stride
                    boxes.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        return torch.tensor(boxes)

    def _proposals(self, maps: list[Tensor], height: int, width: int) -> Tensor:
        before, after = (1000, 1000) if self.neck == "fpn" else (6000, 1000)
        boxes, scores = [], []
        for level, features in enumerate(maps):
            hidden = functional.relu(self._conv("proposal_generator.rpn_head.conv", features, padding=1))
            logits = self._conv("proposal_generator.rpn_head.objectness_logits", hidden)[0]
            codes = self._conv("proposal_generator.rpn_head.anchor_deltas", hidden)[0]
            anchors = self._anchors(level, *features.shape[2:])
            logit = logits.permute(1, 2, 0).flatten()
            code = codes.view(-1, 4, *codes.shape[1:]).permute(2, 3, 0, 1).reshape(-1, 4)
            best = logit.argsort(descending=True, stable=True)[:before]
            found = clipped(decoded(code[best], anchors[best], (1, 1, 1, 1)), height, width)
            full = (found[:, 2] > found[:, 0]) & (found[:, 3] > found[:, 1])
            kept = suppressed(found[full], logit[best][full], 0.7)
            boxes.append(found[full][kept])
            scores.append(logit[best][full][kept])
        order = torch.cat(scores).argsort(descending=True, stable=True)[:after]
        return torch.cat(boxes)[order]

    def _pooled(self, maps: list[Tensor], boxes: Tensor, bins: int) -> Tensor:
        strides = (4, 8, 16, 32) if self.neck == "fpn" else (16,)
        levels = []
        for box in boxes:
            side = math.sqrt(float((box[2] - box[0]) * (box[3] - box[1])))
            level = min(max(math.floor(4 + math.log2(side / 224 + 1e-8)), 2), 5) - 2
            levels.append(level if self.neck == "fpn" else 0)
        pooled = torch.zeros(len(boxes), maps[0].shape[1], bins, bins)
        for level in set(levels):
            here = torch.tensor([each == level for each in levels])
            rows = functional.pad(boxes[here], (1, 0))
            pooled[here] = roi_align(maps[level], rows, bins, 1 / strides[level], -1, self.aligned)
        return pooled

    def _features(self, maps: list[Tensor], boxes: Tensor) -> Tensor:
        s = self.state
        if self.neck == "c4":
            return self._stage("roi_heads.res5", self._pooled(maps, boxes, 14), 2).mean(dim=(2, 3))
        x = self._pooled(maps, boxes, 7).flatten(1)
        for number in (1, 2):
            head = f"roi_heads.box_head.fc{number}"
            x = functional.relu(functional.linear(x, s[f"{head}.weight"], s[f"{head}.bias"]))
        return x

    def _masks(self, maps: list[Tensor], boxes: Tensor, labels: Tensor) -> Tensor:
        s, head = self.state, "roi_heads.mask_head."
        x = self._pooled(maps, boxes, 14)
        x = self._stage("roi_heads.res5", x, 2) if self.neck == "c4" else x
        for number in range(1, 3 if self.neck == "fpn" else 1):
            x = functional.relu(self._conv(f"{head}mask_fcn{number}", x, padding=1))
        x = functional.conv_transpose2d(x, s[f"{head}deconv.weight"], s[f"{head}deconv.bias"], 2)
        x = self._conv(f"{head}predictor", functional.relu(x)).sigmoid()
        return torch.stack(
            [each[0 if len(each) == 1 else int(row)] for each, row in zip(x, labels, strict=True)]
        )

    @torch.inference_mode()
    def find(self, image: Tensor, min_score: float = 0.05, most: int = 100) -> Objects:
        """Return what is found in a normalized image ``(3, H, W)``."""
        s, (height, width) = self.state, image.shape[1:]
        pad = [-side % self.padded_to for side in (height, width)]
        maps = self._maps(functional.pad(image, (0, pad[1], 0, pad[0]))[None])
        regions = self._proposals(maps, height, width)
        features = self._features(maps, regions)
        predictor = "roi_heads.box_predictor."
        logits, codes = (
            functional.linear(features, s[f"{predictor}{part}.weight"], s[f"{predictor}{part}.bias"])
            for part in ("cls_score", "bbox_pred")
        )
        probabilities = logits.softmax(dim=1)
        rows: list[tuple[float, int, Tensor]] = []
        for label in range(CLASSES):
            code = codes if codes.shape[1] == 4 else codes[:, 4 * label : 4 * label + 4]
            boxes = clipped(decoded(code, regions, (10, 10, 5, 5)), height, width)
            score = probabilities[:, label]
            # One difference is left, which the documentation tells: boxes that are cut to nothing at an edge
            # go before the best are counted, not after (detectron2) or not at all (mmdetection).
            above = (score > min_score) & ((boxes[:, 2:] - boxes[:, :2]) >= 1e-2).all(dim=1)
            kept = suppressed(boxes[above], score[above], 0.5)
            rows += [(float(score[above][k]), label, boxes[above][k]) for k in kept.tolist()]
        rows.sort(key=lambda row: -row[0])
        rows = rows[:most]
        boxes = torch.stack([box for _, _, box in rows])
        labels = torch.tensor([label for _, label, _ in rows])
        has_masks = "roi_heads.mask_head.deconv.weight" in s
        masks = self._masks(maps, boxes, labels) if has_masks else None
        return Objects(boxes, labels, torch.tensor([score for score, _, _ in rows]), masks)


def decoded(codes: Tensor, boxes: Tensor, weights: Any) -> Tensor:
    """Return the boxes that codes mean (R-CNN, appendix C); no side grows more than 1000 / 16 times."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    x = boxes[:, 0] + width / 2 + codes[:, 0] / weights[0] * width
    y = boxes[:, 1] + height / 2 + codes[:, 1] / weights[1] * height
    most = math.log(1000 / 16)
    width = width * torch.exp((codes[:, 2] / weights[2]).clamp(max=most))
    height = height * torch.exp((codes[:, 3] / weights[3]).clamp(max=most))
    return torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=1)


def clipped(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return boxes cut at the edges of the image, without its padding."""
    return torch.minimum(boxes.clamp(min=0), torch.tensor([width, height, width, height]))


def suppressed(boxes: Tensor, scores: Tensor, most: float) -> Tensor:
    """Return which boxes remain, the best first: each suppresses worse ones that overlap it by more."""
    order = scores.argsort(descending=True, stable=True)
    overlaps = (box_iou(boxes[order], boxes[order]) > most).numpy()
    remain = np.ones(len(order), dtype=bool)
    for place in range(len(order)):
        if remain[place]:
            remain[place + 1 :] &= ~overlaps[place, place + 1 :]
    return order[torch.from_numpy(remain)]
