"""Repositories of Triton and OpenVINO Model Server: laid out as they read them, and models like any."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image

import deepresidual
from deepresidual.backends.open_vino import shared_core
from deepresidual.cli import main
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.exporting import export
from deepresidual.exporting.detector import found_by_torch
from deepresidual.exporting.detector_views import whole_view
from deepresidual.exporting.repository import served_name
from deepresidual.exporting.views import bundled_parts
from deepresidual.models.folder import save
from tests.exporting.conftest import tiny_model
from tests.exporting.detectors import lively_detector
from tests.exporting.triton_grammar import read_model_config

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)

# What the schema of OpenVINO Model Server (src/schema.cpp, August 2026) allows of a classical model: fields
# and their types, and no others.
OVMS_FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "base_path": (str,),
    "batch_size": (int, str),
    "shape": (dict, str),
    "layout": (dict, str),
    "model_version_policy": (dict,),
    "nireq": (int,),
    "target_device": (str,),
    "allow_cache": (bool,),
    "plugin_config": (dict,),
}


def repository(folder: Path, server: Any) -> Path:
    """Write a model called pets, and the repository with it."""
    save(tiny_model(), folder / "pets")
    export(folder / "pets", folder / "served", to=server)
    return folder / "served"


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository(tmp_path_factory.mktemp("triton"), "triton")


@pytest.fixture(scope="module")
def ovms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository(tmp_path_factory.mktemp("ovms"), "ovms")


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_triton_finds_its_configuration_labels_and_version_1(triton: Path) -> None:
    assert files_in(triton) == [
        "README.md", "pets/1/model.onnx", "pets/README.md", "pets/config.json", "pets/config.pbtxt",
        "pets/labels.txt", "pets/self-test.npz", "pets/signature.json",
    ]  # fmt: skip
    assert (triton / "pets" / "labels.txt").read_text() == "blue\ngreen\nred\n"


def test_the_configuration_follows_tritons_grammar_and_the_graph(triton: Path) -> None:
    import onnxruntime

    config = read_model_config((triton / "pets" / "config.pbtxt").read_text())
    assert (config.name, config.backend, config.max_batch_size) == ("pets", "onnxruntime", 64)
    assert config.HasField("dynamic_batching")
    session = onnxruntime.InferenceSession(triton / "pets" / "1" / "model.onnx")
    types = {"tensor(uint8)": 2, "tensor(float)": 11}
    for described, graph in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [(one.name, one.data_type, list(one.dims)) for one in described] == [
            (tensor.name, types[tensor.type], tensor.shape[1:]) for tensor in graph
        ]
        assert {tensor.shape[0] for tensor in graph} == {"batch"}
    assert [one.label_filename for one in config.output] == ["labels.txt", "labels.txt"]


def test_the_grammar_refuses_what_triton_would() -> None:
    with pytest.raises(text_format.ParseError, match='no field named "backends"'):
        read_model_config('name: "pets"\nbackends: "onnxruntime"')
    with pytest.raises(text_format.ParseError, match="TYPE_UINT"):
        read_model_config('input { name: "pixels" data_type: TYPE_UINT dims: [ 8 ] }')


def test_ovms_finds_its_configuration_and_a_static_batch(ovms: Path) -> None:
    assert files_in(ovms) == [
        "README.md", "config.json", "pets/1/model.bin", "pets/1/model.xml", "pets/README.md",
        "pets/config.json", "pets/labels.txt", "pets/self-test.npz", "pets/signature.json",
    ]  # fmt: skip
    document = json.loads((ovms / "config.json").read_text())
    assert list(document) == ["model_config_list"]
    ((entry),) = document["model_config_list"]
    assert list(entry) == ["config"]
    for name, value in entry["config"].items():
        assert isinstance(value, OVMS_FIELDS[name]), name
    options = entry["config"]["plugin_config"]
    assert all(isinstance(value, str | bool | int | float) for value in options.values())
    assert (ovms / entry["config"]["base_path"] / "1" / "model.xml").is_file()

    graph = shared_core(ovms).read_model(ovms / "pets" / "1" / "model.xml")
    assert [list(tensor.shape) for tensor in graph.inputs] == [[1, 8, 8, 3]]
    assert [list(tensor.shape) for tensor in graph.outputs] == [[1, 3], [1, 3]]
    # The options are OpenVINO's own.
    shared_core(ovms).compile_model(graph, "CPU", options)


@pytest.mark.parametrize("server", ["triton", "ovms"])
def test_the_model_in_it_is_a_model_like_any_other(server: str, request: pytest.FixtureRequest) -> None:
    root, expected = request.getfixturevalue(server), tiny_model().logits(PIXELS)
    (file,) = (path for path in (root / "pets" / "1").iterdir() if path.suffix in (".onnx", ".xml"))
    for path in (root, root / "pets", file):
        assert deepresidual.load(path).logits(PIXELS) == pytest.approx(expected, abs=1e-5)
    text = (root / "README.md").read_text()
    assert "itself was not run with it" in text
    assert str(root) not in text


# -- detectors -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a photo in which the detector finds something."""
    path = tmp_path_factory.mktemp("photo") / "china.png"
    model, parts = lively_detector("c4", masks=True), [part for _, part in bundled_parts()]
    best = max(parts, key=lambda part: len(found_by_torch(model, whole_view(part, model.preprocess))))
    Image.fromarray(best).save(path)
    return path


@pytest.mark.test_all
@pytest.mark.parametrize("server", ["triton", "ovms"])
def test_a_detector_is_served_one_image_of_any_size(server: Any, photo: Path, tmp_path: Path) -> None:
    save(lively_detector("c4", masks=True), tmp_path / "pets")
    export(tmp_path / "pets", tmp_path / "served", to=server)
    root = tmp_path / "served"
    own = ["README.md", "config.json", "labels.txt", "self-test.npz", "signature.json"]
    files = (
        [*own, "1/model.onnx", "config.pbtxt"] if server == "triton" else [*own, "1/model.bin", "1/model.xml"]
    )
    around = ["README.md"] if server == "triton" else ["README.md", "config.json"]
    assert files_in(root) == sorted([*around, *(f"pets/{name}" for name in files)])
    (expected,) = lively_detector("c4", masks=True).predict(photo, 0.0)
    for path in (root, root / "pets"):
        (found,) = deepresidual.load_detector(path).predict(photo, 0.0)
        assert found.objects.labels.tolist() == expected.objects.labels.tolist()
        assert found.objects.boxes == pytest.approx(expected.objects.boxes, abs=0.01)
    text = (root / "README.md").read_text()
    assert "its objects against PyTorch's" in text
    assert "itself was not run with it" in text
    assert "probabilit" not in text
    if server == "ovms":
        options = json.loads((root / "config.json").read_text())["model_config_list"][0]["config"]
        assert options["base_path"] == "pets"
        return
    config = read_model_config((root / "pets" / "config.pbtxt").read_text())
    assert (config.max_batch_size, config.HasField("dynamic_batching")) == (0, False)
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [("pixels", 2, [-1, -1, 3])]
    assert [(one.name, one.data_type, list(one.dims)) for one in config.output] == [
        ("boxes", 11, [-1, 4]),
        ("labels", 9, [-1]),
        ("scores", 11, [-1]),
        ("masks", 11, [-1, *[expected_px(root)] * 2]),
    ]
    assert not any(one.label_filename for one in config.output)


def expected_px(root: Path) -> int:
    """Return the side of a mask as the graph has it."""
    import onnxruntime

    outputs = onnxruntime.InferenceSession(root / "pets" / "1" / "model.onnx").get_outputs()
    return int(next(output for output in outputs if output.name == "masks").shape[1])


# -- which one -----------------------------------------------------------------------------------------------


def test_a_repository_of_several_models_asks_which(triton: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(triton, tmp_path / "copy"))
    shutil.copytree(copy / "pets", copy / "plants")
    with pytest.raises(ModelFileError, match="is a repository of 2 models; expected one of them: .*plants"):
        deepresidual.load(copy)
    with pytest.raises(ConfigurationError, match="copy is a repository that holds plants as well"):
        export(tiny_model(), copy, to="triton")
    assert len(files_in(copy)) == len(files_in(triton)) + 7


@pytest.mark.test_all
def test_a_repository_of_one_model_is_replaced_whole(triton: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(triton, tmp_path / "copy"))
    (copy / "pets" / "1" / "model.onnx").write_bytes(b"old")
    assert main(["export", str(triton.parent / "pets"), str(copy), "--to", "triton"]) == 0
    assert files_in(copy) == files_in(triton)
    assert deepresidual.load(copy).logits(PIXELS).shape == (3, 3)


def test_another_file_in_the_folder_of_version_1_is_refused(triton: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(triton, tmp_path / "copy"))
    (copy / "pets" / "1" / "model.onnx").write_bytes(b"other")
    with pytest.raises(ModelFileError, match="another SHA-256"):
        deepresidual.load(copy).logits(PIXELS)
    signature = copy / "pets" / "signature.json"
    for name in ("../model.onnx", "1/../../model.onnx", "2/model.onnx", "1/", "/model.onnx"):
        signature.write_text(json.dumps(json.loads(signature.read_text()) | {"file": name}))
        with pytest.raises(ModelFileError, match="expected a name in this folder"):
            deepresidual.load(copy)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("runs/pets", "pets"),
        ("runs/pets/", "pets"),
        ("runs/pets/model", "pets"),
        (Path("model"), "model"),
        ("resnet50.a1_in1k", "resnet50.a1_in1k"),
        ("timm/resnet50.a1_in1k@main", "resnet50.a1_in1k-main"),
        ("Meine Käfer (neu)", "Meine-K-fer-neu"),
        ("物", "resnet50_v1"),
        (None, "resnet50_v1"),
    ],
)
def test_a_model_is_served_by_a_name_that_fits_an_address(model: object, name: str) -> None:
    assert served_name(model, "resnet50.v1") == name
