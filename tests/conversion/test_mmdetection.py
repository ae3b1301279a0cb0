"""mmdetection's files: the same function, with everything that the configuration in them says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

import deepresidual as residual
from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.conversion.mmdetection import MMDetection
from deepresidual.conversion.readers.python_config import read_config
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.models import load_detector
from deepresidual.spec import Anchors
from tests.conversion.detections import converted, image_of, require_same
from tests.conversion.in_process import read_in_this_process
from tests.conversion.plain_rcnn import C4_SIZES, CLASSES, Plain, State, detectron2_state, mmdetection_state

FPN = mmdetection_state(detectron2_state("fpn", masks=False))
CONFIG_3 = """
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[103.53, 116.28, 123.675],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        pad_size_divisor=64),
    backbone=dict(type='ResNet', depth=50, style='caffe'),
    neck=dict(type='FPN', num_outs=5),
    rpn_head=dict(
        type='RPNHead',
        anchor_generator=dict(
            type='AnchorGenerator', scales=[4], ratios=[1.0, 2.0, 4.0], strides=[4, 8, 16, 32, 64]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=[1.0, 1.0, 1.0, 1.0]),
        loss_bbox=dict(type='SmoothL1Loss', beta=0.5)),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_roi_extractor=dict(roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2)),
        bbox_head=dict(bbox_coder=dict(target_stds=[0.05, 0.05, 0.1, 0.1]))),
    test_cfg=dict(
        rpn=dict(nms_pre=800, max_per_img=300, nms=dict(type='nms', iou_threshold=0.6), min_bbox_size=0),
        rcnn=dict(score_thr=0.1, nms=dict(type='nms', iou_threshold=0.4), max_per_img=50)))
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(1000, 600), keep_ratio=True),
]
work_dir = open('/etc/passwd').read()
"""
# Version 2 prepares images by a dictionary of their own.
CONFIG_2 = """
img_norm_cfg = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], to_rgb=False)
model = dict(type='FasterRCNN', backbone=dict(type='ResNet', style='caffe'))
data = dict(test=dict(pipeline=[dict(type='MultiScaleFlipAug', img_scale=(1000, 600), flip=False)]))
"""


def checkpoint_of(state: State, config: str = "", classes: tuple[str, ...] = ()) -> ForeignCheckpoint:
    meta = {**({"config": read_config(config)} if config else {}), "classes": list(classes)}
    return ForeignCheckpoint(Path("epoch_12.pth"), "torch", dict(state), "0" * 64, {"meta": meta})


@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
@pytest.mark.parametrize("neck", ["fpn", "c4"])
def test_a_converted_detector_finds_what_mmdetections_formulas_find(neck: str, masks: bool) -> None:
    """Without a configuration: PyTorch's stride on a pyramid, Caffe's on C4, whose images are padded, too."""
    state = detectron2_state(neck, masks=masks, seed=1)
    network, _ = converted(MMDetection(), checkpoint_of(mmdetection_state(state)))
    image = image_of(72, 88)
    plain = Plain(state, neck, stride_in_1x1=neck == "c4", sizes_first=False, padded_to=32)
    require_same(network, image, plain.find(image))


def test_the_configuration_in_the_file_is_read_and_not_run() -> None:
    _, recognized = converted(MMDetection(), checkpoint_of(FPN, CONFIG_3, ("car", "dog", "cat")))
    spec, record = recognized.spec, recognized.preprocess
    assert spec.backbone.stride_on == "1x1"
    sizes = tuple((4.0 * stride,) for stride in (4, 8, 16, 32, 64))
    assert spec.anchors == Anchors(sizes, (1.0, 2.0, 4.0), exact=True)
    assert (spec.proposals.before_nms, spec.proposals.after_nms, spec.proposals.nms_iou) == (800, 300, 0.6)
    assert (spec.proposals.smooth_l1_beta, spec.regions.smooth_l1_beta) == (0.5, 0.0)
    assert (spec.regions.pooling, spec.regions.sampling) == ("align-v2", 2)
    assert spec.regions.box_weights == (20.0, 20.0, 10.0, 10.0)
    assert dataclasses.astuple(spec.detections) == (0.1, 0.4, 50)
    assert spec.size_divisor == 64
    assert (record.channels, record.resize_px, record.crop_px) == ("bgr", 600, 1000)
    assert record.std == (1 / 255,) * 3
    assert recognized.label_names == ("car", "dog", "cat")
    assert recognized.assumed == ("images are resized with Pillow's filter, where mmdetection has OpenCV's",)


def test_a_configuration_of_version_2_is_read() -> None:
    _, recognized = converted(MMDetection(), checkpoint_of(FPN, CONFIG_2))
    assert recognized.spec.backbone.stride_on == "1x1"
    assert (recognized.preprocess.channels, recognized.preprocess.crop_px) == ("bgr", 1000)
    assert recognized.spec.size_divisor is None


def test_caffes_style_is_said_by_the_name_of_the_configuration() -> None:
    """The tensors have the same names: without it nothing tells."""
    _, usual = converted(MMDetection(), checkpoint_of(FPN))
    assert (usual.spec.backbone.stride_on, usual.preprocess.channels) == ("3x3", "rgb")
    assert usual.preprocess.std == pytest.approx((0.229, 0.224, 0.225), abs=1e-4)
    assert "--model mask-rcnn_r50-caffe_fpn_1x_coco" in usual.assumed[0]
    _, caffe = converted(MMDetection(), checkpoint_of(FPN), "mask-rcnn_r50-caffe_fpn_1x_coco")
    assert (caffe.spec.backbone.stride_on, caffe.preprocess.channels) == ("1x1", "bgr")
    with pytest.raises(
        ModelFileError, match="no configuration 'resnet50' of such a detector; expected a name"
    ):
        MMDetection().recognize(checkpoint_of(FPN), "resnet50")


def test_anchors_of_c4_are_scales_of_the_stride() -> None:
    state = mmdetection_state(detectron2_state("c4", masks=False))
    _, recognized = converted(MMDetection(), checkpoint_of(state))
    assert recognized.spec.anchors.sizes == (C4_SIZES,)


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("type='RPNHead'", "type='CascadeRPNHead'", "the head of the proposals .* is 'CascadeRPNHead'"),
        ("scales=[4]", "octave_base_scale=4", "anchors are given by octave_base_scale"),
        ("scales=[4]", "scales=[4, 8]", "there are 3 anchors at each place"),
        ("strides=[4, 8", "strides=[2, 8", "strides of the anchors are"),
        ("ratios=[1.0", "center_offset=0.5, ratios=[1.0", "the offset of the anchors"),
        ("type='RoIAlign'", "type='RoIPool'", "regions are pooled by RoIPool"),
        ("style='caffe'", "style='tf'", "the style of the backbone is 'tf'"),
        ("num_outs=5", "num_outs=6", "the pyramid has 6 levels"),
        ("nms=dict(type='nms', iou_threshold=0.4)", "nms=dict(type='soft_nms')", "how boxes are suppressed"),
        ("target_stds=[0.05, 0.05", "target_stds=[0.0, 0.05", r"target_stds is \[0.0"),
        ("score_thr=0.1", "score_thr='low'", "score_thr of the configuration is 'low'"),
    ],
)
def test_settings_that_residual_does_not_have_are_named(before: str, after: str, text: str) -> None:
    assert before in CONFIG_3
    with pytest.raises(ModelFileError, match=text):
        MMDetection().recognize(checkpoint_of(FPN, CONFIG_3.replace(before, after)))


def without(state: State, part: str) -> State:
    return {name: tensor for name, tensor in state.items() if part not in name}


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({**FPN, "roi_head.bbox_head.0.fc_cls.weight": torch.ones(1)}, "with several heads of boxes"),
        ({**FPN, "backbone.stem.0.weight": torch.ones(1)}, "with a deep stem"),
        ({**FPN, "neck.lateral_convs.0.gn.weight": torch.ones(1)}, "with group normalization"),
        (without(FPN, "bbox_head"), "tells no classes .roi_head.bbox_head.fc_cls.weight is missing"),
        (without(FPN, "backbone.layer1.0.conv1"), "another backbone"),
        ({**FPN, "rpn_head.rpn_cls.weight": torch.ones(6, 16, 1, 1)}, "there are 6 anchors at each place"),
    ],
)
def test_networks_that_residual_does_not_have_are_named(state: State, text: str) -> None:
    with pytest.raises(ModelFileError, match=text):
        MMDetection().recognize(checkpoint_of(state))


def test_a_checkpoint_of_a_training_becomes_a_model_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_in_this_process(monkeypatch)
    state = mmdetection_state(detectron2_state("fpn", masks=True))
    meta = {"cfg": CONFIG_3, "dataset_meta": {"classes": ("car", "dog", "cat")}, "epoch": 12}
    torch.save({"meta": meta, "state_dict": state, "optimizer": {"state": {}}}, tmp_path / "epoch_12.pth")
    done = residual.convert(tmp_path / "epoch_12.pth", tmp_path / "model")
    assert (done.from_ecosystem, done.num_classes) == ("mmdetection", CLASSES)
    model = load_detector(tmp_path / "model")
    assert model.label_names == ("car", "dog", "cat")
    assert model.preprocess.crop_px == 1000
    with pytest.raises(ConfigurationError, match="unknown ecosystem .mmdetection."):
        residual.convert(tmp_path / "model", tmp_path / "back.pth", to="mmdetection")
