"""detectron2's files: the same function, with everything that they and the configuration beside them say."""

from __future__ import annotations

import dataclasses
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import deepresidual as residual
from deepresidual.conversion.detectron2 import Detectron2
from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.errors import ModelFileError
from deepresidual.models import load_detector
from deepresidual.spec import Anchors
from tests.conversion.detections import converted, image_of, require_same
from tests.conversion.in_process import read_in_this_process
from tests.conversion.plain_rcnn import C4_SIZES, CLASSES, Plain, State, detectron2_state

FPN = detectron2_state("fpn", masks=False)


def checkpoint_of(state: State, path: Path = Path("model_final.pth")) -> ForeignCheckpoint:
    return ForeignCheckpoint(path, "torch", dict(state), "0" * 64)


def with_config(folder: Path, **settings: Any) -> Path:
    """Write a configuration as detectron2's trainer does, and return the path of weights beside it."""
    model = {"META_ARCHITECTURE": "GeneralizedRCNN", **settings.pop("MODEL", {})}
    (folder / "config.yaml").write_text(yaml.safe_dump({"VERSION": 2, "MODEL": model, **settings}))
    return folder / "model_final.pth"


@pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])
@pytest.mark.parametrize("neck", ["fpn", "c4"])
def test_a_converted_detector_finds_what_detectron2s_formulas_find(neck: str, masks: bool) -> None:
    """Of an image that is no multiple of the strides, of anchors of one and of five sizes at a place."""
    state = detectron2_state(neck, masks=masks)
    network, recognized = converted(Detectron2(), checkpoint_of(state))
    assert recognized.spec.neck == neck
    image = image_of(72, 88)
    plain = Plain(state, neck, stride_in_1x1=True, sizes_first=True, padded_to=32 if neck == "fpn" else 1)
    require_same(network, image, plain.find(image))


def test_boxes_and_masks_of_no_class_are_every_classs() -> None:
    state = detectron2_state("fpn", masks=True, agnostic=True)
    network, _ = converted(Detectron2(), checkpoint_of(state))
    image = image_of(64, 96)
    require_same(network, image, Plain(state, "fpn", True, True, 32).find(image))


def test_the_configuration_beside_the_weights_is_read(tmp_path: Path) -> None:
    path = with_config(
        tmp_path,
        MODEL={
            "RESNETS": {"STRIDE_IN_1X1": False},
            "PIXEL_MEAN": [123.675, 116.28, 103.53],
            "PIXEL_STD": [58.395, 57.12, 57.375],
            "ANCHOR_GENERATOR": {
                "SIZES": [[24], [48], [96], [192], [384]],
                "ASPECT_RATIOS": [[1.0, 2.0, 4.0]],
            },
            "RPN": {"POST_NMS_TOPK_TEST": 500, "NMS_THRESH": 0.6, "IOU_THRESHOLDS": [0.2, 0.6]},
            "ROI_HEADS": {"SCORE_THRESH_TEST": 0.3, "NMS_THRESH_TEST": 0.4},
            "ROI_BOX_HEAD": {"POOLER_TYPE": "ROIAlign", "POOLER_SAMPLING_RATIO": 2},
        },
        INPUT={"FORMAT": "RGB", "MIN_SIZE_TEST": 600, "MAX_SIZE_TEST": 1000},
        TEST={"DETECTIONS_PER_IMAGE": 50},
    )
    _, recognized = converted(Detectron2(), checkpoint_of(FPN, path))
    spec, record = recognized.spec, recognized.preprocess
    assert spec.backbone.stride_on == "3x3"
    assert spec.anchors == Anchors(((24,), (48,), (96,), (192,), (384,)), (1.0, 2.0, 4.0), exact=True)
    assert (spec.proposals.after_nms, spec.proposals.nms_iou) == (500, 0.6)
    assert (spec.proposals.negative_iou, spec.proposals.positive_iou) == (0.2, 0.6)
    assert (spec.regions.pooling, spec.regions.sampling) == ("align", 2)
    assert dataclasses.astuple(spec.detections) == (0.3, 0.4, 50)
    assert (record.channels, record.resize_px, record.crop_px, record.fit) == ("rgb", 600, 1000, "whole")
    assert record.mean == pytest.approx((0.485, 0.456, 0.4060), abs=1e-4)
    assert recognized.evidence.endswith("which are detectron2's; config.yaml beside it")
    assert recognized.assumed == ()


def test_the_other_stride_and_pooling_are_the_same_function_too(tmp_path: Path) -> None:
    path = with_config(
        tmp_path,
        MODEL={"RESNETS": {"STRIDE_IN_1X1": False}, "ROI_BOX_HEAD": {"POOLER_TYPE": "ROIAlign"}},
    )
    network, _ = converted(Detectron2(), checkpoint_of(FPN, path))
    image = image_of(64, 96)
    plain = Plain(FPN, "fpn", stride_in_1x1=False, sizes_first=True, padded_to=32, aligned=False)
    require_same(network, image, plain.find(image))


def cells(sizes: tuple[float, ...], ratios: tuple[float, ...]) -> Tensor:
    rows = []
    for size in sizes:
        for ratio in ratios:
            width = math.sqrt(size * size / ratio)
            rows.append([-width / 2, -ratio * width / 2, width / 2, ratio * width / 2])
    return torch.tensor(rows)


def test_what_old_files_store_beside_the_weights_is_read() -> None:
    """They had the anchors around a place and the values of pixels as buffers."""
    state = detectron2_state("c4", masks=False)
    state["proposal_generator.anchor_generator.cell_anchors.0"] = cells(C4_SIZES, (0.33, 1.0, 3.0))
    state["pixel_mean"] = torch.tensor([103.53, 116.28, 123.675])[:, None, None]
    state["pixel_std"] = torch.tensor([57.375, 57.12, 58.395])[:, None, None]
    _, recognized = converted(Detectron2(), checkpoint_of(state))
    assert recognized.spec.anchors == Anchors((C4_SIZES,), (0.33, 1.0, 3.0), exact=True)
    assert recognized.spec.backbone.stride_on == "3x3"  # weights for pixels with a deviation
    assert recognized.preprocess.std == (57.375 / 255, 57.12 / 255, 58.395 / 255)
    assert recognized.preprocess.channels == "bgr"
    dropped = Detectron2().translation(recognized.spec, checkpoint_of(state)).dropped
    assert set(dropped) == {name for name in state if "anchors" in name or name.startswith("pixel")}


def test_what_nothing_says_is_said_to_be_assumed() -> None:
    _, recognized = converted(Detectron2(), checkpoint_of(FPN))
    assert "the stride is on the 1×1" in recognized.assumed[0]
    assert "anchors of 32, 64, 128, 256, 512 px" in recognized.assumed[1]
    assert recognized.label_names is None
    assert recognized.preprocess.channels == "bgr"
    assert recognized.preprocess.std == (1 / 255,) * 3


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"META_ARCHITECTURE": "PanopticFPN"}, "the architecture .* is 'PanopticFPN'"),
        ({"ANCHOR_GENERATOR": {"OFFSET": 0.5}}, "the offset of the anchors .* is 0.5; expected 0.0"),
        ({"ANCHOR_GENERATOR": {"SIZES": [[32, 64]] * 5}}, "there are 3 anchors at each place"),
        ({"ANCHOR_GENERATOR": {"SIZES": "large"}}, "SIZES of the configuration is 'large'"),
        ({"FPN": {"FUSE_TYPE": "avg"}}, "how the pyramid adds"),
        ({"ROI_BOX_HEAD": {"POOLER_TYPE": "ROIAlignRotated"}}, "regions are pooled by ROIAlignRotated"),
        ({"RPN": {"BBOX_REG_WEIGHTS": [2.0, 2.0, 1.0, 1.0]}}, "the weights of the proposals' boxes"),
        ({"PIXEL_MEAN": [1.0, 2.0]}, "3 finite numbers"),
    ],
)
def test_settings_that_residual_does_not_have_are_named(
    tmp_path: Path, settings: dict[str, Any], text: str
) -> None:
    path = with_config(tmp_path, MODEL=settings)
    with pytest.raises(ModelFileError, match=text):
        Detectron2().recognize(checkpoint_of(FPN, path))


def test_another_programs_configuration_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model: resnet\n")
    recognized = Detectron2().recognize(checkpoint_of(FPN, tmp_path / "x.pth"))
    assert recognized is not None
    assert "config.yaml beside it" not in recognized.evidence
    (tmp_path / "config.yaml").write_text("a: [\n")
    with pytest.raises(ModelFileError, match="beside the weights is not YAML"):
        Detectron2().recognize(checkpoint_of(FPN, tmp_path / "x.pth"))


def without(state: State, part: str) -> State:
    return {name: tensor for name, tensor in state.items() if part not in name}


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({**FPN, "roi_heads.box_predictor.0.cls_score.weight": torch.ones(4, 24)}, "a Cascade R-CNN"),
        ({**FPN, "roi_heads.keypoint_head.conv1.weight": torch.ones(1)}, "a Keypoint R-CNN"),
        ({**FPN, "sem_seg_head.predictor.weight": torch.ones(1)}, "a Panoptic FPN"),
        ({**FPN, "backbone.bottom_up.res3.0.conv2_offset.weight": torch.ones(1)}, "deformable"),
        (without(FPN, "running_"), "group normalization, or with BN without statistics"),
        (without(FPN, "roi_heads"), "that tells no classes"),
        (without(FPN, "fpn_"), "it has no pyramid"),
        (without(FPN, "bottom_up.stem"), "another backbone"),
        (
            {**FPN, "proposal_generator.rpn_head.objectness_logits.weight": torch.ones(9, 16, 1, 1)},
            "there are 9 anchors at each place",
        ),
    ],
)
def test_networks_that_residual_does_not_have_are_named(state: State, text: str) -> None:
    with pytest.raises(ModelFileError, match=text):
        Detectron2().recognize(checkpoint_of(state))


def test_a_tensor_too_many_or_too_few_is_named() -> None:
    with pytest.raises(ModelFileError, match=r"\+ roi_heads.box_head.fc3.weight"):
        converted(Detectron2(), checkpoint_of({**FPN, "roi_heads.box_head.fc3.weight": torch.ones(1)}))
    with pytest.raises(ModelFileError, match="± roi_heads.box_predictor.bbox_pred.bias"):
        converted(
            Detectron2(), checkpoint_of({**FPN, "roi_heads.box_predictor.bbox_pred.bias": torch.ones(9)})
        )


def test_a_pickle_of_the_model_zoo_becomes_a_model_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_in_this_process(monkeypatch)
    arrays = {name: tensor.numpy() for name, tensor in detectron2_state("fpn", masks=True).items()}
    file = tmp_path / "model_final_a54504.pkl"
    file.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}, 3))
    done = residual.convert(file, tmp_path / "model")
    assert (done.from_ecosystem, done.num_classes, done.state_dict) == ("detectron2", CLASSES, "model.")
    assert done.certificate.largest_difference is None
    model = load_detector(tmp_path / "model")
    assert model.spec.masks is not None
    assert model.provenance["converted from"] == "detectron2 (pickle)"
