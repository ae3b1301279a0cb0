"""Which reader a path gets, by its bytes; and what folders and files are refused with which sentence."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import sys
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from deepresidual.conversion import readers
from deepresidual.conversion.readers import read, torch_file
from deepresidual.errors import ModelFileError
from deepresidual.runtime.strict_json import parse_object
from tests.conversion.readers.writers import Touch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": torch.ones(2)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"architectures": ["ResNetForImageClassification"]}')
    return folder


def test_a_folder_gives_weights_and_configurations(folder: Path) -> None:
    (folder / "preprocessor_config.json").write_text('{"crop_pct": 0.875}')
    torch.save({"b": torch.ones(1)}, folder / "pytorch_model.bin")
    checkpoint = read(str(folder))
    assert (checkpoint.path, checkpoint.format) == (folder, "safetensors")
    assert list(checkpoint.tensors) == ["a"]
    assert checkpoint.metadata == {
        "config": {"architectures": ["ResNetForImageClassification"]},
        "preprocessor_config": {"crop_pct": 0.875},
    }


def test_the_other_kind_of_folder_is_read_as_a_pickle_of_tensors(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"b": torch.ones(1)}, folder / "pytorch_model.bin")
    checkpoint = read(folder)
    assert (checkpoint.format, list(checkpoint.tensors)) == ("torch", ["b"])
    assert checkpoint.metadata["config"] == {"architectures": ["ResNetForImageClassification"]}


def test_a_configuration_that_names_code_is_data(folder: Path) -> None:
    (folder / "model_code.py").write_text(f"open({str(folder / 'marker')!r}, 'w')")
    config = {
        "auto_map": {"AutoModel": "model_code.Model"},
        "trust_remote_code": True,
        "_target_": "model_code.Model",
        "class_path": "os.system",
    }
    (folder / "config.json").write_text(json.dumps(config))
    assert read(folder).metadata["config"] == config
    assert "model_code" not in sys.modules
    assert not (folder / "marker").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b'{"a": "\xff"}', r"config\.json is not JSON in UTF-8 \(a byte that is no UTF-8\)"),
        ('{"a": 1}'.encode("utf-16"), r"config\.json is not JSON in UTF-8"),
        (b'\xef\xbb\xbf{"a": 1}', r"config\.json is not JSON in UTF-8"),
        (b'{"a":' * 100_000, r"config\.json is not plain JSON \(nested too deep\)"),
        (b"[1]", r"config\.json holds a list; expected a JSON object"),
        (b'{"a": 1, "a": 2}', r"config\.json is not JSON in UTF-8 \(the name 'a' is there twice\)"),
        (b'{"a": 1e999}', r"config\.json is not JSON in UTF-8 \(the number 1e999 is too large\)"),
        (
            b'{"a":' * 101 + b"1" + b"}" * 101,
            r"config\.json is not plain JSON .*; expected 100 levels at most",
        ),
        (b'{"a": NaN}', r"config\.json is not JSON in UTF-8 \(NaN is no JSON\)"),
        (b"", r"config\.json is not JSON in UTF-8"),
    ],
)
def test_a_configuration_that_is_no_plain_json_is_refused(folder: Path, content: bytes, text: str) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(ModelFileError, match=text):
        read(folder)


def test_a_configuration_of_a_gigabyte_is_refused_unread(folder: Path) -> None:
    with (folder / "config.json").open("wb") as file:
        file.truncate(1_000_000_000)
    with pytest.raises(ModelFileError, match=r"has 1,000,000,000 bytes; expected at most 64,000,000"):
        read(folder)


def test_weights_that_are_a_link_are_read_where_the_user_typed_the_path(folder: Path, tmp_path: Path) -> None:
    # The cache of the Hugging Face hub consists of links.
    (folder / "model.safetensors").rename(tmp_path / "blob")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    assert list(read(folder).tensors) == ["a"]


def test_a_distributed_checkpoint_is_refused_and_its_pickle_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Touch(marker)))
    (tmp_path / "__0_0.distcp").write_bytes(b"x")
    with pytest.raises(
        ModelFileError, match=r"a distributed checkpoint of torch, whose \.metadata is a pickle"
    ):
        read(tmp_path)
    assert not marker.exists()


def test_folders_of_other_kinds_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="holds no weights; expected safetensors, a PyTorch state dict"):
        read(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(ModelFileError, match="a SavedModel, which holds a program; .*; give the checkpoint"):
        read(tmp_path)


def zip_bytes(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, bytes(100))
    return buffer.getvalue()


def tar_bytes() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (tar_bytes(), "is a tar archive; .*; unpack it first"),
        (gzip.compress(b"x", mtime=0), "is a gzip file; .*; unpack it first"),
        (b"BZh91AY", "is a bzip2 file"),
        (b"\xfd7zXZ\0", "is an xz file"),
        (zip_bytes("a.txt"), r"is a zip archive without data\.pkl; .*; unpack it first"),
        (zip_bytes("weights.pth", "a.txt"), r"is a zip archive with 'weights\.pth' in it; unpack it first"),
        (zip_bytes("m/deep/x.safetensors"), r"is a zip archive with 'm/deep/x\.safetensors' in it; unpack"),
        (zip_bytes("conv1.npy", "fc.npy"), r"holds NumPy arrays \(\.npz\)"),
        (zip_bytes("m/archive_format", "m/models/model.json"), r"is a program that torch\.export wrote"),
        (zip_bytes("assets/", "model.weights.h5"), "is a Keras file; give it the ending .keras"),
        (b"\x08\x07\x12\x07pytorch", "is ONNX or another protobuf"),
        (b"\x93NUMPY\x01\0", "is a NumPy array"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer .*; run 'git lfs pull'"),
        (b"<!DOCTYPE html><html>", "is a web page instead of weights; .*; download the file itself again"),
        (b"\xef\xbb\xbf\n <HTML>", "is a web page instead of weights"),
        (b"<?xml version='1.0'?><Error/>", "is XML instead of weights"),
        (b"Entry not found", r"is text instead of weights \('Entry not found'\); .*; download the file"),
        (b'{"message": "Not Found"}', "is text instead of weights"),
        (b"\x1c\0\0\0TFL3" + bytes(30), "is a TensorFlow Lite model; .*; convert the checkpoint that it was"),
        (b"GGUF\x03\0\0\0", "is a GGUF file; .*; convert the checkpoint that it was made from"),
        (b"MATLAB 5.0 MAT-file", "is a MATLAB file"),
        (b"\x12\x01" + bytes(30), "is a file of MXNet"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "is a PNG image"),
        (b"cposix\nsystem\n(S'true'\ntR.", "is a Python pickle that is no torch file"),
        (b"4\n1\n3\nV 1\n13\nnn.Sequential\n", "is a Torch7 file in ASCII"),
        (pickle.dumps({"a": 1}), "is a Python pickle that is no torch file"),
        (bytes(8) + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb", "is a table of TensorFlow or LevelDB"),
        (b"\x01\x02\x03" * 200, "is of no known format; expected safetensors"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(ModelFileError, match=text):
        read(tmp_path / "weights.pth")


STARTS = (
    b"PK\x03\x04",
    b"\x80\x02",
    b"\x89HDF\r\n\x1a\n",
    b"\x08\x07\x12",
    b"\xa2\x06\x05",
    b"<html",
    b"{}",
    b"\x12\x01",
)


@given(
    start=st.sampled_from(STARTS) | st.binary(max_size=12),
    rest=st.binary(max_size=300),
    suffix=st.sampled_from(
        ["", ".pth", ".safetensors", ".caffemodel", ".index", ".keras", ".onnx", ".data-1-of-2"]
    ),
)
def test_any_bytes_have_a_reader_or_are_refused_in_one_sentence(
    start: bytes, rest: bytes, suffix: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}"
        path.write_bytes(start + rest + b"x")
        kind = message = ""
        try:
            kind = readers._kind_of(path, path.stat().st_size)
        except ModelFileError as error:
            message = str(error)
        assert bool(kind) != bool(message)
        assert message.isprintable()
        assert len(message) < 1000


@given(
    st.binary(max_size=60)
    | st.text(alphabet='{}[]",:\\u0123456789dD.eE+-antrufls \x00\ud800', max_size=60).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    )
)
def test_any_bytes_are_a_json_object_or_refused_in_one_sentence(content: bytes) -> None:
    found, message = None, ""
    try:
        found = parse_object(content, "x.json")
    except ModelFileError as error:
        message = str(error)
    assert (found is None) == bool(message)
    assert message.isprintable()
    if found is not None:
        json.dumps(found, allow_nan=False)


def test_missing_empty_large_and_odd_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="nothing does not exist"):
        read(tmp_path / "nothing")
    with pytest.raises(ModelFileError, match="cannot read"):
        read("a\0b")
    (tmp_path / "empty").touch()
    with pytest.raises(ModelFileError, match="empty is empty"):
        read(tmp_path / "empty")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(readers.MAX_FILE_BYTES + 1)
    with pytest.raises(ModelFileError, match=r"has 2,147,483,649 bytes; expected at most 2,147,483,648"):
        read(tmp_path / "large")


def test_a_torchscript_program_is_named_before_its_members_are_judged(tmp_path: Path) -> None:
    class Doubled(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls TorchScript deprecated
        torch.jit.save(torch.jit.script(Doubled()), str(tmp_path / "x.pt"))
    with pytest.raises(
        ModelFileError,
        match=r"is a TorchScript program \(torch\.jit\.save\); expected a state dict; save its",
    ):
        torch_file.parse(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        (
            "x.onnx",
            b"\x0a\x03abc",
            "is an ONNX model; .*; give the whole folder .*, or convert the checkpoint",
        ),
        ("x.pt2", b"PK\x03\x04abc", "is an exported program of PyTorch; .*; give the whole folder where"),
        ("x.safetensors", b"<html>", "is a web page instead of weights; expected a safetensors file"),
        ("x.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "run 'git lfs pull'"),
        ("x.safetensors", zip_bytes("x/data.pkl"), r"a zip archive, as torch.save writes them; .*\.pth"),
    ],
)
def test_names_that_promise_something_are_held_to_it(
    tmp_path: Path, name: str, content: bytes, text: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match=text):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_folder_with_pointers_of_git_lfs_is_told_so(folder: Path, name: str) -> None:
    (folder / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    with pytest.raises(ModelFileError, match=f"{name} is a Git LFS pointer instead of the file itself; run"):
        read(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="pipe is no regular file"):
        read(tmp_path / "pipe")
