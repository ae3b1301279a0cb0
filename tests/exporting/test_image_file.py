"""model-image.onnx takes a photo of any size and answers as the model does, or it is not written."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import onnx
import onnxruntime
import pytest

import deepresidual
from deepresidual.backends.signature import OWN_FILES
from deepresidual.cli import main
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.exporting import Export, export, image_file
from deepresidual.exporting.image_file import IMAGE_FILE, write_image_file
from deepresidual.exporting.resize_graph import ResizeGraph, resize_model
from deepresidual.models import TorchClassifier, create
from deepresidual.models.folder import save
from deepresidual.preprocess import Preprocess
from tests.conftest import COLORS, TINY
from tests.data.pictures import noise
from tests.exporting.conftest import tiny_model


@pytest.mark.parametrize("size", [(8, 8), (5, 3), (90, 61), (61, 90), (1, 200)])
def test_a_photo_of_any_size_is_answered_as_by_the_model(exported: Export, size: tuple[int, int]) -> None:
    photo = noise(*size)
    session = onnxruntime.InferenceSession(exported.path / IMAGE_FILE)
    probabilities, logits = session.run(["probabilities", "logits"], {"image": photo})
    model = deepresidual.load(exported.path)
    expected = model.logits(model.preprocess.center_view(photo)[None])
    assert logits == pytest.approx(expected, abs=1e-6)
    assert probabilities == pytest.approx(model.probabilities(expected), abs=1e-6)


def test_a_gray_model_takes_a_color_photo(tmp_path: Path) -> None:
    network = create(dataclasses.replace(TINY, in_channels=1), seed=3)
    gray = Preprocess(8, 9, (0.5,), (0.25,), "bicubic", channels="gray")
    model, photo = TorchClassifier(network, tuple(COLORS), gray), noise(40, 30)
    done = export(model, tmp_path / "out")
    session = onnxruntime.InferenceSession(done.path / IMAGE_FILE)
    view = gray.center_view(gray.to_channels(photo))
    (logits,) = session.run(["logits"], {"image": photo})
    assert logits == pytest.approx(model.logits(view[None]), abs=1e-4)


def test_the_file_says_what_it_takes_and_how_it_was_checked(exported: Export) -> None:
    graph = onnx.load(exported.path / IMAGE_FILE)
    onnx.checker.check_model(graph, full_check=True)
    assert [dim.dim_param or dim.dim_value for dim in graph.graph.input[0].type.tensor_type.shape.dim] == [
        "height",
        "width",
        3,
    ]
    document = json.loads((exported.path / "signature.json").read_text())
    facts = document["image_input"]
    metadata = json.loads({entry.key: entry.value for entry in graph.metadata_props}["residual"])
    assert metadata == facts | {
        "label_names": list(COLORS),
        "task": "classification",
        "preprocess": json.loads(json.dumps(tiny_model().preprocess.to_dict())),
    }

    assert document["files"].keys() == {IMAGE_FILE, *OWN_FILES}
    assert (facts["file"], facts["resize"], facts["inputs"][0]["name"]) == (IMAGE_FILE, "exact", "image")
    assert "Pillow 11, 12 and 13 to the bit" in facts["contract"]
    certificate = facts["certificate"]
    assert (certificate["num_differing"], certificate["largest_level"]) == (0, 0)
    assert certificate["num_values"] == len(certificate["photos"]) * 8 * 8 * 3
    assert certificate["engine"] == f"onnxruntime {onnxruntime.__version__}"


def test_fast_says_how_far_it_is_from_pillow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tiny_model(), tmp_path / "model")
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "out"), "--resize", "fast"]) == 0
    facts = json.loads((tmp_path / "out" / "signature.json").read_text())["image_input"]
    assert facts["certificate"]["largest_level"] <= 2
    assert "for ONNX Runtime only" in facts["contract"]
    assert f"{IMAGE_FILE}, resize fast: " in capsys.readouterr().out
    kinds = [node.op_type for node in onnx.load(tmp_path / "out" / IMAGE_FILE).graph.node]
    assert (kinds.count("Resize"), kinds.count("Loop")) == (1, 0)


def test_without_a_resize_there_is_one_file(tmp_path: Path) -> None:
    done = export(tiny_model(), tmp_path / "out", resize="none")
    assert not (done.path / IMAGE_FILE).exists()
    assert (set(done.signature.files), done.signature.image_input) == (set(OWN_FILES), {})
    assert IMAGE_FILE not in (done.path / "README.md").read_text()


def test_an_unknown_resize_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="resize is 'pillow'; expected one of exact, fast, none"):
        export(tiny_model(), tmp_path / "out", resize="pillow")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("resize", "allowed"), [("exact", "at most 0 levels"), ("fast", "at most 2 levels")])
def test_a_resize_that_is_another_is_not_written(
    own_export: Path, monkeypatch: pytest.MonkeyPatch, resize: ResizeGraph, allowed: str
) -> None:
    """As an engine without antialiasing would compute it: the nearest pixel."""
    nearest = dataclasses.replace(tiny_model().preprocess, interpolation="nearest")
    monkeypatch.setattr(image_file, "resize_model", lambda *_: resize_model(nearest))
    (own_export / IMAGE_FILE).unlink()
    with pytest.raises(ModelFileError, match=f"resize of {IMAGE_FILE} is not Pillow's: .* {allowed}"):
        write_image_file(own_export / "model.onnx", tiny_model().preprocess, resize)
    assert not (own_export / IMAGE_FILE).exists()


def test_a_file_that_computes_other_logits_is_not_written(
    own_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = image_file._joined

    def with_other_weights(*models: onnx.ModelProto) -> onnx.ModelProto:
        model = joined(*models)
        weight = next(one for one in model.graph.initializer if len(one.dims) == 4)
        weight.CopyFrom(onnx.numpy_helper.from_array(1.1 * onnx.numpy_helper.to_array(weight), weight.name))
        return model

    monkeypatch.setattr(image_file, "_joined", with_other_weights)
    with pytest.raises(ModelFileError, match="computes other logits than the file it is made of"):
        write_image_file(own_export / "model.onnx", tiny_model().preprocess, "exact")
