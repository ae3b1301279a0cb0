"""``model.pt2``: the folded network as an exported program, whose weights are read and pickles are not."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import deepresidual
from deepresidual.backends.engine import EngineSettings
from deepresidual.backends.export_module import ExportModule
from deepresidual.backends.exported_program import ProgramEngine
from deepresidual.backends.program_weights import read_program_weights
from deepresidual.cli import main
from deepresidual.errors import ModelFileError
from deepresidual.exporting import export
from deepresidual.exporting.program_file import program_logits, write_program
from deepresidual.models import TorchClassifier
from deepresidual.models.config import ModelConfig
from deepresidual.models.folder import save
from deepresidual.runtime.files import write_json
from tests.exporting.conftest import tiny_model
from tests.kinds import KINDS, classifier_of, each_classifier

FEW = ("shortcut A", "bottleneck full-preactivation", "statistics of two stages")
CONFIG = "data/weights/model_weights_config.json"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program of a tiny model, with its config.json beside it."""
    return written(tiny_model(), tmp_path_factory.mktemp("program"))


def written(model: TorchClassifier, folder: Path) -> Path:
    write_json(folder / "config.json", ModelConfig.of(model).to_document())
    write_program(model, folder / "model.pt2")
    return folder / "model.pt2"


def read(path: Path) -> dict[str, torch.Tensor]:
    """Read what has to be the weights of the tiny model."""
    state = ExportModule.of(tiny_model()).state_dict()
    return read_program_weights(path, {name: tuple(tensor.shape) for name, tensor in state.items()})


@pytest.mark.parametrize("kind", each_classifier(*FEW))
def test_weights_and_program_compute_the_logits_of_the_network(kind: str, tmp_path: Path) -> None:
    model = classifier_of(KINDS[kind])
    path = written(model, tmp_path)
    shape = (3, 32, 32, model.spec.in_channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    expected = model.logits(pixels)
    for logits in (ProgramEngine(path, EngineSettings("torch")).logits(pixels), program_logits(path, pixels)):
        assert logits == pytest.approx(expected, abs=1e-5 * float(expected.std()))


def test_weights_are_those_of_the_folded_network_to_the_bit_in_the_usual_order(program: Path) -> None:
    expected, found = ExportModule.of(tiny_model()).state_dict(), read(program)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    # Other converters read weights that are channels last wrongly; see write_program.
    assert all(tensor.is_contiguous() for tensor in found.values())


def test_the_file_names_no_file_of_the_machine_that_wrote_it(program: Path) -> None:
    with zipfile.ZipFile(program) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist() if name.endswith(".json"))
    assert b"torch.ops.aten" in content
    assert b".py" not in content


def test_read_only_pixels_and_those_that_run_backwards_are_taken(program: Path) -> None:
    engine, pixels = ProgramEngine(program, EngineSettings("torch")), np.zeros((2, 8, 8, 3), np.uint8)
    pixels[0, :4] = 200
    expected = engine.logits(pixels)
    pixels.flags.writeable = False
    assert np.array_equal(engine.logits(pixels), expected)
    assert np.array_equal(engine.logits(pixels[::-1]), expected[::-1])


def test_the_number_of_threads_is_the_users_own_afterwards(program: Path) -> None:
    before = torch.get_num_threads()
    ProgramEngine(program, EngineSettings("torch", threads=before + 1)).logits(
        np.zeros((1, 8, 8, 3), np.uint8)
    )
    assert torch.get_num_threads() == before


def test_a_folder_is_evaluated_and_predicted_with_like_any_model(tmp_path: Path, photos: Path) -> None:
    save(tiny_model(), tmp_path / "model")
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "out"), "--to", "pt2"]) == 0
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    loaded = deepresidual.load(tmp_path / "out")
    assert loaded.logits(pixels) == pytest.approx(tiny_model().logits(pixels), abs=1e-5)
    photo = next(photos.rglob("*.png"))
    assert loaded.predict(photo)[0].classes == tiny_model().predict(photo)[0].classes
    with pytest.raises(ModelFileError, match=r"model\.pt2, which the backend 'onnxruntime' does not run"):
        deepresidual.load(tmp_path / "out", backend="onnxruntime")


def test_nothing_is_written_where_the_program_is_another_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = sys.modules["deepresidual.exporting.export"]  # under this name the package has the function
    monkeypatch.setattr(writer, "program_logits", lambda _, pixels: np.zeros((len(pixels), 3), np.float32))
    with pytest.raises(ModelFileError, match="the program its logits differ"):
        export(tiny_model(), tmp_path / "out", to="pt2")
    assert list(tmp_path.iterdir()) == []


def test_a_class_takes_a_line_of_the_labels_whatever_it_is_called(tmp_path: Path) -> None:
    names = ("blue\nsky", "\udce9", "red")
    model = dataclasses.replace(tiny_model(), label_names=names)
    export(model, tmp_path / "out", to="pt2")
    assert (tmp_path / "out" / "labels.txt").read_text("utf-8").split("\n") == [
        r"blue\nsky",
        r"\udce9",
        "red",
        "",
    ]
    assert deepresidual.load(tmp_path / "out").label_names == names


# -- files from elsewhere --------------------------------------------------------------------------------


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.path,))


def changed(program: Path, to: Path, change: Callable[[dict[str, Any]], None], **members: bytes) -> Path:
    """Write a copy of a program with other descriptions of its weights, and other members."""
    with zipfile.ZipFile(program) as archive, zipfile.ZipFile(to, "w") as copy:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith(CONFIG):
                described = json.loads(content)
                change(described["config"])
                content = json.dumps(described).encode()
            copy.writestr(name, members.get(name.rpartition("/")[2], content))
    return to


def test_a_pickled_weight_is_refused_and_not_unpickled(program: Path, tmp_path: Path) -> None:
    content = io.BytesIO()
    torch.save(Bomb(tmp_path / "exploded"), content)

    def pickled(config: dict[str, Any]) -> None:
        config["network.conv1.weight"] |= {"use_pickle": True, "path_name": "weight_0"}

    bad = changed(program, tmp_path / "bad.pt2", pickled, weight_0=content.getvalue())
    with pytest.raises(
        ModelFileError, match="no exported program that Residual wrote .*'weight_0' is pickled"
    ):
        read(bad)
    assert not (tmp_path / "exploded").exists()
    with contextlib.suppress(Exception):  # what it makes of an object that is no tensor is its own affair
        torch.export.load(bad)
    assert (tmp_path / "exploded").exists(), "torch.export.load does unpickle, which is why it is not used"


def test_pickled_sample_inputs_are_not_looked_at(program: Path, tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    bad = changed(program, tmp_path / "bad.pt2", lambda _: None, **{"model.pt": bomb, "model.json": b"{"})
    assert read(bad).keys() == read(program).keys()
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("dtype", 8, "is not float32"),
        ("layout", 1, "is not float32"),
        (
            "sizes",
            [{"as_int": 4000}, {"as_int": 4000}],
            r"± network\.conv1\.weight \(4000, 4000\) for \(4, 3",
        ),
        ("strides", [{"as_int": 4000}] * 4, "out of bounds"),
        ("strides", [{"as_int": 1}], "of the same length|mismatch in length"),
        ("strides", [{"as_int": -1}] * 4, "are no sizes"),
        ("storage_offset", {"as_int": 10**9}, "out of bounds"),
        ("storage_offset", {"as_expr": "__import__('os')"}, "as_int"),
    ],
)
def test_a_weight_of_another_form_is_refused(
    program: Path, tmp_path: Path, field: str, value: Any, said: str
) -> None:
    def other(config: dict[str, Any]) -> None:
        config["network.conv1.weight"]["tensor_meta"][field] = value

    with pytest.raises(ModelFileError, match=said):
        read(changed(program, tmp_path / "bad.pt2", other))


def test_a_weight_with_more_bytes_than_it_needs_is_refused(program: Path, tmp_path: Path) -> None:
    bad = changed(program, tmp_path / "bad.pt2", lambda _: None, weight_0=bytes(4_000))
    with pytest.raises(ModelFileError, match=r"'weight_0' has 4,000 bytes for the sizes \[4, 3, 3, 3\]"):
        read(bad)


def test_the_weights_of_another_network_are_refused(program: Path, tmp_path: Path) -> None:
    def renamed(config: dict[str, Any]) -> None:
        config["network.conv9.weight"] = config.pop("network.conv1.weight")

    bad = changed(program, tmp_path / "model.pt2", renamed)
    (tmp_path / "config.json").write_text((program.parent / "config.json").read_text())
    with pytest.raises(ModelFileError, match=r"− network\.conv1\.weight .*\+ network\.conv9\.weight"):
        ProgramEngine(bad, EngineSettings("torch"))


@given(st.data())
def test_a_damaged_file_is_refused_or_read(program: Path, data: st.DataObject) -> None:
    content = bytearray(program.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    bad = program.with_name("damaged.pt2")
    bad.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2]))])
    with contextlib.suppress(ModelFileError):  # any other error fails
        assert all(tensor.dtype == torch.float32 for tensor in read(bad).values())
