"""OpenVINO's format, and its real mistake: int8 with an open batch, which the self-test refuses."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import deepresidual
from deepresidual.backends import open_vino
from deepresidual.backends.engine import EngineSettings
from deepresidual.backends.open_vino import OpenVinoEngine
from deepresidual.backends.self_test import SelfTest
from deepresidual.cli import main
from deepresidual.errors import MachineError, MissingDependencyError, ModelFileError
from deepresidual.exporting import Export, export
from deepresidual.models import TorchClassifier, load_torch
from deepresidual.models.exported import load_exported
from deepresidual.models.folder import save
from deepresidual.runtime.files import sha256_of
from tests.exporting.conftest import tiny_model


@pytest.fixture(scope="module")
def openvino_export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return export(tiny_model(), tmp_path_factory.mktemp("openvino") / "model", to="openvino")


def some_pixels(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)


def test_logits_are_those_of_the_model_whatever_is_a_rest(openvino_export: Export) -> None:
    model, pixels = load_exported(openvino_export.path), some_pixels(11)
    expected = tiny_model().logits(pixels)
    for batch in (1, 2, 8):
        batched = model.with_settings(dataclasses.replace(model.settings, batch=batch))
        for count in (1, 2, 7, 11):
            assert batched.logits(pixels[:count]) == pytest.approx(expected[:count], abs=1e-4)


def test_the_folder_holds_both_files_uncompressed(openvino_export: Export) -> None:
    names = sorted(path.name for path in openvino_export.path.iterdir())
    assert names == [
        "README.md", "config.json", "labels.txt", "model.bin", "model.xml", "self-test.npz", "signature.json",
    ]  # fmt: skip
    assert "FP16" not in (openvino_export.path / "model.xml").read_text().upper()
    assert "`model.bin`" in (openvino_export.path / "README.md").read_text()
    assert openvino_export.certificate.engine.startswith("openvino 20")
    files = [openvino_export.path / name for name in ("model.xml", "model.bin")]
    assert openvino_export.signature.sha256 == sha256_of(*files)


def test_other_weights_are_refused(openvino_export: Export, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(openvino_export.path, tmp_path / "copy"))
    weights = bytearray((folder / "model.bin").read_bytes())
    weights[100] ^= 1
    (folder / "model.bin").write_bytes(weights)
    with pytest.raises(ModelFileError, match=r"model.xml is not the file that .* describes"):
        deepresidual.load(folder).logits(some_pixels(1))


def test_onnxruntime_does_not_run_it(openvino_export: Export) -> None:
    with pytest.raises(ModelFileError, match="does not run; expected auto or openvino"):
        deepresidual.load(openvino_export.path, backend="onnxruntime")


def test_prediction_imports_neither_torch_nor_onnx(openvino_export: Export, photos: Path) -> None:
    code = (
        "import sys\nfrom deepresidual.cli import main\n"
        "assert main(['predict', *sys.argv[1:]]) == 0\n"
        "print({'torch', 'onnx', 'onnxruntime', 'scipy'} & set(sys.modules))"
    )
    words = [sys.executable, "-c", code, str(openvino_export.path), str(photos)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tiny_model(), tmp_path / "model")
    words = ["export", str(tmp_path / "model"), str(tmp_path / "out"), "--to", "openvino", "--json"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["signature"]["format"] == "openvino"
    assert document["num_bytes"] == sum(
        (tmp_path / "out" / name).stat().st_size for name in ("model.xml", "model.bin")
    )


# -- what is missing -----------------------------------------------------------------------------------------


def test_a_missing_openvino_is_named_with_its_extra(
    exported: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"run: pip install 'deepresidual\[openvino\]'"):
        load_exported(exported.path, backend="openvino").logits(some_pixels(1))
    with pytest.raises(MissingDependencyError, match=r"run: pip install 'deepresidual\[openvino\]'"):
        export(tiny_model(), tmp_path / "out", to="openvino")
    assert not list(tmp_path.iterdir())


def test_a_precision_that_the_processor_lacks_is_refused(
    exported: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(open_vino._CAPABILITIES, "bf16", "NO SUCH THING")
    model = load_exported(exported.path, backend="openvino").in_precision("bf16")
    with pytest.raises(MachineError, match="precision is 'bf16' and OpenVINO has no such operations"):
        model.logits(some_pixels(1))


def test_a_file_that_openvino_does_not_read_is_refused(own_export: Path) -> None:
    (own_export / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelFileError, match="cannot open .*model.onnx: .*; choose another --backend"):
        OpenVinoEngine(own_export / "model.onnx", EngineSettings("openvino"))


# -- int8 with an open batch ---------------------------------------------------------------------------------


class AsOthersExport(torch.nn.Module):
    """A network with its own pooling, which ONNX flattens by Shape, Range, Gather and Reshape."""

    def __init__(self, model: TorchClassifier) -> None:
        super().__init__()
        self.network, self.preprocess = model.network, model.preprocess

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = self.network(self.preprocess.normalize(pixels))
        return logits.softmax(dim=1), logits


class Views(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime publishes no types
    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self.left: Iterator[NDArray[np.uint8]] = iter(pixels[:, None])

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return {"pixels": view} if (view := next(self.left, None)) is not None else None


def stored_views(folder: Path) -> NDArray[np.uint8]:
    return SelfTest.read(folder / "self-test.npz").pixels


@pytest.fixture(scope="module")
def int8_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an exported bundled model whose file is int8, made as others make it."""
    folder = tmp_path_factory.mktemp("int8")
    model = load_torch("resnet20-digits")
    made = export(model, folder / "model", resize="none")
    pixels = stored_views(made.path)
    program = torch.onnx.export(
        AsOthersExport(model).eval(),
        (torch.zeros(2, *pixels.shape[1:], dtype=torch.uint8),),
        dynamo=True,
        opset_version=18,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        input_names=["pixels"],
        output_names=["probabilities", "logits"],
        verbose=False,
    )
    assert program is not None
    program.save(folder / "float.onnx")
    quantize_static(
        folder / "float.onnx",
        made.path / "model.onnx",
        Views(pixels),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    signature = json.loads((made.path / "signature.json").read_text())
    signature |= {"sha256": sha256_of(made.path / "model.onnx"), "precision": "int8"}
    (made.path / "signature.json").write_text(json.dumps(signature))
    return made.path


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_int8_in_static_batches_passes_the_self_test(int8_export: Path, backend: str) -> None:
    model = load_exported(int8_export, backend=backend)
    for batch in (1, 8):
        batched = model.with_settings(dataclasses.replace(model.settings, batch=batch))
        assert batched.logits(stored_views(int8_export)[:1]).shape == (1, 10)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_int8_in_open_batches_is_refused_by_the_self_test(
    int8_export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino

    monkeypatch.setattr(openvino.Model, "reshape", lambda *_: None)
    with pytest.raises(
        ModelFileError,
        match=r"computes wrongly here: of 32 stored views its logits differ from PyTorch's by 0\.[2-9]",
    ):
        load_exported(int8_export, backend="openvino").logits(stored_views(int8_export)[:1])


def test_sessions_that_end_in_another_order_leave_the_process_its_signals(openvino_export: Export) -> None:
    code = """
import faulthandler, signal, subprocess, sys
from pathlib import Path
import numpy as np
from deepresidual.models.exported import load_exported

faulthandler.enable()  # gives signals a stack of their own, as pytest does
signal.signal(signal.SIGCHLD, lambda *_: None)
sessions = [load_exported(Path(sys.argv[1]), backend="openvino") for _ in range(2)]
for session in sessions:
    session.logits(np.zeros((1, 8, 8, 3), np.uint8))
while sessions:
    del session, sessions[0]
    session = None
subprocess.run(["true"])
print("alive")
"""
    words = [sys.executable, "-c", code, str(openvino_export.path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n")
