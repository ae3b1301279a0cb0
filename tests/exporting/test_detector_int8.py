"""An int8 detector has kept its AP in the engines of this machine, or there is none."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

import deepresidual
from deepresidual.backends import detector_self_test
from deepresidual.backends.detector import TorchDetector
from deepresidual.backends.exported_detector import ExportedDetector
from deepresidual.cli import main
from deepresidual.errors import ModelFileError
from deepresidual.exporting import Export, detector_int8, export, int8_search
from deepresidual.exporting.detector_file import write_detector_onnx
from deepresidual.exporting.detector_quantize import QuantizableDetector
from deepresidual.exporting.detector_views import whole_view
from deepresidual.exporting.int8_options import Int8Options
from deepresidual.exporting.layer_errors import correct_biases
from deepresidual.exporting.quantize import prepared
from deepresidual.exporting.views import bundled_parts
from deepresidual.models import save
from tests.detectors import SHAPES, write_masks
from tests.exporting.detectors import LABELS, lively_detector

# Each network is exported, calibrated and judged in two engines.
pytestmark = pytest.mark.test_all


def whatever_is_lost(data: Path) -> Int8Options:
    """Return options that accept any loss."""
    return Int8Options(data, max_loss=100.0, min_agreement=0.0)


@pytest.fixture(autouse=True, scope="module")
def _short_passes() -> Iterator[None]:
    """Measure how fast a file is in a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8_search, "_PASS_S", 0.005)
        yield


def write_found(model: TorchDetector, root: Path) -> Path:
    """Write photos in the layout of COCO whose objects are those that a detector finds: its AP is 1."""
    (root / "images").mkdir(parents=True)
    parts = [part for _, part in bundled_parts()]
    for split, photos in (("train", parts[::2][:8]), ("test", parts[1::2][:8])):
        images: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        for number, photo in enumerate(photos):
            name = f"{split}-{number}.png"
            Image.fromarray(photo).save(root / "images" / name)
            height, width = photo.shape[:2]
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            (found,) = model.predict(photo, 0.0)
            for box, label in zip(found.objects.boxes.tolist(), found.objects.labels.tolist(), strict=True):
                left, top, right, bottom = box
                sides = [left, top, right - left, bottom - top]
                row = {"id": len(rows) + 1, "image_id": number, "category_id": label, "bbox": sides}
                rows.append({**row, "area": sides[2] * sides[3], "iscrowd": 0})
        categories = [{"id": place, "name": label} for place, label in enumerate(LABELS)]
        document = {"images": images, "annotations": rows, "categories": categories}
        (root / f"instances_{split}.json").write_text(json.dumps(document))
    return root


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a detector, ``model``, and photos of what it finds, ``data``."""
    folder = tmp_path_factory.mktemp("found")
    model = lively_detector("c4")
    save(model, folder / "model")
    write_found(model, folder / "data")
    return folder


@pytest.fixture(scope="module")
def int8_export(found: Path) -> Export:
    """Return it as int8, whatever is lost."""
    options = whatever_is_lost(found / "data")
    return export(found / "model", found / "int8", int8=options)


# -- the gate ------------------------------------------------------------------------------------------------


def test_the_gate_measures_ap_in_every_engine(int8_export: Export) -> None:
    document = json.loads((int8_export.path / "signature.json").read_text())
    gate, quantization = document["certificate"]["gate"], document["quantization"]
    assert document["precision"] == "int8"
    assert quantization["in_float"] == [
        "rpn.head.cls_logits",
        "rpn.head.bbox_pred",
        "roi_heads.box_predictor",
    ]
    assert quantization["calibration"]["count"] == 8
    assert (gate["split"], gate["most_loss"]) == ("test", 1)
    assert [engine["engine"].split()[0] for engine in gate["engines"]] == ["onnxruntime", "openvino"]
    for engine in gate["engines"]:
        assert (engine["figure"], engine["count"]) == ("ap", 8)
        assert engine["reference"] == pytest.approx(1, abs=0.01)
        assert engine["interval"][0] <= engine["loss"] <= engine["interval"][1]
        assert engine["speed"] > 0
    card = (int8_export.path / "README.md").read_text()
    assert "| engine | ap, float | int8 |" in card
    assert "objects are found with half an overlap or more" in card


def test_evaluate_measures_what_the_gate_did(
    found: Path, int8_export: Export, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(int8_export.path), str(found / "data"), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["ap"]
    gate = int8_export.signature.certificate["gate"]
    assert measured == pytest.approx(gate["engines"][0]["measured"], abs=1e-6)
    assert measured < gate["engines"][0]["reference"]
    words = ["compare", str(found / "model"), str(int8_export.path), str(found / "data"), "--json"]
    assert main(words) == 0
    difference = json.loads(capsys.readouterr().out)["ap_difference"]["difference"]
    assert -difference == pytest.approx(gate["engines"][0]["loss"], abs=1e-6)


def test_a_detector_that_loses_ap_is_not_written(
    found: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_search, "_MOST_WORST", 0)
    with pytest.raises(
        ModelFileError, match=r"int8 does not pass on .* \(test\), even with .*: AP .* a loss of"
    ):
        export(found / "model", tmp_path / "out", int8=Int8Options(found / "data", max_loss=0.0))
    assert list(tmp_path.iterdir()) == []


def test_layers_with_huge_channels_stay_in_float(found: Path, tmp_path: Path) -> None:
    model = lively_detector("c4")
    with torch.no_grad():
        # The same function: ReLU lets a factor through, and the convolution behind it takes it back.
        unit: Any = model.network.backbone.body.get_submodule("layer1")[0]  # type: ignore[index]
        unit.bn1.weight[0] *= 2000
        unit.bn1.bias[0] *= 2000
        unit.conv2.weight[:, 0] /= 2000
    done = export(model, tmp_path / "out", int8=whatever_is_lost(found / "data"))
    assert done.int8 is not None
    assert {"backbone.body.conv1", "backbone.body.layer1.0.conv1"} <= set(done.int8.in_float)
    attempts = done.signature.certificate["gate"]["attempts"]
    assert "of the sure objects of the self-test" in attempts[0]["engines"][0]["failure"]


# -- the file ------------------------------------------------------------------------------------------------


def quantizable(model: TorchDetector, folder: Path) -> QuantizableDetector:
    """Return a detector with ranges of photos."""
    write_detector_onnx(model, folder / "fp32.onnx")
    views = (whole_view(part, model.preprocess) for _, part in bundled_parts())
    network = QuantizableDetector(prepared(folder / "fp32.onnx"), views, 1)
    assert 0 < len(network.examples) <= 16
    return network


def test_layers_are_int8_and_predictors_and_boxes_are_not(tmp_path: Path) -> None:
    network = quantizable(lively_detector("fpn", masks=True), tmp_path)
    small = network.quantized()
    onnx.checker.check_model(small, full_check=True)
    assert [version.domain for version in small.opset_import] == [""]
    graph = small.graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    nodes = {node.name: node.op_type for node in network.fp32.graph.node}
    int8 = {each for layer in network.layers for each in layer.nodes if nodes[each] in ("Conv", "Gemm")}
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "ConvTranspose"):
            continue
        weight = made_by.get(node.input[1])
        assert (weight is not None) == (node.name in int8)
        if weight is not None:
            assert values[weight.input[0]].dtype == np.int8
            assert np.abs(values[weight.input[0]].astype(int)).max() in (63, 64)
    names = [layer.name for layer in network.layers]
    assert len(set(names)) == len(names)
    assert {"rpn.head.conv.0.0", "roi_heads.box_head.fc6", "roi_heads.mask_head.0.0"} <= set(names)
    errors = network.errors(small, 1)
    correct_biases(small, errors)
    assert set(errors) == int8
    assert max(error.share for error in errors.values()) < 0.1


def test_a_layer_of_the_region_head_can_stay_in_float(tmp_path: Path) -> None:
    network = quantizable(lively_detector("fpn"), tmp_path)
    layer = next(layer for layer in network.layers if layer.name == "roi_heads.box_head.fc6")
    graph = network.quantized([layer]).graph
    constants = {tensor.name for tensor in graph.initializer}
    kinds = {node.name: node.input[1] in constants for node in graph.node if node.op_type == "Gemm"}
    assert kinds[layer.node]
    assert sorted(kinds.values()) == [False, True, True, True]


def test_weights_of_all_levels_stay_in_float_together(tmp_path: Path) -> None:
    network = quantizable(lively_detector("fpn"), tmp_path)
    (layer,) = [layer for layer in network.layers if layer.name == "rpn.head.conv.0.0"]
    first = network.quantized()
    errors = network.errors(first, 1)
    small = network.quantized([layer])
    correct_biases(small, errors)
    constants = {tensor.name for tensor in small.graph.initializer}
    heads = [node for node in small.graph.node if node.op_type == "Conv" and node.name in layer.nodes]
    assert len(heads) == 4
    assert all(node.input[1] in constants for node in heads)


def test_a_session_that_computes_wrongly_is_refused(int8_export: Export, found: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(int8_export.path, tmp_path / "export"))
    arrays = dict(np.load(folder / "self-test.npz"))
    np.savez(folder / "self-test.npz", **{**arrays, "scores": arrays["scores"] - np.float32(0.21)})
    model = deepresidual.load_detector(folder)
    assert isinstance(model, ExportedDetector)
    with pytest.raises(ModelFileError, match="computes wrongly here"):
        model.session()


def test_masks_are_judged_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In pictures of squares random weights find objects that are hardly any, which rounding changes.
    for module in (detector_int8, detector_self_test):
        monkeypatch.setattr(module, "LEAST_SAME_HERE", 0.0)
    data = write_masks(tmp_path / "data", 4, 4)
    model = dataclasses.replace(lively_detector("fpn", masks=True), label_names=(*SHAPES, "hen"))
    done = export(model, tmp_path / "out", int8=whatever_is_lost(data))
    assert done.int8 is not None
    assert "roi_heads.mask_predictor" in done.int8.in_float
    engines = done.signature.certificate["gate"]["engines"]
    assert {engine["masks"]["figure"] for engine in engines} == {"mask_ap"}
    assert ", masks |" in (tmp_path / "out" / "README.md").read_text()
