"""An exported model is a folder that predicts as the model that it was made from, or it is not there."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import onnx
import pytest
import torch

import deepresidual
from deepresidual.backends.pytorch import require_torch
from deepresidual.backends.self_test import Difference, SelfTest
from deepresidual.cli import main
from deepresidual.errors import ConfigurationError, DataError, MissingDependencyError, ModelFileError
from deepresidual.exporting import Export, export
from deepresidual.exporting.views import CheckViews, own_views
from deepresidual.models.folder import save
from tests.exporting.conftest import tiny_model


def test_logits_are_those_of_the_model(exported: Export) -> None:
    model, pixels = tiny_model(), np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    assert deepresidual.load(exported.path).logits(pixels) == pytest.approx(model.logits(pixels), abs=1e-4)


def test_probabilities_in_the_graph_are_those_of_the_classifier(exported: Export) -> None:
    import onnxruntime

    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    session = onnxruntime.InferenceSession(exported.path / "model.onnx")
    probabilities, logits = session.run(["probabilities", "logits"], {"pixels": pixels})
    assert probabilities == pytest.approx(tiny_model().probabilities(logits), abs=1e-6)


def test_the_file_is_one_of_opset_18_whose_batch_has_a_name(exported: Export) -> None:
    graph = onnx.load(exported.path / "model.onnx", load_external_data=False)
    onnx.checker.check_model(graph, full_check=True)
    assert [version.version for version in graph.opset_import if version.domain == ""] == [18]
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert not any(tensor.external_data for tensor in graph.graph.initializer)
    assert sorted(path.name for path in exported.path.iterdir()) == [
        "README.md", "config.json", "labels.txt", "model-image.onnx", "model.onnx", "self-test.npz",
        "signature.json",
    ]  # fmt: skip


def test_the_file_says_by_itself_what_it_reads_and_answers(exported: Export) -> None:
    graph = onnx.load(exported.path / "model.onnx")
    metadata = json.loads({entry.key: entry.value for entry in graph.metadata_props}["residual"])
    assert metadata["label_names"] == list(tiny_model().label_names)
    assert metadata["preprocess"] == tiny_model().preprocess.to_dict()
    assert metadata["contract"].startswith("pixels are uint8, (batch, height, width, channels)")


def test_the_views_are_of_the_data_that_is_given(photos: Path, tmp_path: Path) -> None:
    done = export(tiny_model(), tmp_path / "out", data=str(photos), split="test", resize="none")
    assert done.certificate.images.endswith(", test")
    difference = done.certificate.difference
    assert isinstance(difference, Difference)
    assert len(done.certificate.names) == difference.count == 15
    with pytest.raises(ConfigurationError, match="split is given without data"):
        export(tiny_model(), tmp_path / "out", split="test")


def test_a_run_is_checked_on_what_it_held_out_while_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record: dict[str, str] = {"data_location": "digits"}
    monkeypatch.setattr("deepresidual.exporting.views.holds_run", lambda path: path == tmp_path)
    monkeypatch.setattr("deepresidual.exporting.views.read_plan", lambda _: (None, record))
    monkeypatch.setattr("deepresidual.exporting.views.held_out_views", _views_of_digits)
    views = own_views(str(tmp_path))
    assert views is not None
    assert views.source == "digits, test"
    record["data_location"] = "gone"
    assert own_views(str(tmp_path)) is None
    assert "come with scikit-learn, since of the run's own: gone does not exist" in capsys.readouterr().err
    assert own_views(str(tmp_path / "no-run")) is None


def _views_of_digits(_: object, data: str, split: str | None) -> CheckViews:
    if data != "digits":
        raise DataError(f"{data} does not exist")
    return CheckViews(np.zeros((1, 8, 8, 3), np.uint8), ("0",), f"{data}, {split or 'test'}")


def test_the_card_names_classes_accuracy_provenance_and_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tiny_model()
    model.metrics["test"] = {"top1": 0.8125, "top5": 1.0, "loss": 0.5, "count": 1600}
    model.provenance.update({"data": "photos", "licence": "cc-by-nc-4.0", "commercial use": "no"})
    save(model, tmp_path / "mine")
    card = (export("mine", "mine-onnx", resize="none").path / "README.md").read_text()
    title, *_ = card.splitlines()
    assert title == f"# A residual network of {model.spec.num_layers} layers, 3 classes: model.onnx"
    assert "(`residual export`) from mine." in card
    assert f"\n\n{', '.join(model.label_names)}\n\n" in card
    assert "\n| test | 0.8125 | 0.5000 | 1,600 |\n" in card
    assert "\n| licence | cc-by-nc-4.0 |\n" in card
    assert "does not allow commercial use" in card
    assert "\n\n\n" not in card


def test_the_certificate_says_what_was_measured(exported: Export) -> None:
    document = json.loads((exported.path / "signature.json").read_text())
    difference = document["certificate"]["difference"]
    assert 0 < difference["largest"] < 1e-3 * difference["deviation"]
    assert (difference["agreement"], difference["count"]) == (1, 32)
    assert document["certificate"]["engine"].startswith("onnxruntime ")


def test_nothing_is_written_where_the_file_is_another_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, other = tiny_model(), tiny_model()
    with torch.no_grad():
        next(other.network.get_classifier().parameters()).mul_(1.01)
    writer = sys.modules["deepresidual.exporting.export"]  # under this name the package has the function
    monkeypatch.setattr(writer, "reference_logits", lambda _, views: other.logits(views.pixels))
    with pytest.raises(ModelFileError, match="logits differ from PyTorch's by 0.0.* of their deviation"):
        export(model, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_stays(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="exists and is no exported model"):
        export(tiny_model(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_exported_model_is_replaced_whole(own_export: Path) -> None:
    (own_export / "stale").touch()
    export(tiny_model(), own_export)
    assert not (own_export / "stale").exists()


@pytest.mark.parametrize("name", ["model.onnx", "model.XML", "net.engine", "net.tflite"])
def test_a_folder_is_not_called_like_a_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is a folder; expected a name such as '(model|net)-onnx'"):
        export(tiny_model(), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "model.onnx"])
def test_the_folder_and_its_file_are_the_model(exported: Export, name: str) -> None:
    assert repr(deepresidual.load(exported.path / name)).startswith("ExportedClassifier(")


def test_prediction_does_not_import_torch(exported: Export, photos: Path) -> None:
    code = (
        "import sys\nfrom deepresidual.cli import main\n"
        "assert main(['predict', *sys.argv[1:]]) == 0\n"
        "print({'torch', 'scipy', 'sklearn', 'pyarrow', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(exported.path), str(photos)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "set()"


# -- damage ------------------------------------------------------------------------------------------------


def test_another_file_is_refused(own_export: Path) -> None:
    with (own_export / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelFileError, match="is not the file that .* describes"):
        deepresidual.load(own_export).predict(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize("name", ["config.json", "labels.txt"])
def test_other_class_names_are_refused(own_export: Path, name: str) -> None:
    file = own_export / name
    first, second, *_ = tiny_model().label_names
    content = file.read_bytes()
    for one, other in ((first, "?"), (second, first), ("?", second)):
        content = content.replace(one.encode(), other.encode())
    file.write_bytes(content)
    with pytest.raises(ModelFileError, match=f"{name} is not the one that was exported .*; export again, or"):
        deepresidual.load(own_export)


def test_a_session_that_computes_wrongly_is_refused(own_export: Path) -> None:
    stored = SelfTest.read(own_export / "self-test.npz")
    SelfTest(stored.pixels, stored.logits + np.float32(0.1) * stored.logits.std()).write(
        own_export / "self-test.npz"
    )
    with pytest.raises(ModelFileError, match="computes wrongly here: .* differ from PyTorch's by 0.1"):
        deepresidual.load(own_export).predict(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing"),
        (b"", "is damaged (No data left in file)"),
        (b"PK\x03\x04 and no more", "is damaged (File is not a zip file)"),
    ],
)
def test_a_damaged_self_test_is_told_once_and_before_the_table(
    own_export: Path, photos: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, message: str
) -> None:
    file = own_export / "self-test.npz"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert main(["predict", str(own_export), str(photos)]) == 3
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {file} {message}; copy the whole folder, or export again\n")


@pytest.mark.parametrize(
    ("kept", "given", "message"),
    [
        (["config.json", "model.onnx"], "", r"export/signature\.json is missing; copy the whole folder, or"),
        (["config.json", "model.onnx"], "model.onnx", r"export/signature\.json is missing; copy the whole"),
        (["signature.json", "model.onnx"], "", r"export/config\.json is missing; copy the whole folder, or"),
        (["signature.json", "model.onnx"], "model.onnx", r"export/config\.json is missing; copy the whole"),
        (
            ["model.onnx"],
            "",
            r"model\.onnx is without the files that 'residual export' wrote beside it; expected",
        ),
        (
            ["model.onnx"],
            "model.onnx",
            r"export/model\.onnx is without the files that 'residual export' wrote",
        ),
        (
            ["config.json", "signature.json"],
            "",
            r"model\.onnx is missing; copy the whole folder, or export again",
        ),
    ],
)
def test_what_is_missing_of_an_exported_model_is_named(
    own_export: Path, kept: list[str], given: str, message: str
) -> None:
    for file in own_export.iterdir():
        if file.name not in kept:
            file.unlink()
    with pytest.raises(ModelFileError, match=message):
        deepresidual.load(own_export / given).predict(np.zeros((8, 8, 3), np.uint8))


def test_a_repository_without_a_signature_says_so(own_export: Path) -> None:
    (own_export / "1").mkdir()
    (own_export / "model.onnx").rename(own_export / "1" / "model.onnx")
    (own_export / "signature.json").unlink()
    for given in (own_export, own_export / "1" / "model.onnx"):
        with pytest.raises(ModelFileError, match=r"export/signature\.json is missing; copy the whole folder"):
            deepresidual.load(given)


def test_a_model_folder_with_an_exported_file_beside_stays_one(tmp_path: Path) -> None:
    save(tiny_model(), tmp_path / "model")
    (tmp_path / "model" / "model.onnx").touch()
    assert repr(deepresidual.load(tmp_path / "model")).startswith("TorchClassifier(")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signature_version": 2}, "signature_version is 2; expected 1"),
        ({"format": "tflite"}, "format is 'tflite'"),
        ({"file": "../model.onnx"}, "file is '../model.onnx'"),
        ({"sha256": 3}, "sha256 is 3, not text"),
        ({"inputs": []}, "names an input of"),
    ],
)
def test_a_damaged_signature_is_named(own_export: Path, change: dict[str, object], message: str) -> None:
    file = own_export / "signature.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ModelFileError, match=message):
        deepresidual.load(own_export)


def test_what_is_exported_is_not_exported_or_trained_from(exported: Export, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is an exported model, whose weights are in the format"):
        export(exported.path, tmp_path / "again")


def test_where_more_than_logits_is_needed_the_model_that_was_exported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tiny_model(), tmp_path / "mine")
    signature = export("mine", "mine-onnx", resize="none").signature
    assert signature.exported_from == {"model": "mine", "weights_sha256": tiny_model().weights_sha256()}
    assert str(tmp_path) not in (tmp_path / "mine-onnx" / "signature.json").read_text()
    model = deepresidual.load("mine-onnx")
    for refused in (
        lambda: export("mine-onnx", "again"),
        lambda: model.features(np.zeros((1, 8, 8, 3), np.uint8)),
        lambda: require_torch(model, "heat maps"),
    ):
        with pytest.raises(ModelFileError, match="the model folder that it was exported from: mine$"):
            refused()


def test_a_model_folder_has_no_other_backend_than_torch(tmp_path: Path) -> None:
    save(tiny_model(), tmp_path / "model")
    with pytest.raises(ModelFileError, match="residual export .* --to onnx"):
        deepresidual.load(tmp_path / "model", backend="onnxruntime")


def test_a_difference_that_is_not_finite_is_infinite() -> None:
    logits = np.array([[np.nan, 1.0]], np.float32)
    assert Difference.between(logits, np.ones((1, 2), np.float32)).largest == np.inf


def test_the_command_tells_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tiny_model(), tmp_path / "model")
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    wrote, use = lines[-2:]
    assert (wrote, use) == (f"wrote {tmp_path / 'out'}", f"use   residual predict {tmp_path / 'out'} PHOTOS")
    told = lines[1:-2]
    assert [line for line in told if len(line) > 80] == []
    text = " ".join(" ".join(told).split())
    assert re.match(r"certificate onnxruntime \S+ against PyTorch \S+, float32: logits differ by", text)
    assert re.search(r"differ by \S+ at most, 1/[\d,]{5,} of their deviation same best class in 100.0%", text)
    assert "of 32 views of two photos that come with scikit-learn" in text


def test_a_plain_model_that_openvino_is_asked_for_is_to_be_exported(tmp_path: Path) -> None:
    save(tiny_model(), tmp_path / "model")
    with pytest.raises(ModelFileError, match="FOLDER --to onnx', which openvino runs, too"):
        deepresidual.load(tmp_path / "model", backend="openvino")


@pytest.mark.parametrize(("to", "library", "extra"), [
    ("onnx", "onnx", "onnx"), ("onnx", "onnxscript", "onnx"), ("openvino", "openvino", "openvino"),
])  # fmt: skip
def test_a_library_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: Literal["onnx", "openvino"], library: str, extra: str
) -> None:
    usual = importlib.import_module

    def without(name: str, package: str | None = None) -> ModuleType:
        if name == library:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return usual(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(MissingDependencyError, match=rf"needs {library}, .*'deepresidual\[{extra}\]'"):
        export(tiny_model(), tmp_path / "out", to=to)
    assert not list(tmp_path.iterdir())
