"""Torch7's binary form, from a writer of the tests' own; and files that claim what they do not hold."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.conversion.readers import read, torch7
from deepresidual.errors import ModelFileError
from tests.conversion.readers.writers import Function, Module, Torch7Writer, torch7_network, write_torch7

VALID = bytes(Torch7Writer().write(torch7_network()).out)


def tag(value: int) -> bytes:
    return struct.pack("<i", value)


def name(value: str) -> bytes:
    return tag(len(value)) + value.encode()


TENSOR = tag(4) + tag(1) + name("V 1") + name("torch.FloatTensor")
STORAGE = tag(4) + tag(2) + name("V 1") + name("torch.FloatStorage")


def tensor_bytes(shape: list[int], strides: list[int], offset: int, held: int) -> bytes:
    longs = struct.pack(f"<{2 * len(shape) + 1}q", *shape, *strides, offset)
    return TENSOR + tag(len(shape)) + longs + STORAGE + struct.pack("<q", held) + bytes(4 * held)


def table_of(value: bytes) -> bytes:
    """A table {a = value}; its own index is 9."""
    return tag(3) + tag(9) + tag(1) + tag(2) + name("a") + value


@pytest.mark.child
def test_a_network_comes_back_by_module_path_on_the_whole_way(tmp_path: Path) -> None:
    network = torch7_network()
    checkpoint = read(write_torch7(tmp_path / "resnet.t7", network))
    conv, inner, linear = network.fields["modules"]
    norm = inner.fields["modules"][0].fields["modules"][0]
    assert checkpoint.format == "torch7"
    assert list(checkpoint.tensors) == [
        "0.weight",
        *("1.0.0.weight", "1.0.0.bias", "1.0.0.running_mean", "1.0.0.running_std"),
        *("2.weight", "2.bias"),
    ]
    for prefix, module in (("0", conv), ("1.0.0", norm), ("2", linear)):
        for field in torch7._PARAMETERS:
            if field in module.fields:
                found = checkpoint.tensors[f"{prefix}.{field}"]
                assert found.dtype == module.fields[field].dtype
                assert torch.equal(found, module.fields[field])
    assert checkpoint.metadata["modules"] == {
        "": {"type": "nn.Sequential"},
        "0": {
            "type": "cudnn.SpatialConvolution",
            "kW": 3,
            "padW": 1,
            "groups": 1,
            "_type": "torch.CudaTensor",
            "train": False,
        },
        "1": {"type": "nn.Sequential"},
        "1.0": {"type": "nn.ConcatTable"},
        "1.0.0": {"type": "nn.SpatialBatchNormalization", "eps": 1e-5, "momentum": 0.1, "affine": True},
        "1.0.1": {"type": "nn.Identity"},
        "2": {"type": "nn.Linear"},
    }
    assert list(checkpoint.metadata["modules"]) == ["", "0", "1", "1.0", "1.0.0", "1.0.1", "2"]


def test_a_table_around_a_network_and_a_table_of_tensors_are_read(tmp_path: Path) -> None:
    weight = torch.randn(2, 3)
    linear = Module("nn.Linear", {"weight": weight})
    tensors, metadata = torch7.parse(write_torch7(tmp_path / "a", {"model": linear, "epoch": 3}))
    assert (list(tensors), metadata["unwrapped"]) == (["weight"], ["model"])
    tensors, _ = torch7.parse(write_torch7(tmp_path / "b", {"x": weight, "y": weight.t(), 1: "z"}))
    assert torch.equal(tensors["x"], weight)
    assert torch.equal(tensors["y"], weight.t())


def test_files_from_before_versions_and_numbers_without_end_are_read(tmp_path: Path) -> None:
    network = Module("nn.Linear", {"weight": torch.ones(2), "a": float("inf"), "b": 2.5, "c": "é"})
    raw = bytes(Torch7Writer().write(network).out)
    (tmp_path / "x").write_bytes(raw.replace(name("V 1"), b""))
    tensors, metadata = torch7.parse(tmp_path / "x")
    assert tensors["weight"].tolist() == [1, 1]
    assert metadata["modules"][""] == {"type": "nn.Linear", "a": "inf", "b": 2.5, "c": "é"}


def test_functions_are_stepped_over_and_their_code_is_not_kept(tmp_path: Path) -> None:
    legacy = tag(6) + name("code") + tag(0)
    function = Function(b"\x1bLJ os.execute('touch marker')")
    raw = table_of(legacy)
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(ModelFileError, match="is a Torch7 file without weights"):
        torch7.parse(tmp_path / "x")
    tensors, metadata = torch7.parse(
        write_torch7(
            tmp_path / "y", Module("nn.Lambda", {"f": function, "g": function, "weight": torch.ones(1)})
        )
    )
    assert list(tensors) == ["weight"]
    assert metadata["modules"] == {"": {"type": "nn.Lambda"}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            tensor_bytes([10**6, 10**6], [0, 0], 1, 1),
            r"a tensor of shape \(1000000, 1000000\) in a storage of 1 ",
        ),
        (tensor_bytes([3], [1], 1, 2), r"a tensor of shape \(3,\) in a storage of 2 values"),
        (tensor_bytes([2], [1], 2, 2), r"a tensor of shape \(2,\) in a storage of 2 values"),
        (tensor_bytes([2], [2**62], 1, 2), r"a tensor of shape \(2,\) in a storage of 2 values"),
        (tensor_bytes([-2], [1], 1, 2), "a tensor of negative size, stride or offset"),
        (tensor_bytes([2], [-1], 2, 2), "a tensor of negative size, stride or offset"),
        (tensor_bytes([1], [1], 0, 2), "a tensor of negative size, stride or offset"),
        (TENSOR + tag(10**6), "a tensor of 1000000 dimensions"),
        (TENSOR + tag(-1), "a tensor of -1 dimensions"),
        (
            tensor_bytes([1], [1], 1, 1)[:-12] + struct.pack("<q", 2**61),
            "a count of 2,305,843,009,213,693,952",
        ),
        (tensor_bytes([1], [1], 1, 1)[:-12] + struct.pack("<q", -1), "a count of -1"),
        (tag(3) + tag(5) + tag(2**31 - 1), "a count of 2,147,483,647"),
        (tag(2) + tag(2**31 - 1), r"2,147,483,647 bytes where 0 are left"),
        (tag(2) + tag(-5), "-5 bytes where 0 are left"),
        (tag(8) + tag(5) + tag(2**30), r"1,073,741,824 bytes where 0 are left"),
        (tag(99), "the tag 99"),
        (
            tag(4) + tag(5) + name("V 1") + name("os.Evil") + tag(0),
            r"the content of the class 'os\.Evil' is no table",
        ),
        (
            b"".join(tag(3) + tag(50 + n) + tag(1) for n in range(400)) + bytes(9000),
            "objects nest deeper than 150",
        ),
    ],
)
def test_what_a_file_claims_is_held_against_its_bytes(tmp_path: Path, value: bytes, text: str) -> None:
    (tmp_path / "x.t7").write_bytes(table_of(value))
    with pytest.raises(ModelFileError, match=text):
        torch7.parse(tmp_path / "x.t7")


def nested(levels: int) -> Module:
    """A network of a few hundred bytes that holds 2^levels modules."""
    module = Module("nn.Identity", {})
    for _ in range(levels):
        module = Module("nn.Sequential", {"modules": [module, module]})
    return module


def test_modules_that_repeat_or_hold_themselves_end(tmp_path: Path) -> None:
    circle = Module("nn.Sequential", {"modules": []})
    circle.fields["modules"].append(circle)
    for network in (circle, nested(30)):
        with pytest.raises(ModelFileError, match="modules without end"):
            torch7.parse(write_torch7(tmp_path / "x.t7", network))


def test_one_weight_in_many_places_is_no_way_to_fill_the_memory(tmp_path: Path) -> None:
    linear = Module("nn.Linear", {"weight": torch.zeros(1000)})
    network = Module("nn.Sequential", {"modules": [linear] * 100})
    with pytest.raises(ModelFileError, match="the tensors are larger than the file"):
        torch7.parse(write_torch7(tmp_path / "x.t7", network))


@pytest.mark.parametrize("value", [3, "x", {}, {"a": 1}, Module("nn.Identity", {}), torch.ones(2)])
def test_what_holds_no_weights_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ModelFileError, match="is a Torch7 file without weights"):
        torch7.parse(write_torch7(tmp_path / "x.t7", value))


def parse_or_refuse(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        tensors, _ = torch7.parse(path)
    except ModelFileError:
        return
    assert sum(tensor.nbytes for tensor in tensors.values()) <= 8 * len(content)


@given(
    changes=st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.integers(0, len(VALID)),
)
def test_changed_bytes_give_tensors_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(VALID)
    for position, value in changes:
        content[position] = value
    parse_or_refuse(tmp_path_factory.getbasetemp() / "mutated.t7", bytes(content))
    parse_or_refuse(tmp_path_factory.getbasetemp() / "cut.t7", VALID[:cut])


@given(words=st.lists(st.integers(-2, 9) | st.sampled_from([10**6, 2**31 - 1]), max_size=40))
def test_random_tags_and_counts_give_tensors_or_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, words: list[int]
) -> None:
    content = table_of(b"".join(map(tag, words)))
    parse_or_refuse(tmp_path_factory.getbasetemp() / "words.t7", content)
