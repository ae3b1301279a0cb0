"""Weights in several files: read as one, and held against what their index says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from deepresidual.conversion.readers import read
from deepresidual.errors import ModelFileError


def write(folder: Path, *, suffix: str = "safetensors") -> dict[str, Any]:
    """Write two files and their index, and return the index."""
    parts = ({"a": torch.zeros(2), "b": torch.ones(3)}, {"c": torch.full((4,), 2.0)})
    base = "model" if suffix == "safetensors" else "pytorch_model"
    index: dict[str, Any] = {"metadata": {"total_size": 36}, "weight_map": {}}
    for number, tensors in enumerate(parts, 1):
        name = f"{base}-{number:05d}-of-00002.{suffix}"
        index["weight_map"].update(dict.fromkeys(tensors, name))
        if suffix == "safetensors":
            save_file(tensors, folder / name)
        else:
            torch.save(tensors, folder / name)
    (folder / f"{base}.{suffix}.index.json").write_text(json.dumps(index))
    return index


@pytest.mark.parametrize("suffix", ["safetensors", pytest.param("bin", marks=pytest.mark.test_all)])
def test_several_files_are_read_as_one(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, suffix=suffix)
    checkpoint = read(tmp_path)
    assert {name: tensor.tolist() for name, tensor in checkpoint.tensors.items()} == {
        "a": [0, 0],
        "b": [1, 1, 1],
        "c": [2, 2, 2, 2],
    }
    assert checkpoint.format == ("safetensors" if suffix == "safetensors" else "torch")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_map": {}}, "has no weight_map; expected the file of each tensor"),
        (
            {"weight_map": {"a": "../model.safetensors"}},
            "says that 'a' is in '../model.safetensors'; expected",
        ),
        ({"weight_map": {"a": "/etc/x.safetensors"}}, "expected the name of a .safetensors file beside it"),
        ({"weight_map": {"a": "x.bin"}}, "says that 'a' is in 'x.bin'; expected the name of a .safetensors"),
        ({"weight_map": {"a": 1}}, "says that 'a' is in 1; expected"),
        ({"weight_map": {"a": "x.safetensors"}}, "x.safetensors does not exist"),
        ({"weight_map": {str(n): "x.safetensors" for n in range(20_001)}}, "names 20,001 tensors; expected"),
        ({"weight_map": {str(n): f"x{n}.safetensors" for n in range(1001)}}, "names 1,001 files; expected"),
    ],
)
def test_an_index_that_leads_elsewhere_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    index = write(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({**index, **change}))
    with pytest.raises(ModelFileError, match=message):
        read(tmp_path)


def test_a_file_holds_the_tensors_that_the_index_says(tmp_path: Path) -> None:
    index = write(tmp_path)
    path = tmp_path / "model.safetensors.index.json"
    first = index["weight_map"]["a"]
    path.write_text(json.dumps({"weight_map": {**index["weight_map"], "d": first}}))
    with pytest.raises(
        ModelFileError, match=f"{first} lacks d; expected the tensors that its index says; copy"
    ):
        read(tmp_path)
    path.write_text(json.dumps({"weight_map": {"a": first}}))
    with pytest.raises(ModelFileError, match=f"{first} holds b, which its index does not say of it"):
        read(tmp_path)
