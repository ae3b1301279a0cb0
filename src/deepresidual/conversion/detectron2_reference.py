"""detectron2's own detector, built by its classes from a spec, where it is installed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from deepresidual.errors import MissingDependencyError, ModelFileError
from deepresidual.spec import DetectorSpec

if TYPE_CHECKING:
    from deepresidual.nn.detection import Found

# Units in each stage → the depth by which detectron2 calls a network.
_DEPTHS: dict[tuple[str, tuple[int, ...]], int] = {
    ("basic", (2, 2, 2, 2)): 18,
    ("basic", (3, 4, 6, 3)): 34,
    ("bottleneck", (3, 4, 6, 3)): 50,
    ("bottleneck", (3, 4, 23, 3)): 101,
    ("bottleneck", (3, 8, 36, 3)): 152,
}
_POOLERS = {"align-v2": "ROIAlignV2", "align": "ROIAlign", "pool": "ROIPool"}


def make_reference(
    spec: DetectorSpec, weights: Mapping[str, Tensor], where: str
) -> tuple[str, Callable[[Tensor, tuple[int, int]], Found]]:
    """Return name and use of detectron2's detector with these weights, which gives out its best detections.

    Raises:
        MissingDependencyError: It is not installed, or builds no such network.
        ModelFileError: The weights are not those of its network.
    """
    try:
        import detectron2
        from detectron2.config import get_cfg
        from detectron2.modeling import build_model
    except ImportError as error:
        raise MissingDependencyError("detectron2 is not installed, to compare with") from error
    config = get_cfg()
    config.merge_from_list([item for pair in _settings(spec).items() for item in pair])
    module: Any = build_model(config).eval()
    _load(module, weights, where)
    return f"detectron2 {detectron2.__version__}", lambda image, size: _find(module, image, size)


def _load(module: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    missing, unexpected = module.load_state_dict(dict(weights), strict=False)
    # Frozen BN does not count batches, and normalizes pixels in buffers that no file has today.
    missing = [name for name in missing if not name.startswith("pixel_")]
    unexpected = [name for name in unexpected if not name.endswith(".num_batches_tracked")]
    if missing or unexpected:
        raise ModelFileError(
            f"{where} does not fit detectron2's network (missing {missing[:3]}, extra {unexpected[:3]})"
        )


def _find(module: Any, image: Tensor, size: tuple[int, int]) -> Found:
    """Return what its parts find, without the resize before them and the pasting of masks after them."""
    from detectron2.structures import ImageList

    from deepresidual.nn.detection import Found

    images = ImageList(image, [size])
    maps = module.backbone(image)
    proposals, _ = module.proposal_generator(images, maps, None)
    found = module.roi_heads(images, maps, proposals, None)[0][0]
    masks = found.pred_masks[:, 0] if found.has("pred_masks") else None
    ones = torch.ones((), dtype=torch.bool)
    return Found(found.pred_boxes.tensor, found.pred_classes, found.scores, ones, masks)


def _settings(spec: DetectorSpec) -> dict[str, Any]:
    """Return detectron2's settings of a spec, but for those of training.

    Raises:
        MissingDependencyError: It builds no such network.
    """
    body, proposals, regions = spec.backbone, spec.proposals, spec.regions
    depth = _DEPTHS.get((body.unit, body.depths))
    first = body.widths[0]
    if depth is None or body.widths != tuple(first * 2**stage for stage in range(len(body.depths))):
        raise MissingDependencyError(
            f"detectron2 builds no network of {list(body.depths)} units with widths {list(body.widths)}"
        )
    is_fpn = spec.neck == "fpn"
    settings: dict[str, Any] = {
        "MODEL.DEVICE": "cpu",
        "MODEL.MASK_ON": spec.masks is not None,
        "MODEL.RESNETS.DEPTH": depth,
        "MODEL.RESNETS.STEM_OUT_CHANNELS": first,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": first * body.expansion,
        "MODEL.RESNETS.NUM_GROUPS": body.groups,
        "MODEL.RESNETS.WIDTH_PER_GROUP": first * body.inner_multiplier // body.groups,
        "MODEL.RESNETS.STRIDE_IN_1X1": body.stride_on == "1x1",
        "MODEL.ANCHOR_GENERATOR.SIZES": [list(map(float, sizes)) for sizes in spec.anchors.sizes],
        "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": [list(spec.anchors.ratios)],
        "MODEL.RPN.CONV_DIMS": [-1] * spec.rpn_convs,
        "MODEL.RPN.PRE_NMS_TOPK_TEST": proposals.before_nms,
        "MODEL.RPN.POST_NMS_TOPK_TEST": proposals.after_nms,
        "MODEL.RPN.NMS_THRESH": proposals.nms_iou,
        "MODEL.ROI_HEADS.NUM_CLASSES": spec.num_classes,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
        "MODEL.ROI_HEADS.NMS_THRESH_TEST": spec.detections.nms_iou,
        "TEST.DETECTIONS_PER_IMAGE": spec.detections.most,
        "MODEL.ROI_BOX_HEAD.POOLER_TYPE": _POOLERS[regions.pooling],
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": regions.bins,
        "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": regions.sampling,
        "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": tuple(regions.box_weights),
    }
    if spec.masks is not None:
        settings |= {
            "MODEL.ROI_MASK_HEAD.NUM_CONV": spec.masks.convs,
            "MODEL.ROI_MASK_HEAD.CONV_DIM": spec.masks.channels,
            "MODEL.ROI_MASK_HEAD.NORM": "BN" if spec.masks.norm else "",
            "MODEL.ROI_MASK_HEAD.POOLER_TYPE": _POOLERS[regions.pooling],
            "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": spec.masks.bins,
            "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": regions.sampling,
        }
    return settings | (_of_pyramid(spec) if is_fpn else {})


def _of_pyramid(spec: DetectorSpec) -> dict[str, Any]:
    """Return the settings of a detector on a pyramid."""
    strides = spec.backbone.stage_strides[-spec.fpn_stages :]
    levels = [round(math.log2(stride)) for stride in strides]
    stages = [f"res{level}" for level in levels]
    maps = [f"p{level}" for level in levels]
    return {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES": stages,
        "MODEL.FPN.IN_FEATURES": stages,
        "MODEL.FPN.OUT_CHANNELS": spec.fpn_channels,
        "MODEL.FPN.NORM": "BN" if spec.fpn_norm else "",
        "MODEL.RPN.IN_FEATURES": [*maps, f"p{levels[-1] + 1}"],
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
        "MODEL.ROI_HEADS.IN_FEATURES": maps,
        "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
        "MODEL.ROI_BOX_HEAD.NUM_CONV": spec.regions.convs,
        "MODEL.ROI_BOX_HEAD.CONV_DIM": spec.fpn_channels,
        "MODEL.ROI_BOX_HEAD.NORM": "BN" if spec.regions.convs else "",
        "MODEL.ROI_BOX_HEAD.NUM_FC": 1 if spec.regions.convs else 2,
        "MODEL.ROI_BOX_HEAD.FC_DIM": spec.regions.hidden,
    }
