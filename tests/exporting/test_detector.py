"""An exported detector finds what the detector finds that it was made from, or it is not there."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import deepresidual
from deepresidual.backends import detector_session
from deepresidual.backends.detection_difference import DetectionDifference, sure_agreement
from deepresidual.backends.detector import TorchDetector
from deepresidual.backends.detector_engine import open_detector_engine
from deepresidual.backends.exported_detector import ExportedDetector
from deepresidual.backends.object_detector import FoundInView
from deepresidual.cli import main
from deepresidual.errors import ConfigurationError, MachineError, ModelFileError
from deepresidual.exporting import Export, export
from deepresidual.exporting.detector import found_by_torch
from deepresidual.exporting.detector_file import detector_onnx
from deepresidual.exporting.detector_views import whole_view
from deepresidual.exporting.views import bundled_parts
from deepresidual.models import save
from deepresidual.models.exported import load_exported, open_exported
from tests.detectors import write_shapes
from tests.exporting.detectors import LABELS, lively_detector

# Exporting two detectors takes as long as a quarter of all other tests of this folder.
pytestmark = pytest.mark.test_all

PARTS = [part for _, part in list(bundled_parts())[::3]]
SIZES = ((64, 64), (40, 64), (33, 57), (64, 20), (7, 50))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Return a pyramid with masks, exported to ONNX; not to be changed."""
    folder = tmp_path_factory.mktemp("detector")
    save(lively_detector("fpn", masks=True), folder / "model")
    return export(folder / "model", folder / "exported")


@pytest.fixture
def own_export(exported: Export, tmp_path: Path) -> Path:
    """Return a copy of it that a test may change."""
    return Path(shutil.copytree(exported.path, tmp_path / "export"))


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the photo in which the detector finds most."""
    model, parts = lively_detector("fpn", masks=True), [part for _, part in bundled_parts()]
    most = max(parts, key=lambda part: len(found_by_torch(model, whole_view(part, model.preprocess))))
    path = tmp_path_factory.mktemp("photo") / "china.png"
    Image.fromarray(most).save(path)
    return path


# -- the graph -----------------------------------------------------------------------------------------------


def test_the_graph_is_clean(exported: Export) -> None:
    graph = onnx.load(exported.path / "model.onnx", load_external_data=False)
    onnx.checker.check_model(graph, full_check=True)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 18)]
    kinds = [node.op_type for node in graph.graph.node]
    assert not {"Loop", "If", "Scan", "BatchNormalization", "Identity"} & set(kinds)
    # Of four levels, and once for the classes.
    assert kinds.count("NonMaxSuppression") == 5
    assert kinds.count("RoiAlign") == 2 * 3
    shapes = {
        tensor.name: [axis.dim_param or axis.dim_value for axis in tensor.type.tensor_type.shape.dim]
        for tensor in (*graph.graph.input, *graph.graph.output)
    }
    assert shapes == {
        "pixels": ["height", "width", 3],
        "boxes": ["objects", 4],
        "labels": ["objects"],
        "scores": ["objects"],
        "masks": ["objects", 8, 8],
    }
    names = [tensor.name for tensor in graph.graph.initializer]
    assert len(names) == len(set(names))


def same_in_every_size(model: TorchDetector, graph: onnx.ModelProto) -> list[FoundInView]:
    """Hold a file's objects against the detector's in photos of several sizes, and return these."""
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    views = [
        np.ascontiguousarray(part[: 3 * height : 3, : 3 * width : 3])
        for part in PARTS
        for height, width in SIZES
    ]
    found = [FoundInView(*session.run(None, {"pixels": view})) for view in views]
    reference = [found_by_torch(model, view) for view in views]
    difference = DetectionDifference.between(found, reference)
    assert (difference.others, difference.equal_images) == (0, 1), difference
    # In the order of the detector, too, and of its types.
    for own, other in zip(found, reference, strict=True):
        assert own.labels.tolist() == other.labels.tolist()
        assert own.scores == pytest.approx(other.scores, abs=1e-4)
        assert own.boxes.dtype == np.float32
        assert own.labels.dtype == np.int64
    return reference


def test_a_pyramid_finds_the_same_objects_in_images_of_every_size(exported: Export) -> None:
    model = lively_detector("fpn", masks=True)
    found = same_in_every_size(model, onnx.load(exported.path / "model.onnx"))
    assert sum(map(len, found)) > 50
    assert not all(map(len, found))  # nothing is found in some


def test_c4_with_max_pooling_and_masks_finds_the_same_objects() -> None:
    model = lively_detector("c4", masks=True)
    assert sum(map(len, same_in_every_size(model, detector_onnx(model)))) > 50


def test_c4_that_pads_nothing_finds_the_same_objects() -> None:
    """As detectron2's C4: maps end within a pixel, and anchors lie a stride apart."""
    model = lively_detector("c4", masks=True)
    spec = dataclasses.replace(
        model.spec,
        size_divisor=1,
        anchors=dataclasses.replace(model.spec.anchors, exact=True),
        regions=dataclasses.replace(model.spec.regions, pooling="align-v2"),
    )
    network = deepresidual.create(spec, seed=1)
    network.load_state_dict(model.network.state_dict())
    unpadded = dataclasses.replace(model, network=network.eval())
    assert sum(map(len, same_in_every_size(unpadded, detector_onnx(unpadded)))) > 50


def test_equal_scores_are_in_the_order_of_their_places(exported: Export) -> None:
    model, graph = lively_detector("fpn", masks=True), onnx.load(exported.path / "model.onnx")
    for name in ("head.cls_logits.weight", "box_predictor.cls_score.weight"):
        change(graph, name, 0.0)
        module = model.network.rpn if name.startswith("head") else model.network.roi_heads
        with torch.no_grad():
            module.get_parameter(name).zero_()
    found = same_in_every_size(model, graph)
    assert len({score for each in found for score in each.scores.tolist()}) <= len(LABELS)
    assert sum(map(len, found)) > 50


def change(graph: onnx.ModelProto, name: str, factor: float, shift: float = 0.0) -> None:
    """Change a weight of a graph."""
    (tensor,) = [each for each in graph.graph.initializer if each.name == name]
    values = onnx.numpy_helper.to_array(tensor) * np.float32(factor) + np.float32(shift)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, name))


# -- the certificate -----------------------------------------------------------------------------------------


def test_the_certificate_says_what_was_compared(exported: Export) -> None:
    document = json.loads((exported.path / "signature.json").read_text())
    difference = document["certificate"]["difference"]
    assert (difference["images"], difference["equal_images"]) == (32, 1)
    assert difference["same"] == difference["matched"] == difference["objects"] > 5
    assert 0 < difference["box_px"] < 0.01
    assert document["certificate"]["engine"].startswith("onnxruntime ")
    assert [tensor["name"] for tensor in document["outputs"]] == ["boxes", "labels", "scores", "masks"]
    card = (exported.path / "README.md").read_text()
    assert f"{difference['same']} of {difference['objects']} objects are the same" in card
    assert "\n\n\n\n" not in card
    metadata = {entry.key: entry.value for entry in onnx.load(exported.path / "model.onnx").metadata_props}
    assert json.loads(metadata["residual"])["label_names"] == list(LABELS)


def test_another_detector_is_not_written(
    exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = onnx.load(exported.path / "model.onnx")
    change(graph, "box_predictor.bbox_pred.bias", 1.0, shift=0.5)
    monkeypatch.setattr("deepresidual.exporting.detector_file.detector_onnx", lambda _: graph)
    with pytest.raises(
        ModelFileError, match="not the same detector: computed by onnxruntime .* of .* objects"
    ):
        export(lively_detector("fpn", masks=True), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# -- without torch -------------------------------------------------------------------------------------------


def test_it_predicts_as_the_detector_it_was_made_from(exported: Export, photo: Path) -> None:
    model = deepresidual.load_detector(exported.path)
    assert isinstance(model, ExportedDetector)
    (found,) = model.predict(photo, 0.0)
    (expected,) = lively_detector("fpn", masks=True).predict(photo, 0.0)
    assert len(found) == len(expected) > 0
    assert (found.height, found.width) == (expected.height, expected.width)
    assert found.objects.boxes == pytest.approx(expected.objects.boxes, abs=1e-2)
    assert found.objects.scores == pytest.approx(expected.objects.scores, abs=1e-4)
    assert found.objects.masks is not None and expected.objects.masks is not None  # noqa: PT018
    assert found.objects.masks.areas() == pytest.approx(expected.objects.masks.areas(), rel=0.01)


def test_one_image_has_all_cores_and_several_share_them(exported: Export, photo: Path) -> None:
    model = open_exported(exported.path)
    assert isinstance(model, ExportedDetector)
    alone = [box.objects.boxes for box in model.predict(photo, 0.0)]
    assert model.settings.streams == 1
    together = [box.objects.boxes for box in model.predict([photo, PARTS[0], photo], 0.0)]
    assert model.settings.threads == 1
    assert together[0] == pytest.approx(alone[0], abs=1e-3)
    assert together[2].tolist() == together[0].tolist()


def test_openvino_finds_the_same_by_the_same_file(exported: Export, photo: Path) -> None:
    model = deepresidual.load_detector(exported.path, backend="openvino")
    (found,) = model.predict(photo, 0.0)
    (expected,) = deepresidual.load_detector(exported.path, backend="onnxruntime").predict(photo, 0.0)
    assert found.objects.labels.tolist() == expected.objects.labels.tolist()
    assert found.objects.boxes == pytest.approx(expected.objects.boxes, abs=1e-2)


def test_from_64_images_on_the_faster_engine_is_found_and_remembered(
    exported: Export, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path))
    monkeypatch.setattr("deepresidual.backends.engine_trial.Rounds.verdict", lambda *_: "faster")
    model = open_exported(exported.path)
    assert isinstance(model, ExportedDetector)
    assert len(model.predict([photo] * 64)) == 64
    (kept,) = json.loads((tmp_path / "engines.json").read_text()).values()
    assert (kept["engine"], kept["batch"]) == (model.backend, 1)


def test_bf16_is_computed_where_the_processor_has_it(exported: Export, photo: Path) -> None:
    model = deepresidual.load_detector(exported.path).in_precision("bf16")
    assert model.backend == "openvino"
    if not has_bf16():
        with pytest.raises(MachineError, match="precision is 'bf16' and OpenVINO has no such operations"):
            model.predict(photo)
        return
    (found,) = model.predict(photo, 0.0)
    (expected,) = lively_detector("fpn", masks=True).predict(photo, 0.0)
    assert sure_agreement([found.objects], [expected.objects], 0.5) > 0.9
    assert found.objects.boxes != pytest.approx(expected.objects.boxes, abs=1e-3)


def has_bf16() -> bool:
    """Return whether OpenVINO computes in bf16 here."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_prediction_and_drawing_import_neither_torch_nor_onnx(
    exported: Export, photo: Path, tmp_path: Path
) -> None:
    code = (
        "import sys\nfrom deepresidual.cli import main\n"
        "assert main(['predict', *sys.argv[1:], '--min-score', '0', '--format', 'csv']) == 0\n"
        "print({'torch', 'torchvision', 'onnx', 'openvino', 'scipy'} & set(sys.modules))"
    )
    words = [sys.executable, "-c", code, str(exported.path), str(photo), "--draw", str(tmp_path / "drawn")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    header, first, *_, last = done.stdout.splitlines()
    assert header.startswith("path,label,score,x0,y0,x1,y1")
    assert first.split(",")[1] in LABELS
    assert last == "set()"


def test_evaluate_and_compare_take_it(
    tmp_path: Path, exported: Export, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_shapes(tmp_path / "shapes", 4, 6)
    model = lively_detector("fpn", masks=True)
    named = dataclasses.replace(model, label_names=("disc", "square", "hen"))
    save(named, tmp_path / "model")
    folder = Path(shutil.copytree(exported.path, tmp_path / "exported"))
    relabel(folder, named.label_names)
    assert main(["evaluate", str(folder), str(data), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert main(["evaluate", str(tmp_path / "model"), str(data), "--json"]) == 0
    assert measured["ap"] == pytest.approx(json.loads(capsys.readouterr().out)["ap"], abs=1e-6)
    assert main(["evaluate", str(folder), str(data), "--report", str(tmp_path / "page.html")]) == 0
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "model"), str(folder), str(data), "--json"]) == 0
    difference = json.loads(capsys.readouterr().out)["ap_difference"]
    assert difference["difference"] == pytest.approx(0, abs=1e-6)


def relabel(folder: Path, names: tuple[str, ...]) -> None:
    """Give an exported model other class names, as if it had been exported with them."""
    from deepresidual.runtime.files import sha256_of

    config = json.loads((folder / "config.json").read_text())
    config["label_names"] = list(names)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in names))
    signature = json.loads((folder / "signature.json").read_text())
    signature["files"] |= {name: sha256_of(folder / name) for name in ("config.json", "labels.txt")}
    (folder / "signature.json").write_text(json.dumps(signature))


# -- what is refused -----------------------------------------------------------------------------------------


def test_a_session_that_finds_other_objects_is_refused(own_export: Path, photo: Path) -> None:
    arrays = dict(np.load(own_export / "self-test.npz"))
    np.savez(own_export / "self-test.npz", **{**arrays, "boxes": arrays["boxes"] + 1})
    with pytest.raises(ModelFileError, match="computes wrongly here: of the stored image 0 of .* objects"):
        deepresidual.load_detector(own_export).predict(photo)


def test_a_changed_file_is_refused(own_export: Path, photo: Path) -> None:
    weights = bytearray((own_export / "model.onnx").read_bytes())
    weights[len(weights) // 2] ^= 1
    (own_export / "model.onnx").write_bytes(weights)
    with pytest.raises(ModelFileError, match=r"model.onnx is not the file that .* describes"):
        deepresidual.load_detector(own_export).predict(photo)


def test_a_damaged_self_test_is_refused(own_export: Path, photo: Path) -> None:
    np.savez(own_export / "self-test.npz", pixels=np.zeros((2, 2), np.uint8))
    with pytest.raises(ModelFileError, match="self-test.npz is damaged"):
        deepresidual.load_detector(own_export).predict(photo)


def test_an_engine_that_fails_is_left_out(
    exported: Export, photo: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = open_detector_engine

    def broken(folder: Path, signature: Any, settings: Any) -> Any:
        if settings.engine == "onnxruntime":
            raise ModelFileError("it cannot be opened")
        return opened(folder, signature, settings)

    monkeypatch.setattr(detector_session, "open_detector_engine", broken)
    model = deepresidual.load_detector(exported.path)
    model.predict(photo)
    assert model.backend == "openvino"
    assert "onnxruntime is left out: it cannot be opened" in capsys.readouterr().err


def test_an_exported_detector_is_no_classifier(exported: Export) -> None:
    with pytest.raises(ModelFileError, match="detects objects; expected a model that tells the class"):
        load_exported(exported.path)
    model = open_exported(exported.path)
    with pytest.raises(
        ConfigurationError, match="precision is 'fp16' for a model that onnxruntime or openvino"
    ):
        model.in_precision("fp16")
    with pytest.raises(ConfigurationError, match="device is 'cuda' for a model that onnxruntime computes"):
        model.to("cuda")


def test_the_command_says_what_was_compared(
    tmp_path: Path, exported: Export, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, graph = exported.signature.exported_from["model"], onnx.load(exported.path / "model.onnx")
    monkeypatch.setattr("deepresidual.exporting.detector_file.detector_onnx", lambda _: graph)
    assert main(["export", source, str(tmp_path / "out"), "--to", "openvino"]) == 0
    out = capsys.readouterr().out
    assert "model.xml, fp32" in out
    assert "objects are the same" in out
    assert (tmp_path / "out" / "model.bin").is_file()
    assert main(["predict", str(tmp_path / "out"), str(tmp_path)]) == 3  # there is no image
