"""torchvision: Faster and Mask R-CNN on a feature pyramid, in and out. Our names are its names of today.

Files of before 0.14 name some layers otherwise (``rpn.head.conv.weight``), those of its released weights
among them. What only the constructor says (anchors, limits, thresholds) is taken for torchvision's defaults.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from deepresidual import zoo
from deepresidual.conversion.architecture import counted
from deepresidual.conversion.detector_ecosystem import (
    DetectorEcosystem,
    DetectorReference,
    ExportedDetector,
    RecognizedDetector,
)
from deepresidual.conversion.detector_reading import read_backbone, reading
from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.conversion.torchvision import load_but_for_counters
from deepresidual.conversion.torchvision_modules import (
    categories,
    constructor_call,
    make_reference,
    require_buildable,
    weights_of_sha256,
)
from deepresidual.conversion.translation import Rule, Translation
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.preprocess import Preprocess
from deepresidual.runtime.files import write_bytes
from deepresidual.spec import DetectorSpec, MaskHead, Regions, ResNetSpec
from deepresidual.spec.detector import Anchors

_BODY = "backbone.body."
_SIDE, _LONGEST = 800, 1333
# torchvision sets epsilon to 0 in the networks of these, whose files do not say so.
_EPS_0 = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn")
# Names of today → names of before.
_FORMER = (
    (re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.0\.(weight|bias)"), r"\1.\2"),
    (re.compile(r"(rpn\.head\.conv)\.0\.0\.(weight|bias)"), r"\1.\2"),
)
_FORMER_MASK = re.compile(r"roi_heads\.mask_head\.(\d+)\.0\.(weight|bias)")


class TorchVisionDetection(DetectorEcosystem):
    """The networks of ``torchvision.models.detection`` that are Faster or Mask R-CNN on a ResNet."""

    name = "torchvision"
    package = "torchvision"
    marks = (
        "backbone.body.conv1.weight",
        "rpn.head.cls_logits.weight",
        "roi_heads.box_predictor.cls_score.weight",
    )

    def recognize(self, checkpoint: ForeignCheckpoint, weights: str = "") -> RecognizedDetector | None:
        """Recognize the names, and read the spec off names and shapes."""
        tensors = checkpoint.tensors
        if not all(mark in tensors for mark in self.marks):
            return None
        if "roi_heads.keypoint_predictor.kps_score_lowres.weight" in tensors:
            raise ModelFileError(
                f"{checkpoint.path} is torchvision's Keypoint R-CNN", expected="Faster or Mask R-CNN"
            )
        body = {name.removeprefix(_BODY): value for name, value in tensors.items() if name.startswith(_BODY)}
        backbone = read_backbone(body, checkpoint.path, self.name)
        with reading(checkpoint.path, self.name):
            spec = _read_spec(backbone, {name: tuple(value.shape) for name, value in tensors.items()})
        known = weights_of_sha256(checkpoint.sha256) or weights
        labels = coco_names() if spec.num_classes == len(coco_names()) else None
        return RecognizedDetector(
            spec,
            "tensor names such as roi_heads.box_predictor.cls_score.weight, which are torchvision's"
            + (f"; its SHA-256 is that of {known}" if known and known != weights else ""),
            _preprocess(spec),
            labels,
            tuple(_assumed(spec, tensors, known, has_names=labels is not None)),
            bn_eps=0.0 if known.partition(".")[0] in _EPS_0 else 1e-5,
        )

    def translation(self, spec: DetectorSpec, checkpoint: ForeignCheckpoint | None = None) -> Translation:
        """Return our own names; of an older file those that it has in their place."""
        from deepresidual.nn.detection import Detector

        with torch.device("meta"):
            names = list(Detector(spec).state_dict())
        there = checkpoint.tensors if checkpoint is not None else {}
        return counted([Rule(name, _name_there(name, there)) for name in names], checkpoint)

    def reference(self, checkpoint: ForeignCheckpoint, recognized: RecognizedDetector) -> DetectorReference:
        """Build torchvision's detector with the checkpoint's tensors."""
        name, module, find = make_reference(recognized.spec, recognized.bn_eps)
        load_but_for_counters(module, checkpoint, "torchvision's")
        return DetectorReference(name, find)

    def write(self, model: ExportedDetector, path: Path) -> None:
        """Write a state dict with ``torch.save``."""
        require_buildable(model.spec)
        buffer = io.BytesIO()
        torch.save({name: tensor.cpu().contiguous() for name, tensor in model.state.items()}, buffer)
        write_bytes(path, buffer.getvalue())

    def to_load(self, spec: DetectorSpec) -> str:
        """Return the Python call that builds the network."""
        return constructor_call(spec)


def coco_names() -> tuple[str, ...]:
    """Return the names of the 90 classes of torchvision's weights.

    They are rows of COCO's ids, ten of which name nothing and are called ``N/A`` there; they stay, since the
    probabilities of all rows are computed together, and have their number behind, since names differ.
    """
    named = enumerate(categories())
    return tuple(f"{name} {row}" if name == "N/A" else name for row, name in named if row)


def _read_spec(backbone: ResNetSpec, shapes: Mapping[str, tuple[int, ...]]) -> DetectorSpec:
    """Return the detector by the shapes of its tensors."""
    inner = {name: shape for name, shape in shapes.items() if "fpn.inner_blocks." in name and len(shape) == 4}
    widths = tuple(shape[1] for _, shape in sorted(inner.items(), key=lambda item: _number(item[0])))
    of_stages = tuple(width * backbone.expansion for width in backbone.widths)
    if not widths or widths != of_stages[-len(widths) :]:
        raise ConfigurationError(
            f"its pyramid reads maps of {list(widths)} channels and the stages give {list(of_stages)}",
            expected="the last stages, in order",
        )
    if extra := [name for name in shapes if name.startswith("backbone.fpn.extra_blocks.")]:
        raise ConfigurationError(f"its pyramid has {extra[0]}", expected="a last level by max-pooling")
    channels = next(iter(inner.values()))[0]
    num_anchors = shapes["rpn.head.cls_logits.weight"][0]
    if num_anchors != 3:
        raise ConfigurationError(
            f"there are {num_anchors} anchors at each place, and a file does not say their sizes",
            expected="3: one size in three shapes",
        )
    strides = backbone.stage_strides[-len(widths) :]
    sizes = tuple((8.0 * stride,) for stride in (*strides, 2 * strides[-1]))
    return DetectorSpec(
        backbone,
        num_classes=shapes["roi_heads.box_predictor.cls_score.weight"][0] - 1,
        fpn_channels=channels,
        fpn_stages=len(widths),
        fpn_norm="backbone.fpn.inner_blocks.0.1.weight" in shapes,
        rpn_convs=_count(shapes, r"rpn\.head\.conv\.(\d+)\.0\.weight") or 1,
        anchors=Anchors(sizes=sizes),
        regions=_read_regions(shapes, channels),
        masks=_read_masks(shapes),
    )


def _read_regions(shapes: Mapping[str, tuple[int, ...]], channels: int) -> Regions:
    """Return the head of the boxes: two layers, or convolutions with BN and one layer."""
    if "roi_heads.box_head.fc6.weight" in shapes:
        hidden, inputs = shapes["roi_heads.box_head.fc6.weight"]
        return Regions(bins=math.isqrt(inputs // channels), hidden=hidden)
    convs = _count(shapes, r"roi_heads\.box_head\.(\d+)\.0\.weight")
    if not convs:
        raise ConfigurationError("its head of the boxes has no layer called fc6")
    # A layer that flattens stands between.
    hidden, inputs = shapes[f"roi_heads.box_head.{convs + 1}.weight"]
    return Regions(convs=convs, bins=math.isqrt(inputs // channels), hidden=hidden)


def _read_masks(shapes: Mapping[str, tuple[int, ...]]) -> MaskHead | None:
    """Return the head of the masks, whose bins no tensor says."""
    doubled = shapes.get("roi_heads.mask_predictor.conv5_mask.weight")
    if doubled is None:
        return None
    convs = _count(shapes, r"roi_heads\.mask_head\.(\d+)\.0\.weight")
    convs += _count(shapes, r"roi_heads\.mask_head\.mask_fcn(\d+)\.weight")
    return MaskHead(convs=convs, channels=doubled[1], norm="roi_heads.mask_head.0.1.weight" in shapes)


def _count(shapes: Mapping[str, tuple[int, ...]], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in shapes)


def _number(name: str) -> int:
    return int(name.split(".")[3])


def _name_there(name: str, there: Mapping[str, Tensor]) -> str:
    """Return the name of a tensor in a file: that of today, or a former one that the file has instead."""
    if name in there:
        return name
    former = [pattern.sub(replacement, name) for pattern, replacement in _FORMER if pattern.fullmatch(name)]
    if match := _FORMER_MASK.fullmatch(name):
        former.append(f"roi_heads.mask_head.mask_fcn{int(match[1]) + 1}.{match[2]}")
    return next((each for each in former if each in there), name)


def _preprocess(spec: DetectorSpec) -> Preprocess:
    """Return torchvision's preparation: 0 to 1, ImageNet's mean, shorter side 800, longest 1,333 px."""
    usual = zoo.default_preprocess(zoo.entry("resnet50").spec)
    record = Preprocess(_LONGEST, _SIDE, usual.mean, usual.std, "bilinear", fit="whole")
    return record if spec.in_channels == 3 else record.in_gray()


def _assumed(spec: DetectorSpec, tensors: Mapping[str, Tensor], known: str, *, has_names: bool) -> list[str]:
    """Return what the file does not say, one clause each."""
    sizes = ", ".join(f"{size:g}" for (size,) in spec.anchors.sizes)
    assumed = [
        f"anchors of {sizes} px in shapes 0.5, 1 and 2, limits and thresholds are torchvision's defaults",
        f"images are prepared as torchvision does: shorter side {_SIDE} px, longest {_LONGEST:,} px",
    ]
    has_counters = "backbone.body.bn1.num_batches_tracked" in tensors
    if not has_counters and not known and spec.fpn_norm is False:
        assumed.append(
            "frozen BN adds 1e-5 to the variance; in torchvision's first released weights and in what was "
            "trained from them it adds 0 (--model fasterrcnn_resnet50_fpn.tv_coco says so)"
        )
    if has_names:
        assumed.append(
            "the 90 classes are COCO's; ten rows without a class keep their place, as N/A and a number"
        )
    return assumed
