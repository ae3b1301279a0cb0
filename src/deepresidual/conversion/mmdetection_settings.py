"""What mmdetection's configuration says of a detector and its weights do not.

A file of mmdetection 2 or 3 has the configuration beside the weights (``meta``), where it is kept as text.
Where a file has none, the settings are those of its own models: ``faster-rcnn_r50_fpn.py`` and
``mask-rcnn_r50_fpn.py`` for the pyramid, ``…_r50-caffe-c4.py`` for C4.
"""

from __future__ import annotations

import re
from typing import Any

from deepresidual.conversion.settings import Settings
from deepresidual.errors import ConfigurationError
from deepresidual.preprocess import Preprocess
from deepresidual.spec import Anchors, Detections, Neck, Proposals, RoiPooling, StrideOn

_MIN_PX = 1e-6  # there a side has to be longer than the least, here as long
_RGB = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_CAFFE = (103.53, 116.28, 123.675), (1.0, 1.0, 1.0)
_ROI = "model.roi_head.bbox_roi_extractor.roi_layer."
_MASK_ROI = "model.roi_head.mask_roi_extractor.roi_layer."
_HEAD = "model.roi_head.bbox_head."
_RPN = "model.rpn_head."
_GENERATOR = f"{_RPN}anchor_generator."


def require_usual(said: Settings) -> None:
    """Refuse settings that a detector of Residual does not have.

    Raises:
        ConfigurationError: The message names the setting.
    """
    said.require("model.roi_head.type", "StandardRoIHead", "the head of the regions")
    said.require(f"{_RPN}type", "RPNHead", "the head of the proposals")
    said.require(f"{_GENERATOR}type", "AnchorGenerator", "the kind of anchors")
    said.require(f"{_GENERATOR}center_offset", 0.0, "the offset of the anchors")
    said.require(f"{_GENERATOR}scale_major", True, "the order of the anchors")
    for where, stds in ((_RPN, (1.0, 1.0, 1.0, 1.0)), (_HEAD, None)):
        said.require(f"{where}bbox_coder.type", "DeltaXYWHBBoxCoder", "the coding of boxes")
        said.require(f"{where}bbox_coder.target_means", (0.0, 0.0, 0.0, 0.0), "the mean of boxes' codes")
        if stds is not None:
            said.require(f"{where}bbox_coder.target_stds", stds, "the deviation of the proposals' codes")
    said.require(f"{_RPN}loss_cls.use_sigmoid", True, "whether objectness has one logit")
    said.require(f"{_HEAD}loss_cls.use_sigmoid", False, "whether classes exclude each other")
    said.require("model.neck.type", "FPN", "the neck")
    for limits in ("rpn", "rcnn"):
        said.require(f"model.test_cfg.{limits}.nms.type", "nms", "how boxes are suppressed")
    said.require("model.test_cfg.rcnn.mask_thr_binary", 0.5, "from which on a pixel is an object's")


def style(said: Settings, neck: Neck, weights: str) -> tuple[StrideOn, str]:
    """Return which convolution of a bottleneck strides, and the assumption where nothing says it.

    Args:
        said: The configuration.
        neck: What stands between maps and regions.
        weights: The name of the configuration, where the user says it.
    """
    if said.raw("model.backbone.style") is not None:
        return _stride(said.get("model.backbone.style", "pytorch")), ""
    if weights:
        if not re.match(r"(?:faster|mask)[-_]rcnn_", weights):
            raise ConfigurationError(
                f"mmdetection has no configuration {weights!r} of such a detector",
                expected="a name like mask-rcnn_r50-caffe_fpn_1x_coco",
            )
        return ("1x1" if "caffe" in weights else "3x3"), ""
    if neck == "c4":
        return "1x1", "strides and pixels are those of Caffe, as in mmdetection's own models of C4"
    return "3x3", (
        "strides and pixels are those of PyTorch and not of Caffe, whose tensors have the same names "
        "(else: --model mask-rcnn_r50-caffe_fpn_1x_coco, the name of the configuration)"
    )


def _stride(name: str) -> StrideOn:
    if name not in ("caffe", "pytorch"):
        raise ConfigurationError(f"the style of the backbone is {name!r}", expected="pytorch or caffe")
    return "1x1" if name == "caffe" else "3x3"


def read_anchors(said: Settings, neck: Neck, strides: tuple[int, ...]) -> Anchors:
    """Return the anchors.

    Raises:
        ConfigurationError: They are not given as scales of the strides.
    """
    given = said.get(f"{_GENERATOR}strides", tuple(map(int, strides)))
    if given != tuple(strides):
        raise ConfigurationError(
            f"strides of the anchors are {list(given)}", expected=f"those of the maps, {list(strides)}"
        )
    for name in ("octave_base_scale", "centers"):
        if said.raw(f"{_GENERATOR}{name}") is not None:
            raise ConfigurationError(f"anchors are given by {name}", expected="by scales, around the places")
    scales = said.get(f"{_GENERATOR}scales", (2, 4, 8, 16, 32) if neck == "c4" else (8,))
    bases = said.get(f"{_GENERATOR}base_sizes", tuple(map(int, strides)))
    ratios = said.get(f"{_GENERATOR}ratios", (0.5, 1.0, 2.0))
    return Anchors(
        tuple(tuple(float(base * scale) for scale in scales) for base in bases), ratios, exact=True
    )


def read_proposals(said: Settings, neck: Neck) -> Proposals:
    """Return limits and training of the proposal network."""
    is_c4 = neck == "c4"
    learned, taught, used = (f"model.train_cfg.{part}." for part in ("rpn_proposal", "rpn", ""))
    used = "model.test_cfg.rpn."
    return Proposals(
        samples=said.get(f"{taught}sampler.num", 256),
        positive_share=said.get(f"{taught}sampler.pos_fraction", 0.5),
        positive_iou=said.get(f"{taught}assigner.pos_iou_thr", 0.7),
        negative_iou=said.get(f"{taught}assigner.neg_iou_thr", 0.3),
        smooth_l1_beta=_beta(said, f"{_RPN}loss_bbox."),
        before_nms_train=said.get(f"{learned}nms_pre", 12_000 if is_c4 else 2000),
        after_nms_train=_first(
            said, (f"{learned}max_per_img", f"{learned}nms_post"), 2000 if is_c4 else 1000
        ),
        before_nms=said.get(f"{used}nms_pre", 6000 if is_c4 else 1000),
        after_nms=_first(said, (f"{used}max_per_img", f"{used}nms_post"), 1000),
        nms_iou=_first(said, (f"{used}nms.iou_threshold", f"{used}nms_thr"), 0.7),
        min_px=max(_MIN_PX, said.get(f"{used}min_bbox_size", 0.0)),
    )


def _first(said: Settings, paths: tuple[str, ...], usual: Any) -> Any:
    """Return a setting under the first of several names that it is given by."""
    for path in paths:
        if said.raw(path) is not None:
            return said.get(path, usual)
    return usual


def _beta(said: Settings, loss: str) -> float:
    """Return where the loss of boxes turns from a square to a line; 0 for L1."""
    return said.get(f"{loss}beta", 1.0) if said.raw(f"{loss}type") == "SmoothL1Loss" else 0.0


def read_pooling(said: Settings) -> tuple[RoiPooling, int]:
    """Return how regions are pooled, and the samples along each side of a bin.

    Raises:
        ConfigurationError: There is no such pooling here, or masks are pooled in another way.
    """
    names: dict[tuple[str, bool], RoiPooling] = {("RoIAlign", True): "align-v2", ("RoIAlign", False): "align"}
    kinds = []
    for layer in (_ROI, _MASK_ROI):
        name, aligned = said.get(f"{layer}type", "RoIAlign"), said.get(f"{layer}aligned", True)
        if (name, aligned) not in names:
            raise ConfigurationError(f"regions are pooled by {name}", expected="RoIAlign")
        sampling = said.get(f"{layer}sampling_ratio", said.get(f"{_ROI}sampling_ratio", 0))
        kinds.append((names[name, aligned], sampling))
        said.require(f"{layer}pool_mode", "avg", "how a bin is pooled")
    said.require(
        "model.roi_head.bbox_roi_extractor.finest_scale", 56, "the size of regions of the first level"
    )
    if kinds[0] != kinds[1]:
        raise ConfigurationError("masks are pooled in another way than boxes", expected="in the same way")
    return kinds[0]


def read_bins(said: Settings, layer: str, usual: int) -> int:
    """Return the bins along each side of a region; ``layer``: ``bbox`` or ``mask``."""
    path = f"model.roi_head.{layer}_roi_extractor.roi_layer."
    return int(_first(said, (f"{path}output_size", f"{path}out_size"), usual))


def read_box_weights(said: Settings) -> tuple[float, float, float, float]:
    """Return the factors of the codes of boxes, which mmdetection gives as deviations."""
    stds = said.get(f"{_HEAD}bbox_coder.target_stds", (0.1, 0.1, 0.2, 0.2))
    if len(stds) != 4 or min(stds) <= 0:
        raise ConfigurationError(f"target_stds is {list(stds)}", expected="four numbers above 0")
    across, down, wide, high = (1 / value for value in stds)
    return across, down, wide, high


def region_beta(said: Settings) -> float:
    """Return where the loss of the regions' boxes turns from a square to a line."""
    return _beta(said, f"{_HEAD}loss_bbox.")


def read_detections(said: Settings) -> Detections:
    """Return what is given out."""
    used = "model.test_cfg.rcnn."
    return Detections(
        min_score=said.get(f"{used}score_thr", 0.05),
        nms_iou=_first(said, (f"{used}nms.iou_threshold", f"{used}nms.iou_thr"), 0.5),
        most=said.get(f"{used}max_per_img", 100),
    )


def read_preprocess(said: Settings, stride_on: StrideOn) -> tuple[Preprocess, int]:
    """Return how images are prepared, and the multiple that they are padded to.

    mmdetection resizes with OpenCV's bilinear filter, which takes four pixels however much it shrinks; this
    record has Pillow's, which takes all.
    """
    is_caffe = stride_on == "1x1"
    where = "model.data_preprocessor." if said.raw("model.data_preprocessor") is not None else "img_norm_cfg."
    mean, std = _CAFFE if is_caffe else _RGB
    mean, std = said.get(f"{where}mean", mean), said.get(f"{where}std", std)
    is_rgb = _first(said, (f"{where}bgr_to_rgb", f"{where}to_rgb"), not is_caffe)
    shorter, longest = _sides(said)
    record = Preprocess(
        crop_px=longest,
        resize_px=shorter,
        mean=tuple(value / 255 for value in mean),
        std=tuple(value / 255 for value in std),
        channels="rgb" if is_rgb else "bgr",
        fit="whole",
    )
    return record, said.get("model.data_preprocessor.pad_size_divisor", 32)


def _sides(said: Settings) -> tuple[int, int]:
    """Return the limits of the shorter and the longer side of an image in a test."""
    pipelines = ("test_pipeline", "data.test.pipeline", "test_dataloader.dataset.pipeline")
    for pipeline in pipelines:
        steps = said.raw(pipeline)
        for number in range(len(steps) if isinstance(steps, list) else 0):
            for name in ("scale", "img_scale"):
                sides = said.raw(f"{pipeline}.{number}.{name}")
                if isinstance(sides, list) and len(sides) == 2 and all(type(side) is int for side in sides):
                    return min(sides), max(sides)
    return 800, 1333
