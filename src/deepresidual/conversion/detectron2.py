"""detectron2: Faster and Mask R-CNN of its R-CNN family, on a feature pyramid and C4; in.

Weights come as pickles of its model zoo (``model_final_….pkl``) or as its trainer's ``model_final.pth``. What
only the configuration says is read from ``config.yaml`` beside the file, or taken for what detectron2 sets.
Here the background is the first class and anchors have sizes inside of shapes; there it is the other way
round, so rows of the last layers change places. No package index has detectron2: where it is installed, it is
compared with, and a test compares with its formulas, written anew.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from deepresidual.conversion import detectron2_settings as settings
from deepresidual.conversion.architecture import counted
from deepresidual.conversion.coco_names import coco_names
from deepresidual.conversion.detector_ecosystem import (
    DetectorEcosystem,
    DetectorReference,
    RecognizedDetector,
)
from deepresidual.conversion.detector_reading import (
    Shapes,
    assumed_settings,
    count,
    read_backbone,
    reading,
    refuse_others,
    require_anchors,
)
from deepresidual.conversion.detectron2_names import PREDICTOR, RPN, body_prefix, of_last, rule_of, to_ours
from deepresidual.conversion.detectron2_reference import make_reference
from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.conversion.settings import Settings
from deepresidual.conversion.translation import Translation
from deepresidual.errors import ConfigurationError, MissingDependencyError, ModelFileError
from deepresidual.spec import DetectorSpec, MaskHead, Neck, Regions, ResNetSpec

_MASK_LOGITS = "roi_heads.mask_head.predictor.weight"
# What a file may have that is no weight, with the reason why it is not taken.
_DROPPED = (
    (re.compile(r"pixel_(mean|std)"), "of the preprocessing, which is a record here"),
    (re.compile(r"proposal_generator\.anchor_generator\.cell_anchors\.\d+"), "anchors, which the spec gives"),
    (re.compile(r"roi_heads\.box_predictor\.fed_loss_cls_weights"), "of a loss"),
)
# Parts of a network that Residual does not have: a name → what it is.
_OTHERS = (
    (re.compile(r"roi_heads\.box_predictor\.0\..*"), "a Cascade R-CNN"),
    (re.compile(r"roi_heads\.keypoint_head\..*"), "a Keypoint R-CNN"),
    (re.compile(r"sem_seg_head\..*"), "a Panoptic FPN"),
    (re.compile(r".*\.conv2_offset\..*"), "of deformable convolutions"),
    (re.compile(r"roi_heads\.mask_(point_head|coarse_head)\..*"), "a PointRend"),
)


class Detectron2(DetectorEcosystem):
    """The networks of detectron2's ``GeneralizedRCNN`` with one head on a ResNet or ResNeXt."""

    name = "detectron2"
    package = "detectron2"
    marks = (f"{RPN}objectness_logits.weight",)

    def recognize(self, checkpoint: ForeignCheckpoint, weights: str = "") -> RecognizedDetector | None:  # noqa: ARG002
        """Recognize the names; read the spec off shapes, and off the configuration where there is one."""
        tensors, path = checkpoint.tensors, checkpoint.path
        if not all(mark in tensors for mark in self.marks):
            return None
        refuse_others(tensors, _OTHERS, path, self.name, f"{PREDICTOR}cls_score.weight")
        neck: Neck = "c4" if "roi_heads.res5.0.conv1.weight" in tensors else "fpn"
        backbone = _read_backbone(checkpoint, neck)
        with reading(path, self.name):
            said = settings.read_settings(path)
            settings.require_usual(said)
            has_groups = backbone.groups > 1
            stride_on, assumed = settings.stride_on(said, tensors, has_groups=has_groups)
            if backbone.unit == "bottleneck":
                backbone = dataclasses.replace(backbone, stride_on=stride_on)
            spec = _read_spec(backbone, neck, tensors, said)
            preprocess = settings.read_preprocess(said, tensors)
        labels = coco_names() if spec.num_classes == len(coco_names()) else None
        return RecognizedDetector(
            spec,
            f"tensor names such as {self.marks[0]}, which are detectron2's"
            + ("; config.yaml beside it" if said.is_there else ""),
            preprocess,
            labels,
            tuple(_assumed(spec, said, assumed, has_names=labels is not None)),
        )

    def translation(self, spec: DetectorSpec, checkpoint: ForeignCheckpoint | None = None) -> Translation:
        """Return detectron2's names, and the order of its rows."""
        from deepresidual.nn.detection import Detector

        with torch.device("meta"):
            names = list(Detector(spec).state_dict())
        there = checkpoint.tensors if checkpoint is not None else {}
        dropped = {name: reason for name in there if (reason := _reason(name))}
        rules = [rule_of(name, spec, there) for name in names]
        return dataclasses.replace(counted(rules, checkpoint), dropped=dropped)

    def reference(self, checkpoint: ForeignCheckpoint, recognized: RecognizedDetector) -> DetectorReference:
        """Build detectron2's detector with the checkpoint's tensors; where boxes and masks are of classes."""
        spec, tensors = recognized.spec, checkpoint.tensors
        codes, mask = tensors[f"{PREDICTOR}bbox_pred.weight"], tensors.get(_MASK_LOGITS)
        if len(codes) != 4 * spec.num_classes or (mask is not None and len(mask) != spec.num_classes):
            raise MissingDependencyError("boxes or masks are of no class, which is not compared")
        weights = {name: value for name, value in tensors.items() if not _reason(name)}
        name, find = make_reference(spec, weights, str(checkpoint.path))
        return DetectorReference(name, find)


def _reason(name: str) -> str:
    """Return why a tensor is not taken; nothing where it is."""
    return next((reason for pattern, reason in _DROPPED if pattern.fullmatch(name)), "")


# -- the spec ----------------------------------------------------------------------------------------


def _read_backbone(checkpoint: ForeignCheckpoint, neck: Neck) -> ResNetSpec:
    """Return the backbone, by torchvision's names of its tensors."""
    tensors, path = checkpoint.tensors, checkpoint.path
    prefix = body_prefix(neck)
    body = {
        ours: tensor
        for name, tensor in tensors.items()
        if (ours := to_ours(name.removeprefix(prefix) if name.startswith(prefix) else of_last(name)))
    }
    stem = "bn1.weight" in body and "bn1.running_mean" not in body
    if stem:
        raise ModelFileError(
            f"{path} is a detector of detectron2 with group normalization, or with BN without statistics",
            expected="BN with running_mean and running_var",
        )
    return read_backbone(body, path, "detectron2")


def _read_spec(
    backbone: ResNetSpec, neck: Neck, tensors: Mapping[str, Tensor], said: Settings
) -> DetectorSpec:
    """Return the detector, by shapes and by what the configuration says."""
    shapes: Shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    laterals = [name for name in shapes if re.fullmatch(r"backbone\.fpn_lateral\d+\.weight", name)]
    if neck == "fpn" and not laterals:
        raise ConfigurationError("it has no pyramid (fpn_lateral)", expected="a pyramid, or C4")
    channels = shapes[laterals[0]][0] if laterals else 256
    num_levels = len(laterals) + 1 if neck == "fpn" else 1
    pooling, sampling = settings.read_pooling(said)
    convs = count(shapes, r"roi_heads\.box_head\.conv\d+\.weight")
    bins, hidden = said.get("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 14), 1024
    if neck == "fpn":
        hidden, inputs = shapes["roi_heads.box_head.fc1.weight"]
        bins = math.isqrt(inputs // channels)
    spec = DetectorSpec(
        backbone,
        num_classes=shapes[f"{PREDICTOR}cls_score.weight"][0] - 1,
        neck=neck,
        fpn_channels=channels,
        fpn_stages=len(laterals) or 4,
        fpn_norm=f"{laterals[0].removesuffix('.weight')}.norm.weight" in shapes if laterals else False,
        rpn_convs=count(shapes, re.escape(RPN) + r"conv\.conv\d+\.weight") or 1,
        rpn_channels=shapes[f"{RPN}objectness_logits.weight"][1] if neck == "c4" else 512,
        anchors=settings.read_anchors(said, tensors, neck, num_levels),
        proposals=settings.read_proposals(said, neck),
        regions=Regions(
            pooling=pooling,
            bins=bins,
            sampling=sampling,
            convs=convs,
            hidden=hidden,
            samples=said.get("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 512),
            positive_share=said.get("MODEL.ROI_HEADS.POSITIVE_FRACTION", 0.25),
            positive_iou=said.get("MODEL.ROI_HEADS.IOU_THRESHOLDS", (0.5,))[0],
            box_weights=said.get("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", (10.0, 10.0, 5.0, 5.0)),
            smooth_l1_beta=said.get("MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", 0.0),
        ),
        masks=_read_masks(shapes, said),
        detections=settings.read_detections(said),
        # Its C4 is given images as they are, its pyramid such of whole pixels on every level.
        size_divisor=1 if neck == "c4" else None,
    )
    num_logits = shapes[f"{RPN}objectness_logits.weight"][0]
    return require_anchors(spec, num_logits, "config.yaml of the training beside it")


def _read_masks(shapes: Shapes, said: Settings) -> MaskHead | None:
    """Return the head of the masks, whose bins no tensor says."""
    doubled = shapes.get("roi_heads.mask_head.deconv.weight")
    if doubled is None:
        return None
    return MaskHead(
        bins=said.get("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 14),
        convs=count(shapes, r"roi_heads\.mask_head\.mask_fcn\d+\.weight"),
        channels=doubled[1],
        norm="roi_heads.mask_head.mask_fcn1.norm.weight" in shapes,
    )


def _assumed(spec: DetectorSpec, said: Settings, of_stride: str, *, has_names: bool) -> list[str]:
    """Return what the file does not say, one clause each."""
    assumed = [of_stride] if of_stride and spec.backbone.unit == "bottleneck" else []
    if not said.is_there:
        why = "; config.yaml of the training beside the file would say them"
        assumed.append(assumed_settings(spec, "detectron2", why))
    if has_names:
        assumed.append("the 80 classes are COCO's")
    return assumed
