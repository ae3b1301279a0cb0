"""torchvision's own detectors, built by its classes from a spec: the other side of a certificate."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deepresidual.conversion.torchvision import require_plain_resnet
from deepresidual.errors import ConfigurationError, MissingDependencyError
from deepresidual.spec import DetectorSpec, Regions
from deepresidual.spec.detector import Detections, MaskHead, Proposals

if TYPE_CHECKING:
    from deepresidual.nn.detection import Found

_BUILDERS = (
    "fasterrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "maskrcnn_resnet50_fpn_v2",
)
_STAGES = 4


def _detection() -> Any:
    try:
        from torchvision.models import detection
    except (ImportError, RuntimeError) as error:
        raise MissingDependencyError(
            "torchvision is not installed", remedy="pip install torchvision"
        ) from error
    return detection


def categories() -> tuple[str, ...]:
    """Return the names of all rows of torchvision's weights of COCO, the background's first."""
    weights = _detection().FasterRCNN_ResNet50_FPN_Weights.COCO_V1
    return tuple(weights.meta["categories"])


def weights_of_sha256(sha256: str) -> str:
    """Return the released weights whose file has this hash (``fasterrcnn_resnet50_fpn.COCO_V1``), or nothing.

    The name of a file of torchvision's ends with the first digits of its hash.
    """
    from torchvision.models import get_model_weights

    for name in _BUILDERS:
        for weights in get_model_weights(name):
            found = re.search(r"-([0-9a-f]{8,})\.pth$", weights.url)
            if found and sha256.startswith(found[1]):
                return f"{name}.{weights.name}"
    return ""


def require_buildable(spec: DetectorSpec) -> None:
    """Refuse a detector that torchvision's classes cannot be.

    Raises:
        ConfigurationError: The message says what differs.
    """
    require_plain_resnet(spec.backbone, "torchvision")
    usual = Proposals()
    for what, is_there in (
        ("neck c4", spec.neck != "fpn"),
        ("RoI pooling", spec.regions.pooling == "pool"),
        ("RoIAlign half a pixel from the edge", spec.regions.pooling == "align-v2"),
        ("anchors that are not rounded", spec.anchors.exact),
        (f"images of multiples of {spec.size_divisor} px", spec.size_divisor is not None),
        ("a pyramid without a last level by max-pooling", not spec.fpn_extra),
        (f"proposals of at least {spec.proposals.min_px:g} px", spec.proposals.min_px != usual.min_px),
    ):
        if is_there:
            raise ConfigurationError(
                f"torchvision has no detector with {what}", expected="Faster or Mask R-CNN on a pyramid"
            )


def make_reference(
    spec: DetectorSpec, bn_eps: float
) -> tuple[str, nn.Module, Callable[[Tensor, tuple[int, int]], Found]]:
    """Return name, module and use of torchvision's detector of a spec, which gives out its best detections.

    Raises:
        MissingDependencyError: torchvision is not installed, or has no such detector.
    """
    try:
        require_buildable(spec)
    except ConfigurationError as error:
        raise MissingDependencyError(error.found) from error
    import torchvision

    module = _build(spec, bn_eps).eval()
    name = f"torchvision {torchvision.__version__}'s {type(module).__name__}"
    return name, module, partial(_find, module)


def _find(module: Any, image: Tensor, size: tuple[int, int]) -> Found:
    """Return what its parts find, without the resize before them and the pasting of masks after them."""
    from torchvision.models.detection.image_list import ImageList

    from deepresidual.nn.detection import Found

    images = ImageList(image, [size])
    maps = module.backbone(image)
    proposals, _ = module.rpn(images, maps)
    found = module.roi_heads(maps, proposals, images.image_sizes)[0][0]
    masks = found["masks"][:, 0] if "masks" in found else None
    # Row 0 is the background's.
    return Found(
        found["boxes"], found["labels"] - 1, found["scores"], torch.ones((), dtype=torch.bool), masks
    )


def _build(spec: DetectorSpec, bn_eps: float) -> Any:
    """Return torchvision's detector with first weights."""
    detection = _detection()
    from torchvision.models import resnet
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.models.detection.rpn import RPNHead
    from torchvision.ops import MultiScaleRoIAlign

    of_body, regions, channels = spec.backbone, spec.regions, spec.fpn_channels
    stages = len(of_body.depths)
    body = resnet.ResNet(
        resnet.Bottleneck if of_body.unit == "bottleneck" else resnet.BasicBlock,
        [*of_body.depths, *[1] * (_STAGES - stages)],  # those that are not read are taken off again
        groups=of_body.groups,
        width_per_group=64 * of_body.inner_multiplier // of_body.groups,
        norm_layer=partial(nn.BatchNorm2d, eps=bn_eps),
    )
    if of_body.in_channels != 3:
        body.conv1 = nn.Conv2d(of_body.in_channels, 64, 7, stride=2, padding=3, bias=False)
    read = range(stages - spec.fpn_stages, stages)
    backbone = BackboneWithFPN(
        body,
        {f"layer{stage + 1}": str(level) for level, stage in enumerate(read)},
        [of_body.widths[stage] * of_body.expansion for stage in read],
        channels,
        norm_layer=nn.BatchNorm2d if spec.fpn_norm else None,
    )
    levels = [str(level) for level in range(spec.fpn_stages)]
    head: nn.Module = TwoMLPHead(channels * regions.bins**2, regions.hidden)
    if regions.convs:
        head = FastRCNNConvFCHead(
            (channels, regions.bins, regions.bins),
            [channels] * regions.convs,
            [regions.hidden],
            norm_layer=nn.BatchNorm2d,
        )
    rows = spec.num_classes + 1
    parts = {
        "rpn_anchor_generator": AnchorGenerator(spec.anchors.sizes, (spec.anchors.ratios,) * spec.num_levels),
        "rpn_head": RPNHead(channels, spec.num_anchors, spec.rpn_convs),
        "box_roi_pool": MultiScaleRoIAlign(levels, regions.bins, regions.sampling),
        "box_head": head,
        "box_predictor": FastRCNNPredictor(regions.hidden, rows),
        **{name: value for name, value, _ in _limits(spec)},
        "box_score_thresh": 0.0,
    }
    if spec.masks is None:
        return detection.FasterRCNN(backbone, **parts)
    masks = spec.masks
    convs = [masks.channels] * masks.convs
    norm = nn.BatchNorm2d if masks.norm else None
    return detection.MaskRCNN(
        backbone,
        **parts,
        mask_roi_pool=MultiScaleRoIAlign(levels, masks.bins, regions.sampling),
        mask_head=MaskRCNNHeads(channels, convs, 1, norm_layer=norm),
        mask_predictor=MaskRCNNPredictor(convs[-1] if convs else channels, masks.channels, rows),
    )


def _limits(spec: DetectorSpec) -> list[tuple[str, Any, Any]]:
    """Return the numbers that its constructor takes and that show in detections: name, value, default."""
    proposals, regions, detections = spec.proposals, spec.regions, spec.detections
    return [
        ("rpn_pre_nms_top_n_test", proposals.before_nms, Proposals().before_nms),
        ("rpn_post_nms_top_n_test", proposals.after_nms, Proposals().after_nms),
        ("rpn_nms_thresh", proposals.nms_iou, Proposals().nms_iou),
        ("bbox_reg_weights", regions.box_weights, Regions().box_weights),
        ("box_score_thresh", detections.min_score, Detections().min_score),
        ("box_nms_thresh", detections.nms_iou, Detections().nms_iou),
        ("box_detections_per_img", detections.most, Detections().most),
    ]


def constructor_call(spec: DetectorSpec) -> str:
    """Return the Python call that builds torchvision's network of a spec.

    Where none of its functions does, the class is named, whose parts have to have these shapes.
    """
    from deepresidual import zoo

    limits = "".join(f", {name}={value!r}" for name, value, usual in _limits(spec) if value != usual)
    classes = f"num_classes={spec.num_classes + 1}{limits}"
    kind = "FasterRCNN" if spec.masks is None else "MaskRCNN"
    network = zoo.name_of(spec.backbone)
    is_first, is_second = (_layers(spec) == _layers(_usual(spec, second=second)) for second in (False, True))
    if network == "resnet50" and (is_first or is_second):
        name = f"{kind.lower()}_resnet50_fpn{'_v2' if is_second else ''}"
        return f"{name}(weights=None, weights_backbone=None, {classes})"
    if network is not None and is_first:
        backbone = f'resnet_fpn_backbone(backbone_name="{network}", weights=None, norm_layer=nn.BatchNorm2d)'
        return f"{kind}({backbone}, {classes})"
    return f"{kind} with a backbone, anchors and heads of these shapes, {classes}"


def _usual(spec: DetectorSpec, *, second: bool) -> DetectorSpec:
    """Return torchvision's first or second detector on the network of a spec."""
    return DetectorSpec(
        spec.backbone,
        spec.num_classes,
        fpn_norm=second,
        rpn_convs=2 if second else 1,
        regions=Regions(convs=4 if second else 0),
        masks=None if spec.masks is None else MaskHead(norm=second),
    )


def _layers(spec: DetectorSpec) -> tuple[Any, ...]:
    """Return what decides the layers of a detector on a pyramid and where its anchors lie."""
    regions = spec.regions
    return (
        (spec.fpn_channels, spec.fpn_stages, spec.fpn_norm, spec.rpn_convs, spec.masks),
        (regions.convs, regions.bins, regions.hidden, regions.sampling),
        (spec.anchors.sizes, spec.anchors.ratios),
    )
