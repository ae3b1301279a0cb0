"""What is no detector to export is refused before anything is exported, and differences are counted."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepresidual
from deepresidual.backends.detection_difference import DetectionDifference, sure_agreement
from deepresidual.backends.detector_self_test import DetectorSelfTest
from deepresidual.backends.object_detector import FoundInView
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.exporting import export
from tests.exporting.detectors import lively_detector


def test_what_differs_is_counted() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    reference = FoundInView(boxes, np.array([0, 1]), np.array([0.9, 0.8], np.float32))
    shifted = dataclasses.replace(reference, boxes=boxes + np.float32(0.25))
    found = DetectionDifference.between([shifted], [reference])
    assert (found.matched, found.same, found.others, found.equal_images) == (2, 0, 0, 0)
    assert found.box_px == 0.25
    relabelled = dataclasses.replace(reference, labels=np.array([0, 2]))
    found = DetectionDifference.between([relabelled, reference], [reference, reference])
    assert (found.objects, found.matched, found.same, found.others) == (4, 3, 3, 1)
    assert (found.equal_images, found.share) == (0.5, 0.6)
    nan = dataclasses.replace(reference, scores=np.array([np.nan, 0.8], np.float32))
    assert not DetectionDifference.between([nan], [reference]).is_within()


def test_sure_objects_are_found_whatever_their_score() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [40, 0, 50, 10]], np.float32)
    reference = FoundInView(boxes, np.array([0, 1, 1]), np.array([0.9, 0.6, 0.2], np.float32))
    weaker = dataclasses.replace(reference, scores=np.array([0.85, 0.45, 0.1], np.float32))
    assert sure_agreement([weaker], [reference], 0.5) == 1
    assert sure_agreement([weaker], [reference], 0.5, max_gap=0.1) == 2 / 3
    relabelled = dataclasses.replace(reference, labels=np.array([0, 2, 1]))
    assert sure_agreement([relabelled], [reference], 0.5) == 0.5
    moved = dataclasses.replace(reference, boxes=boxes + np.array([4, 0, 4, 0], np.float32))
    assert sure_agreement([moved], [reference], 0.5) == 0
    nothing = FoundInView(boxes[:0], np.zeros(0, np.int64), np.zeros(0, np.float32))
    assert sure_agreement([nothing], [nothing], 0.5) == 1
    assert sure_agreement([nothing], [reference], 0.5) == 0


def test_the_self_test_of_int8_counts_what_is_sure() -> None:
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    test = DetectorSelfTest(
        np.zeros((32, 32, 3), np.uint8),
        FoundInView(boxes, np.array([0, 1]), np.array([0.9, 0.3], np.float32)),
    )
    rounded = FoundInView(boxes[:1] + 1, np.array([0]), np.array([0.8], np.float32))
    test.require_passed(lambda _: rounded, "int8", "an engine")
    with pytest.raises(ModelFileError, match="an engine computes wrongly here"):
        test.require_passed(lambda _: rounded, "fp32", "an engine")
    lower = dataclasses.replace(rounded, scores=np.array([0.65], np.float32))
    with pytest.raises(ModelFileError, match="an engine computes wrongly here"):
        test.require_passed(lambda _: lower, "int8", "an engine")


def test_a_detector_that_finds_nothing_cannot_be_certified(tmp_path: Path) -> None:
    model = lively_detector("c4")
    spec = dataclasses.replace(
        model.spec, detections=dataclasses.replace(model.spec.detections, min_score=1.0)
    )
    blind = dataclasses.replace(model, network=deepresidual.create(spec, seed=0))
    with pytest.raises(ModelFileError, match="finds no object in 32 photos .*; name data in whose photos"):
        export(blind, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"to": "pt2"}, "a detector is to be exported to pt2; expected onnx, openvino, triton or ovms"),
        ({"resize": "fast"}, "whose file takes images of any size"),
    ],
)
def test_what_has_no_meaning_for_a_detector_is_refused(
    keywords: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        export(lively_detector("c4"), tmp_path / "out", **keywords)
    assert list(tmp_path.iterdir()) == []


def test_a_detector_whose_maps_are_cut_is_refused(tmp_path: Path) -> None:
    model = lively_detector("fpn")
    spec = dataclasses.replace(model.spec, size_divisor=1)
    cut = dataclasses.replace(model, network=deepresidual.create(spec, seed=0))
    with pytest.raises(ModelFileError, match="pads images to multiples of 1 px, and its largest stride is"):
        export(cut, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
