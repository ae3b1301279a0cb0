"""What detectron2's configuration says of a detector and its weights do not: ``config.yaml`` beside a file.

Its trainer writes the whole configuration there. Where there is none, the settings are those that detectron2
has for the pyramid (``Base-RCNN-FPN.yaml``) or for C4 (``Base-RCNN-C4.yaml``), which its own models have.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import yaml
from torch import Tensor

from deepresidual.conversion.settings import Settings
from deepresidual.errors import ConfigurationError
from deepresidual.preprocess import Preprocess
from deepresidual.spec import Anchors, Detections, Neck, Proposals, RoiPooling, StrideOn

_CONFIG = "config.yaml"
_MAX_BYTES = 1_000_000
_MIN_PX = 1e-6  # there a side has to be longer than the least, here as long
_POOLING: dict[str, RoiPooling] = {"ROIAlignV2": "align-v2", "ROIAlign": "align", "ROIPool": "pool"}
_CELLS = "proposal_generator.anchor_generator.cell_anchors."
# BGR, 0 to 255 (detectron2/config/defaults.py).
_MEAN, _STD = (103.53, 116.28, 123.675), (1.0, 1.0, 1.0)


def read_settings(weights: Path) -> Settings:
    """Return the configuration beside a file of weights; none where there is none, or another program's.

    Raises:
        ConfigurationError: It cannot be read.
    """
    path = weights.with_name(_CONFIG)
    if not path.is_file():
        return Settings()
    if path.stat().st_size > _MAX_BYTES:
        raise ConfigurationError(f"{path} has more than {_MAX_BYTES:,} bytes")
    try:
        document = yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"{path} beside the weights is not YAML ({reason})") from error
    model = document.get("MODEL") if isinstance(document, Mapping) else None
    is_theirs = isinstance(model, Mapping) and "META_ARCHITECTURE" in model
    return Settings(document if is_theirs else None)


def require_usual(said: Settings) -> None:
    """Refuse settings that a detector of Residual does not have.

    Raises:
        ConfigurationError: The message names the setting.
    """
    said.require("MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "the architecture")
    said.require("MODEL.ANCHOR_GENERATOR.NAME", "DefaultAnchorGenerator", "the kind of anchors")
    said.require("MODEL.ANCHOR_GENERATOR.OFFSET", 0.0, "the offset of the anchors")
    said.require("MODEL.RPN.BBOX_REG_WEIGHTS", (1.0, 1.0, 1.0, 1.0), "the weights of the proposals' boxes")
    said.require("MODEL.FPN.FUSE_TYPE", "sum", "how the pyramid adds")
    said.require("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", False, "whether classes exclude each other")
    said.require("MODEL.RESNETS.RES5_DILATION", 1, "the dilation of the last stage")


def stride_on(said: Settings, tensors: Mapping[str, Tensor], *, has_groups: bool) -> tuple[StrideOn, str]:
    """Return which convolution of a bottleneck strides, and the assumption where the file does not say.

    detectron2 strides on the 1×1, as its weights from Caffe do; not in ResNeXt, nor where pixels are divided
    by a deviation, which those weights have taken in.
    """
    if isinstance(given := said.raw("MODEL.RESNETS.STRIDE_IN_1X1"), bool):
        return "1x1" if given else "3x3", ""
    if has_groups or pixel_values(said, tensors)[1] != _STD:
        return "3x3", "the stride is on the 3×3, as in weights of torchvision and of ResNeXt"
    return "1x1", "the stride is on the 1×1, as in detectron2's own models on a ResNet"


def read_anchors(said: Settings, tensors: Mapping[str, Tensor], neck: Neck, num_levels: int) -> Anchors:
    """Return the anchors: those that an old file has, of the configuration, or the usual ones.

    Raises:
        ConfigurationError: They are no sizes in several shapes, or not the same shapes on all levels.
    """
    cells = [tensors[f"{_CELLS}{level}"] for level in range(num_levels) if f"{_CELLS}{level}" in tensors]
    usual: tuple[tuple[float, ...], ...] = ((32.0, 64.0, 128.0, 256.0, 512.0),)
    if neck == "fpn":
        usual = tuple((8.0 * 2 ** (level + 2),) for level in range(num_levels))
    if len(cells) == num_levels:
        found = [_sizes_and_ratios(each) for each in cells]
        levels, shapes = tuple(sizes for sizes, _ in found), {ratios for _, ratios in found}
    else:
        levels = said.get("MODEL.ANCHOR_GENERATOR.SIZES", usual)
        levels = levels * num_levels if len(levels) == 1 else levels
        shapes = set(said.get("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", ((0.5, 1.0, 2.0),)))
    if len(shapes) != 1:
        raise ConfigurationError("anchors have other shapes on other levels", expected="the same on all")
    return Anchors(levels, shapes.pop(), exact=True)


def _sizes_and_ratios(cells: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return sizes and shapes of the anchors ``(n, 4)`` around a place, of which sizes come first."""
    if cells.ndim != 2 or cells.shape[1] != 4 or not len(cells):
        raise ConfigurationError(f"anchors have the shape {tuple(cells.shape)}", expected="(n, 4)")
    width, height = (cells[:, 2:] - cells[:, :2]).double().unbind(1)
    # Numbers of float32 that were round before a root was taken.
    areas = [round(value, 3) for value in (width * height).sqrt().tolist()]
    shapes = [round(value, 4) for value in (height / width).tolist()]
    sizes, ratios = tuple(dict.fromkeys(areas)), tuple(dict.fromkeys(shapes))
    is_product = areas == [size for size in sizes for _ in ratios] and shapes == [*ratios] * len(sizes)
    if not is_product or not torch.allclose(cells[:, :2], -cells[:, 2:]):
        raise ConfigurationError(
            f"anchors are of {areas[:6]} px in the shapes {shapes[:6]}",
            expected="every size in every shape, around a place",
        )
    return sizes, ratios


def read_proposals(said: Settings, neck: Neck) -> Proposals:
    """Return limits and training of the proposal network."""
    is_c4 = neck == "c4"
    low, high = said.get("MODEL.RPN.IOU_THRESHOLDS", (0.3, 0.7))
    return Proposals(
        samples=said.get("MODEL.RPN.BATCH_SIZE_PER_IMAGE", 256),
        positive_share=said.get("MODEL.RPN.POSITIVE_FRACTION", 0.5),
        positive_iou=high,
        negative_iou=low,
        smooth_l1_beta=said.get("MODEL.RPN.SMOOTH_L1_BETA", 0.0),
        before_nms_train=said.get("MODEL.RPN.PRE_NMS_TOPK_TRAIN", 12_000 if is_c4 else 2000),
        after_nms_train=said.get("MODEL.RPN.POST_NMS_TOPK_TRAIN", 2000 if is_c4 else 1000),
        before_nms=said.get("MODEL.RPN.PRE_NMS_TOPK_TEST", 6000 if is_c4 else 1000),
        after_nms=said.get("MODEL.RPN.POST_NMS_TOPK_TEST", 1000),
        nms_iou=said.get("MODEL.RPN.NMS_THRESH", 0.7),
        min_px=max(_MIN_PX, said.get("MODEL.PROPOSAL_GENERATOR.MIN_SIZE", 0.0)),
    )


def read_pooling(said: Settings) -> tuple[RoiPooling, int]:
    """Return how regions are pooled, and the samples along each side of a bin.

    Raises:
        ConfigurationError: There is no such pooling here, or masks are pooled in another way.
    """
    name = said.get("MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlignV2")
    sampling = said.get("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", 0)
    if name not in _POOLING:
        raise ConfigurationError(f"regions are pooled by {name}", expected=", ".join(_POOLING))
    if said.get("MODEL.MASK_ON", False):
        said.require("MODEL.ROI_MASK_HEAD.POOLER_TYPE", name, "how masks are pooled")
        said.require("MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO", sampling, "how often masks are sampled")
    return _POOLING[name], sampling


def read_detections(said: Settings) -> Detections:
    """Return what is given out."""
    return Detections(
        min_score=said.get("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.05),
        nms_iou=said.get("MODEL.ROI_HEADS.NMS_THRESH_TEST", 0.5),
        most=said.get("TEST.DETECTIONS_PER_IMAGE", 100),
    )


def pixel_values(
    said: Settings, tensors: Mapping[str, Tensor]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of pixels from 0 to 255: those of an old file, or of the configuration."""
    values = []
    for name, usual in (("pixel_mean", _MEAN), ("pixel_std", _STD)):
        stored = tensors.get(name)
        # Stored in float32: 103.53 comes back as 103.52999877929688.
        of_file = None if stored is None else tuple(round(value, 4) for value in stored.flatten().tolist())
        values.append(of_file or said.get(f"MODEL.{name.upper()}", usual))
    return values[0], values[1]


def read_preprocess(said: Settings, tensors: Mapping[str, Tensor]) -> Preprocess:
    """Return how images are prepared: whole, shorter side 800, longest 1,333 px, BGR, by Pillow's filter."""
    mean, std = pixel_values(said, tensors)
    order = said.get("INPUT.FORMAT", "BGR")
    if order not in ("BGR", "RGB"):
        raise ConfigurationError(f"images are read as {order}", expected="BGR or RGB")
    shorter = said.get("INPUT.MIN_SIZE_TEST", 800)
    if shorter == 0:
        raise ConfigurationError(
            "images are not resized (INPUT.MIN_SIZE_TEST is 0)",
            expected="a side in pixels",
            remedy="set it in the configuration beside the weights",
        )
    return Preprocess(
        crop_px=max(shorter, said.get("INPUT.MAX_SIZE_TEST", 1333)),
        resize_px=shorter,
        mean=tuple(value / 255 for value in mean),
        std=tuple(value / 255 for value in std),
        channels="bgr" if order == "BGR" else "rgb",
        fit="whole",
    )
