"""safetensors: what the library accepts and this project does not; and bytes at random."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from deepresidual.conversion.readers import read
from deepresidual.errors import ModelFileError
from deepresidual.runtime import safetensors_file
from tests.conversion.readers.writers import Touch, write_safetensors

ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
VALID = save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3), "c": torch.empty(0, 3)})


def test_tensors_come_back_with_names_types_and_the_hash_of_the_file(tmp_path: Path) -> None:
    tensors = {"a.weight": torch.randn(2, 3), "n": torch.tensor(7), "h": torch.ones(2, dtype=torch.float16)}
    save_file(tensors, tmp_path / "weights")
    checkpoint = read(tmp_path / "weights")
    assert (checkpoint.format, checkpoint.metadata, len(checkpoint.sha256)) == ("safetensors", {}, 64)
    assert {name: tensor.dtype for name, tensor in checkpoint.tensors.items()} == {
        name: tensor.dtype for name, tensor in tensors.items()
    }
    assert all(torch.equal(tensor, checkpoint.tensors[name]) for name, tensor in tensors.items())


def test_tensors_do_not_depend_on_the_file_any_more(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "x.safetensors", {"a": ENTRY}, b"\0\0\x80?")
    tensors = safetensors_file.open_tensors(path)
    path.write_bytes(b"")
    assert tensors["a"].tolist() == [1.0]


@pytest.mark.parametrize("keep", [0, 7, 8, 20, len(VALID) - 1])
def test_a_file_cut_short_is_refused(tmp_path: Path, keep: int) -> None:
    (tmp_path / "x.safetensors").write_bytes(VALID[:keep])
    with pytest.raises(ModelFileError, match=r"is empty|is damaged or no safetensors file"):
        read(tmp_path / "x.safetensors")


def test_bytes_after_the_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(VALID + b"PK\x03\x04")
    with pytest.raises(ModelFileError, match="is damaged or no safetensors file"):
        read(tmp_path / "x.safetensors")


@pytest.mark.parametrize("length", [2**40, 99_000_000, 2**64 - 1])
def test_a_header_that_claims_too_much_is_refused_before_it_is_read(tmp_path: Path, length: int) -> None:
    (tmp_path / "x.safetensors").write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelFileError, match=r"a header of [\d,]+ bytes; at most 4,000,000 are allowed"):
        read(tmp_path / "x.safetensors")


def test_two_tensors_of_one_name_are_refused_though_the_library_takes_the_last(tmp_path: Path) -> None:
    entry = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}'
    header = b"{" + entry % (0, 4) + b"," + entry % (4, 8) + b"}"
    path = write_safetensors(tmp_path / "x.safetensors", header, bytes(8))
    with pytest.raises(ModelFileError, match="the name 'a' is there twice"):
        read(path)


@pytest.mark.parametrize(
    "entry",
    [
        ENTRY | {"data_offsets": [0, 8]},
        ENTRY | {"shape": [2**62, 4]},
        ENTRY | {"shape": [-1]},
        ENTRY | {"dtype": "EVIL"},
        ENTRY | {"data_offsets": [4, 0]},
        [],
    ],
)
def test_an_entry_that_contradicts_itself_is_refused(tmp_path: Path, entry: object) -> None:
    path = write_safetensors(tmp_path / "x.safetensors", {"a": entry}, bytes(4))
    with pytest.raises(ModelFileError, match="is damaged or no safetensors file"):
        read(path)


@pytest.mark.parametrize(
    "header", [b"{" * 100_000, b'{"a":' * 50_000, b"\xef\xbb\xbf{}", b'{"a":NaN}', b"[]", b'{"\xff":1}']
)
def test_a_header_that_is_no_plain_json_is_refused(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(ModelFileError, match="is damaged or no safetensors file"):
        read(write_safetensors(tmp_path / "x.safetensors", header))


def test_a_pickle_under_this_name_is_refused_and_nothing_of_it_runs(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "model.safetensors").write_bytes(pickle.dumps({"a": Touch(marker)}))
    for path in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(ModelFileError, match="is a Python pickle|no safetensors file"):
            read(path)
    torch.save({"a": torch.ones(3), "b": Touch(marker)}, tmp_path / "model.safetensors")
    with pytest.raises(
        ModelFileError, match="is a zip archive, as torch.save writes them; expected a safetensors file"
    ):
        read(tmp_path / "model.safetensors")
    assert not marker.exists()


@given(position=st.integers(0, len(VALID) - 1), value=st.integers(0, 255), cut=st.integers(0, len(VALID)))
def test_changed_bytes_give_tensors_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int, cut: int
) -> None:
    content = bytearray(VALID)
    content[position] = value
    for number, changed in enumerate((bytes(content), VALID[:cut])):
        path = tmp_path_factory.getbasetemp() / f"mutated-{number}.safetensors"
        path.write_bytes(changed)
        try:
            tensors = safetensors_file.open_tensors(path)
        except ModelFileError:
            continue
        assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())
