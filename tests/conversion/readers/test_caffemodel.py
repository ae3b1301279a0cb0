"""Caffe's files, written with the reader's message classes and, where that proves more, byte by byte."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.conversion.readers import caffemodel, read, read_binaryproto
from deepresidual.errors import MissingDependencyError, ModelFileError

pytest.importorskip("google.protobuf")


def fill(blob: Any, tensor: torch.Tensor, *, legacy: bool = False) -> None:
    blob.data = tensor.float().numpy().tobytes()
    if legacy:
        blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - tensor.ndim) + tuple(tensor.shape)
    else:
        blob.shape.dim.extend(tensor.shape)


def a_net() -> Any:
    net = caffemodel.messages()["NetParameter"](name="ResNet-50", input=["data"])
    conv = net.layer.add(name="conv1", type="Convolution", bottom=["data"], top=["conv1"])
    conv.convolution_param.num_output = 2
    conv.convolution_param.kernel_size.append(3)
    conv.convolution_param.bias_term = False
    fill(conv.blobs.add(), torch.arange(54.0).reshape(2, 3, 3, 3))
    norm = net.layer.add(name="bn_conv1", type="BatchNorm", bottom=["conv1"], top=["conv1"])
    norm.batch_norm_param.use_global_stats = True
    fill(norm.blobs.add(), torch.tensor([1.0, 2.0]), legacy=True)
    fill(norm.blobs.add(), torch.tensor([3.0, 4.0]))
    fill(norm.blobs.add(), torch.tensor([0.5]))
    pool = net.layer.add(name="pool5", type="Pooling", bottom=["conv1"], top=["pool5"])
    pool.pooling_param.pool = 1
    pool.pooling_param.global_pooling = True
    net.layer.add(name="sum", type="Eltwise", bottom=["a", "b"], top=["sum"])
    return net


VALID = a_net().SerializeToString()


@pytest.mark.child
def test_a_net_comes_back_layer_by_layer_on_the_whole_way(tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(VALID)
    checkpoint = read(tmp_path / "net")
    assert checkpoint.format == "caffemodel"
    assert {name: tuple(tensor.shape) for name, tensor in checkpoint.tensors.items()} == {
        "conv1/0": (2, 3, 3, 3),
        "bn_conv1/0": (1, 1, 1, 2),
        "bn_conv1/1": (2,),
        "bn_conv1/2": (1,),
    }
    assert torch.equal(checkpoint.tensors["conv1/0"].flatten(), torch.arange(54.0))
    assert checkpoint.tensors["bn_conv1/2"].tolist() == [0.5]
    assert (checkpoint.metadata["name"], checkpoint.metadata["input"]) == ("ResNet-50", ["data"])
    conv, norm, pool, eltwise = checkpoint.metadata["layers"]
    assert conv == {
        "name": "conv1",
        "type": "Convolution",
        "bottom": ["data"],
        "top": ["conv1"],
        "blobs": [[2, 3, 3, 3]],
        "convolution_param": {"num_output": 2, "bias_term": False, "kernel_size": [3]},
    }
    assert norm["batch_norm_param"] == {"use_global_stats": True}
    assert pool["pooling_param"] == {"pool": "AVE", "global_pooling": True}
    assert eltwise == {"name": "sum", "type": "Eltwise", "bottom": ["a", "b"], "top": ["sum"], "blobs": []}


def field(number: int, content: bytes) -> bytes:
    key = number << 3 | 2
    head = bytes([key]) if key < 128 else bytes([key & 127 | 128, key >> 7])
    size = len(content)
    return head + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + content


def test_the_field_numbers_are_those_of_caffe_proto(tmp_path: Path) -> None:
    """Bytes put together from caffe.proto alone."""
    data = field(5, struct.pack("<2f", 1.5, -2.0))
    diff = field(6, struct.pack("<2f", 9.0, 9.0))
    blob = field(7, data + diff + field(7, field(1, b"\x02\x01")))
    settings = field(106, b"\x08\x02" + b"\x10\x00" + b"\x18\x03" + b"\x20\x07" + b"\x28\x01" + b"\x30\x02")
    layer = field(1, b"c") + field(2, b"Convolution") + field(3, b"in") + field(4, b"out") + blob + settings
    pooling = field(121, b"\x08\x01\x10\x03\x18\x02\x20\x01\x60\x01")
    norm = field(139, b"\x08\x01" + b"\x15" + struct.pack("<f", 0.5) + b"\x1d" + struct.pack("<f", 0.25))
    scale = field(142, b"\x20\x01")
    (tmp_path / "x").write_bytes(
        field(1, b"net") + field(100, layer) + field(100, pooling + norm + scale + field(117, b"\x08\x0a"))
    )
    tensors, metadata = caffemodel.parse(tmp_path / "x")
    assert tensors["c/0"].tolist() == [[1.5], [-2.0]]
    assert metadata["layers"][0]["convolution_param"] == {
        "num_output": 2,
        "bias_term": False,
        "pad": [3],
        "kernel_size": [7],
        "group": 1,
        "stride": [2],
    }
    second = metadata["layers"][1]
    assert second["pooling_param"] == {
        "pool": "AVE",
        "kernel_size": 3,
        "stride": 2,
        "pad": 1,
        "global_pooling": True,
    }
    assert second["batch_norm_param"] == {
        "use_global_stats": True,
        "moving_average_fraction": 0.5,
        "eps": 0.25,
    }
    assert second["scale_param"] == {"bias_term": True}
    assert second["inner_product_param"] == {"num_output": 10}


def test_a_mean_image_is_read(tmp_path: Path) -> None:
    image = torch.arange(12.0).reshape(3, 2, 2)
    blob = caffemodel.messages()["BlobProto"]()
    fill(blob, image, legacy=True)
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    assert torch.equal(read_binaryproto(tmp_path / "mean.binaryproto"), image)
    blob.channels = 4
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    with pytest.raises(
        ModelFileError, match=r"mean\.binaryproto is damaged \(blob 'mean' of shape \(1, 4, 2, 2\)"
    ):
        read_binaryproto(tmp_path / "mean.binaryproto")
    with pytest.raises(ModelFileError, match="does not exist"):
        read_binaryproto(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("dim", "data", "text"),
    [
        ([10**6, 10**6], bytes(4), r"of shape \(1000000, 1000000\) has 1 values"),
        ([-1, -1], bytes(4), r"of shape \(-1, -1\) has 1 values"),
        ([2], bytes(4), r"of shape \(2,\) has 1 values"),
        ([1] * 40, bytes(4), r"has 1 values"),
        ([1], bytes(5), "ends within a number"),
    ],
)
def test_a_blob_is_held_against_its_shape(tmp_path: Path, dim: list[int], data: bytes, text: str) -> None:
    net = a_net()
    net.layer[0].blobs[0].data = data
    net.layer[0].blobs[0].shape.dim[:] = dim
    (tmp_path / "x").write_bytes(net.SerializeToString())
    with pytest.raises(ModelFileError, match=text):
        caffemodel.parse(tmp_path / "x")


def test_the_first_format_and_two_layers_of_one_name_are_refused(tmp_path: Path) -> None:
    net = a_net()
    net.layer.append(net.layer[0])
    (tmp_path / "x").write_bytes(net.SerializeToString())
    with pytest.raises(ModelFileError, match="has two layers named 'conv1'"):
        caffemodel.parse(tmp_path / "x")
    net.layers.add()
    (tmp_path / "x").write_bytes(net.SerializeToString())
    with pytest.raises(
        ModelFileError, match=r"Caffe's first format \(V1\); .*; convert it with Caffe's upgrade"
    ):
        caffemodel.parse(tmp_path / "x")


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.caffemodel").write_bytes(VALID[:-3])
    with pytest.raises(ModelFileError, match=r"x\.caffemodel is damaged or no Caffe file"):
        read(tmp_path / "x.caffemodel")
    (tmp_path / "x.caffemodel").write_bytes(VALID[:11])
    with pytest.raises(ModelFileError, match=r"is damaged or no Caffe model \(it has no layers\)"):
        caffemodel.parse(tmp_path / "x.caffemodel")


def test_without_protobuf_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    with pytest.raises(
        MissingDependencyError, match=r"needs protobuf; run: pip install 'deepresidual\[caffe\]'"
    ):
        caffemodel.require()


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
    path = tmp_path_factory.getbasetemp() / "mutated.caffemodel"
    for changed in (bytes(content), VALID[:cut]):
        path.write_bytes(changed)
        try:
            tensors, _ = caffemodel.parse(path)
        except ModelFileError:
            continue
        assert sum(tensor.nbytes for tensor in tensors.values()) <= len(changed)
