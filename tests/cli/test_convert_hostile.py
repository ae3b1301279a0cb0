"""``residual convert`` on files made to harm: exit code 3, one sentence, nothing run, nothing left."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from deepresidual.cli import main
from deepresidual.models import create, save
from tests.conversion.in_process import in_a_child_where_marked


class _Marks:
    """Unpickled without care, it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (os.system, (f"touch {self.marker}",))


def _plain_pickle(path: Path, marker: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": _Marks(marker)}))


def _torch_pickle(path: Path, marker: Path) -> None:
    torch.save({"conv1.weight": torch.ones(1), "x": _Marks(marker)}, path)


def _hidden_in_arguments(path: Path, marker: Path) -> None:
    arguments = argparse.Namespace(lr=0.1, hook=_Marks(marker))
    torch.save({"state_dict": create("resnet20").state_dict(), "args": arguments}, path)


def _torch_pickle_of_old(path: Path, marker: Path) -> None:
    torch.save({"x": _Marks(marker)}, path, _use_new_zipfile_serialization=False)


def _deflated(path: Path, marker: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(10_000_000)}, path.with_suffix(".stored"))
    with zipfile.ZipFile(path.with_suffix(".stored")) as stored, zipfile.ZipFile(path, "w") as archive:
        for member in stored.namelist():
            archive.writestr(member, stored.read(member), zipfile.ZIP_DEFLATED)
    path.with_suffix(".stored").unlink()


def _stride_of_zero(path: Path, marker: Path) -> None:
    torch.save({"conv1.weight": torch.ones(1).expand(10**6, 10**6)}, path)


def _twice_the_same_name(path: Path, marker: Path) -> None:
    entry = '"conv1.weight":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = ("{" + entry + "," + entry + "}").encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0\0\0\0")


def _header_of_a_terabyte(path: Path, marker: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**40) + b"{}")


def _not_finite(path: Path, marker: Path) -> None:
    state = create("resnet18", num_classes=3).state_dict()
    state["layer1.0.conv1.weight"][0] = torch.nan
    torch.save(state, path)


def _distributed(path: Path, marker: Path) -> None:
    path.mkdir()
    (path / ".metadata").write_bytes(pickle.dumps(_Marks(marker)))


def _configured_to_import(path: Path, marker: Path) -> None:
    path.mkdir()
    save_file(create("resnet18", num_classes=3).state_dict(), path / "model.safetensors")
    config = {"architecture": "resnet18", "pretrained_cfg": {}, "_target_": "os.system"}
    (path / "config.json").write_text(json.dumps(config))


@pytest.fixture(autouse=True)
def _in_a_child_where_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_child_where_marked(request, monkeypatch)


@pytest.mark.parametrize(
    ("make", "name", "message"),
    [
        (_plain_pickle, "evil.ckpt", "is a Python pickle that is no torch file"),
        (_plain_pickle, "model.safetensors", "is a Python pickle that is no torch file"),
        pytest.param(_torch_pickle, "evil.pt", "holds more than tensors", marks=pytest.mark.child),
        (_torch_pickle_of_old, "evil.pth", "holds more than tensors"),
        (_hidden_in_arguments, "evil.pth.tar", "holds more than tensors"),
        (_deflated, "bomb.pt", "is compressed; expected stored members"),
        (_stride_of_zero, "bomb.pth", "is larger than the file"),
        (_twice_the_same_name, "model.safetensors", "is damaged or no safetensors file"),
        (_header_of_a_terabyte, "model.safetensors", "a header of 1,099,511,627,776 bytes"),
        (_not_finite, "nan.pth", "tensor layer1.0.conv1.weight has 576 values that are not finite"),
        (_distributed, "dcp", "is a distributed checkpoint of torch"),
        (_configured_to_import, "folder", "config.json has the unknown key '_target_'"),
    ],
)
def test_a_hostile_source_is_refused(
    make: Callable[[Path, Path], None],
    name: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, marker = tmp_path / name, tmp_path / "marker"
    make(source, marker)
    assert main(["convert", str(source), str(tmp_path / "model")]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_damaged_source_leaves_an_older_model_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(create("resnet20"), tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    _not_finite(tmp_path / "nan.pth", tmp_path)
    assert main(["convert", str(tmp_path / "nan.pth"), str(tmp_path / "model")]) == 3
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    assert "not finite" in capsys.readouterr().err
