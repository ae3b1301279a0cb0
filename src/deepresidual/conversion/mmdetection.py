"""mmdetection 2 and 3: Faster and Mask R-CNN on a feature pyramid and C4; in.

A file of its zoo or trainer has the names of the classes and the configuration beside the weights, from which
everything is read that the weights do not say. The background is the last class there and the first one here,
so rows of the last layers change places. Nothing is compared with mmdetection, which has to be built with
mmcv: a test compares with its formulas, written anew.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from deepresidual.conversion import mmdetection_settings as settings
from deepresidual.conversion.architecture import counted
from deepresidual.conversion.coco_names import coco_names
from deepresidual.conversion.detector_ecosystem import DetectorEcosystem, RecognizedDetector
from deepresidual.conversion.detector_reading import (
    Shapes,
    assumed_settings,
    count,
    read_backbone,
    reading,
    refuse_others,
    require_anchors,
)
from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.conversion.region_rows import rows_there
from deepresidual.conversion.settings import Settings
from deepresidual.conversion.translation import Rule, Translation
from deepresidual.errors import ConfigurationError
from deepresidual.spec import DetectorSpec, MaskHead, Neck, Regions, ResNetSpec

_BOXES, _MASKS, _SHARED = "roi_head.bbox_head.", "roi_head.mask_head.", "roi_head.shared_head."
# Parts of a network that Residual does not have: a name → what it is.
_OTHERS = (
    (re.compile(r"roi_head\.bbox_head\.0\..*"), "with several heads of boxes, such as a Cascade R-CNN"),
    (re.compile(r"backbone\.stem\..*"), "with a deep stem"),
    (re.compile(r".*\.conv_offset\..*"), "with deformable convolutions"),
    (re.compile(r".*\.gn\..*"), "with group normalization"),
    (re.compile(r"roi_head\.(grid_head|mask_iou_head|semantic_head|glbctx_head)\..*"), "with other heads"),
)


class MMDetection(DetectorEcosystem):
    """The two-stage detectors of mmdetection with one head on a ResNet or ResNeXt."""

    name = "mmdetection"
    marks = ("rpn_head.rpn_cls.weight",)
    has_releases = False

    def recognize(self, checkpoint: ForeignCheckpoint, weights: str = "") -> RecognizedDetector | None:
        """Recognize the names; read the spec off shapes, and off the configuration where the file has it."""
        tensors, path = checkpoint.tensors, checkpoint.path
        if not all(mark in tensors for mark in self.marks):
            return None
        refuse_others(tensors, _OTHERS, path, self.name, f"{_BOXES}fc_cls.weight")
        meta = checkpoint.metadata.get("meta", {})
        said = Settings(meta["config"] if "model" in meta.get("config", {}) else None)
        neck: Neck = "fpn" if "neck.lateral_convs.0.conv.weight" in tensors else "c4"
        backbone = _read_backbone(checkpoint)
        with reading(path, self.name):
            settings.require_usual(said)
            stride_on, assumed = settings.style(said, neck, weights)
            preprocess, divisor = settings.read_preprocess(said, stride_on)
            if backbone.unit == "bottleneck":
                backbone = dataclasses.replace(backbone, stride_on=stride_on)
            spec = _read_spec(backbone, neck, {name: tuple(x.shape) for name, x in tensors.items()}, said)
            if divisor != max(spec.backbone.stage_strides):
                spec = dataclasses.replace(spec, size_divisor=divisor)
        labels, of_names = _labels(meta.get("classes", ()), spec.num_classes)
        return RecognizedDetector(
            spec,
            f"tensor names such as {self.marks[0]}, which are mmdetection's"
            + ("; the configuration in the file" if said.is_there else ""),
            preprocess,
            labels,
            tuple(_assumed(spec, said, assumed, of_names)),
        )

    def translation(self, spec: DetectorSpec, checkpoint: ForeignCheckpoint | None = None) -> Translation:
        """Return mmdetection's names, and the order of its rows."""
        from deepresidual.nn.detection import Detector

        with torch.device("meta"):
            names = list(Detector(spec).state_dict())
        there = checkpoint.tensors if checkpoint is not None else {}
        return counted([_rule(name, spec, there) for name in names], checkpoint)


# -- the spec ----------------------------------------------------------------------------------------


def _read_backbone(checkpoint: ForeignCheckpoint) -> ResNetSpec:
    """Return the backbone, whose tensors have torchvision's names; of C4 the last stage is the head's."""
    body = {
        name.removeprefix(prefix): tensor
        for name, tensor in checkpoint.tensors.items()
        for prefix in ("backbone.", _SHARED)
        if name.startswith(prefix)
    }
    return read_backbone(body, checkpoint.path, "mmdetection")


def _read_spec(backbone: ResNetSpec, neck: Neck, shapes: Shapes, said: Settings) -> DetectorSpec:
    """Return the detector, by shapes and by what the configuration says."""
    laterals = count(shapes, r"neck\.lateral_convs\.\d+\.conv\.weight")
    channels = shapes["neck.lateral_convs.0.conv.weight"][0] if laterals else 256
    outputs = said.get("model.neck.num_outs", laterals + 1)
    if neck == "fpn" and outputs not in (laterals, laterals + 1):
        raise ConfigurationError(f"the pyramid has {outputs} levels", expected=f"{laterals} or one more")
    every = backbone.stage_strides
    strides = every[-2:-1] if neck == "c4" else every[-laterals:]
    strides = (*strides, *([2 * strides[-1]] if neck == "fpn" and outputs > laterals else []))
    pooling, sampling = settings.read_pooling(said)
    bins, hidden = settings.read_bins(said, "bbox", 14), 1024
    if neck == "fpn":
        hidden, inputs = shapes[f"{_BOXES}shared_fcs.0.weight"]
        bins = math.isqrt(inputs // channels)
    spec = DetectorSpec(
        backbone,
        num_classes=shapes[f"{_BOXES}fc_cls.weight"][0] - 1,
        neck=neck,
        fpn_channels=channels,
        fpn_stages=laterals or 4,
        fpn_norm="neck.lateral_convs.0.bn.weight" in shapes,
        fpn_extra=outputs > laterals or neck == "c4",
        rpn_convs=count(shapes, r"rpn_head\.rpn_conv\.\d+\.conv\.weight") or 1,
        rpn_channels=shapes["rpn_head.rpn_cls.weight"][1] if neck == "c4" else 512,
        anchors=settings.read_anchors(said, neck, strides),
        proposals=settings.read_proposals(said, neck),
        regions=Regions(
            pooling=pooling,
            bins=bins,
            sampling=sampling,
            convs=count(shapes, re.escape(_BOXES) + r"shared_convs\.\d+\.conv\.weight"),
            hidden=hidden,
            samples=said.get("model.train_cfg.rcnn.sampler.num", 512),
            positive_share=said.get("model.train_cfg.rcnn.sampler.pos_fraction", 0.25),
            positive_iou=said.get("model.train_cfg.rcnn.assigner.pos_iou_thr", 0.5),
            box_weights=settings.read_box_weights(said),
            smooth_l1_beta=settings.region_beta(said),
        ),
        masks=_read_masks(shapes, said),
        detections=settings.read_detections(said),
    )
    return require_anchors(spec, shapes["rpn_head.rpn_cls.weight"][0], "a configuration in the file")


def _read_masks(shapes: Shapes, said: Settings) -> MaskHead | None:
    """Return the head of the masks, whose bins no tensor says."""
    doubled = shapes.get(f"{_MASKS}upsample.weight")
    if doubled is None:
        return None
    return MaskHead(
        bins=settings.read_bins(said, "mask", 14),
        convs=count(shapes, re.escape(_MASKS) + r"convs\.\d+\.conv\.weight"),
        channels=doubled[1],
        norm=f"{_MASKS}convs.0.bn.weight" in shapes,
    )


def _labels(names: list[str], num_classes: int) -> tuple[tuple[str, ...] | None, str]:
    """Return the names of the classes, and the assumption where the file has none that fit."""
    if len(names) == num_classes:
        return tuple(names), ""
    if num_classes == len(coco_names()):
        return coco_names(), "the 80 classes are COCO's"
    return None, ""


def _assumed(spec: DetectorSpec, said: Settings, of_style: str, of_names: str) -> list[str]:
    """Return what the file does not say, one clause each."""
    assumed = [of_style] if of_style and spec.backbone.unit == "bottleneck" else []
    if not said.is_there:
        assumed.append(assumed_settings(spec, "mmdetection", ", since the file has no configuration"))
    assumed.append("images are resized with Pillow's filter, where mmdetection has OpenCV's")
    return [*assumed, *filter(None, [of_names])]


# -- names -------------------------------------------------------------------------------------------


def _names(spec: DetectorSpec) -> list[tuple[str, Callable[[re.Match[str]], str]]]:
    """Return for each name behind the backbone its pattern here and what it is there."""
    single, convs = spec.rpn_convs == 1, spec.regions.convs

    def of_module(module: str) -> Callable[[re.Match[str]], str]:
        """Return the name of a tensor of a convolution (0) or of the BN behind it (1)."""
        return lambda m: f"{module}.{m[1]}.{'conv' if m[2] == '0' else 'bn'}.{m[3]}"

    return [
        (r"backbone\.fpn\.inner_blocks\.(\d+)\.([01])\.(\w+)", of_module("neck.lateral_convs")),
        (r"backbone\.fpn\.layer_blocks\.(\d+)\.([01])\.(\w+)", of_module("neck.fpn_convs")),
        (
            r"rpn\.head\.conv\.(\d+)\.0\.(\w+)",
            lambda m: f"rpn_head.rpn_conv.{m[2]}" if single else f"rpn_head.rpn_conv.{m[1]}.conv.{m[2]}",
        ),
        (r"rpn\.head\.cls_logits\.(\w+)", lambda m: f"rpn_head.rpn_cls.{m[1]}"),
        (r"rpn\.head\.bbox_pred\.(\w+)", lambda m: f"rpn_head.rpn_reg.{m[1]}"),
        (r"roi_heads\.box_head\.fc([67])\.(\w+)", lambda m: f"{_BOXES}shared_fcs.{int(m[1]) - 6}.{m[2]}"),
        (r"roi_heads\.box_head\.(\d+)\.([01])\.(\w+)", of_module(f"{_BOXES}shared_convs")),
        # Behind the convolutions a layer that flattens has a number.
        (rf"roi_heads\.box_head\.{convs + 1}\.(\w+)", lambda m: f"{_BOXES}shared_fcs.0.{m[1]}"),
        (r"roi_heads\.box_predictor\.cls_score\.(\w+)", lambda m: f"{_BOXES}fc_cls.{m[1]}"),
        (r"roi_heads\.box_predictor\.bbox_pred\.(\w+)", lambda m: f"{_BOXES}fc_reg.{m[1]}"),
        (r"roi_heads\.mask_head\.(\d+)\.([01])\.(\w+)", of_module(f"{_MASKS}convs")),
        (r"roi_heads\.mask_predictor\.conv5_mask\.(\w+)", lambda m: f"{_MASKS}upsample.{m[1]}"),
        (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(\w+)", lambda m: f"{_MASKS}conv_logits.{m[1]}"),
    ]


def _rule(name: str, spec: DetectorSpec, there: Mapping[str, Tensor]) -> Rule:
    """Return where a tensor comes from, and in which order its rows."""
    if name.startswith("backbone.body."):
        inside = name.removeprefix("backbone.body.")
        is_head = spec.neck == "c4" and inside.startswith(f"{spec.backbone.stage_names[-1]}.")
        return Rule(name, f"{_SHARED if is_head else 'backbone.'}{inside}")
    source = next(
        make(match) for pattern, make in _names(spec) if (match := re.fullmatch(pattern, name)) is not None
    )
    return Rule(name, source, rows=rows_there(name, spec, there.get(source), sizes_first=False))
