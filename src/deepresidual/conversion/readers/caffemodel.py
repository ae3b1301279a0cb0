"""Read Caffe's ``.caffemodel`` and ``.binaryproto``, with message classes that are built when needed.

Only the fields that a residual network uses are described, with the numbers of Caffe's ``caffe.proto``;
protobuf keeps the others aside unread. The numbers of a blob are declared ``bytes`` instead of
``repeated float``: packed floats have the same form in the file, and no Python object is made for each.
"""

from __future__ import annotations

import functools
import importlib
import math
from pathlib import Path
from typing import Any

import torch

from deepresidual.errors import MissingDependencyError, ModelFileError, quoted

# message → field → (number, type, repeated); a type in capitals is a message or an enumeration.
_FIELDS: dict[str, dict[str, tuple[int, str, bool]]] = {
    "BlobShape": {"dim": (1, "int64", True)},
    "BlobProto": {
        "num": (1, "int32", False),
        "channels": (2, "int32", False),
        "height": (3, "int32", False),
        "width": (4, "int32", False),
        "data": (5, "bytes", False),
        "shape": (7, "BlobShape", False),
        "double_data": (8, "bytes", False),
    },
    "ConvolutionParameter": {
        "num_output": (1, "uint32", False),
        "bias_term": (2, "bool", False),
        "pad": (3, "uint32", True),
        "kernel_size": (4, "uint32", True),
        "group": (5, "uint32", False),
        "stride": (6, "uint32", True),
        "pad_h": (9, "uint32", False),
        "pad_w": (10, "uint32", False),
        "kernel_h": (11, "uint32", False),
        "kernel_w": (12, "uint32", False),
        "stride_h": (13, "uint32", False),
        "stride_w": (14, "uint32", False),
        "dilation": (18, "uint32", True),
    },
    "PoolingParameter": {
        "pool": (1, "PoolMethod", False),
        "kernel_size": (2, "uint32", False),
        "stride": (3, "uint32", False),
        "pad": (4, "uint32", False),
        "kernel_h": (5, "uint32", False),
        "kernel_w": (6, "uint32", False),
        "stride_h": (7, "uint32", False),
        "stride_w": (8, "uint32", False),
        "pad_h": (9, "uint32", False),
        "pad_w": (10, "uint32", False),
        "global_pooling": (12, "bool", False),
        "round_mode": (13, "RoundMode", False),
    },
    "BatchNormParameter": {
        "use_global_stats": (1, "bool", False),
        "moving_average_fraction": (2, "float", False),
        "eps": (3, "float", False),
    },
    "EltwiseParameter": {"operation": (1, "EltwiseOp", False), "coeff": (2, "float", True)},
    "InnerProductParameter": {
        "num_output": (1, "uint32", False),
        "bias_term": (2, "bool", False),
        "axis": (5, "int32", False),
        "transpose": (6, "bool", False),
    },
    "ScaleParameter": {
        "axis": (1, "int32", False),
        "num_axes": (2, "int32", False),
        "bias_term": (4, "bool", False),
    },
    "LayerParameter": {
        "name": (1, "string", False),
        "type": (2, "string", False),
        "bottom": (3, "string", True),
        "top": (4, "string", True),
        "blobs": (7, "BlobProto", True),
        "convolution_param": (106, "ConvolutionParameter", False),
        "eltwise_param": (110, "EltwiseParameter", False),
        "inner_product_param": (117, "InnerProductParameter", False),
        "pooling_param": (121, "PoolingParameter", False),
        "batch_norm_param": (139, "BatchNormParameter", False),
        "scale_param": (142, "ScaleParameter", False),
    },
    "V1LayerParameter": {},
    "NetParameter": {
        "name": (1, "string", False),
        "layers": (2, "V1LayerParameter", True),
        "input": (3, "string", True),
        "input_dim": (4, "int32", True),
        "input_shape": (8, "BlobShape", True),
        "layer": (100, "LayerParameter", True),
    },
}
_ENUMERATIONS = {
    "PoolMethod": ("MAX", "AVE", "STOCHASTIC"),
    "RoundMode": ("CEIL", "FLOOR"),
    "EltwiseOp": ("PROD", "SUM", "MAX_OF"),
}


def require() -> Any:
    """Import protobuf.

    Returns:
        The package ``google.protobuf`` with the modules used here.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        for module in ("descriptor_pb2", "descriptor_pool", "message_factory", "message"):
            importlib.import_module(f"google.protobuf.{module}")
        return importlib.import_module("google.protobuf")
    except ImportError as error:
        raise MissingDependencyError.of_extra("reading Caffe's files needs protobuf", "caffe") from error


@functools.cache
def messages() -> dict[str, Any]:
    """Return the message classes by name (``NetParameter``, ``LayerParameter``, ``BlobProto``, …).

    In a ``BlobProto``, ``data`` and ``double_data`` are little-endian bytes rather than lists.

    Raises:
        MissingDependencyError: protobuf is not installed.
    """
    protobuf = require()
    kinds = protobuf.descriptor_pb2.FieldDescriptorProto
    # A pool and package of our own: another library in this process may bring the whole of caffe.proto.
    file = protobuf.descriptor_pb2.FileDescriptorProto(
        name="residual_caffe.proto", package="residual.caffe", syntax="proto2"
    )
    for name, values in _ENUMERATIONS.items():
        enumeration = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enumeration.value.add(name=f"{name}_{value}", number=number)
    for message_name, fields in _FIELDS.items():
        message = file.message_type.add(name=message_name)
        for name, (number, kind, repeated) in fields.items():
            added = message.field.add(name=name, number=number)
            added.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind in _FIELDS or kind in _ENUMERATIONS:
                added.type = kinds.TYPE_MESSAGE if kind in _FIELDS else kinds.TYPE_ENUM
                added.type_name = f".residual.caffe.{kind}"
            else:
                added.type = getattr(kinds, f"TYPE_{kind.upper()}")
                if message_name == "BlobShape":
                    added.options.packed = True
    pool = protobuf.descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: protobuf.message_factory.GetMessageClass(pool.FindMessageTypeByName(f"residual.caffe.{name}"))
        for name in _FIELDS
    }


def parse(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the layers of a ``.caffemodel``.

    Args:
        path: The file.

    Returns:
        The blobs by layer and number (``conv1/0``), and metadata: ``name`` and ``input`` of the net, and
        ``layers``: in order, of each layer ``name``, ``type``, ``bottom``, ``top``, ``blobs`` (shapes) and
        the settings that the file states, such as ``convolution_param``.

    Raises:
        ModelFileError: The file is damaged or of Caffe's first format.
        MissingDependencyError: protobuf is not installed.
    """
    net = _parse_message("NetParameter", path)
    if net.layers:
        raise ModelFileError(
            f"{path} has layers in Caffe's first format (V1)",
            expected="the format since 2014",
            remedy="convert it with Caffe's upgrade_net_proto_binary",
        )
    if not net.layer:
        raise ModelFileError(f"{path} is damaged or no Caffe model (it has no layers)")
    tensors: dict[str, torch.Tensor] = {}
    layers: list[dict[str, Any]] = []
    for layer in net.layer:
        shapes = []
        for number, blob in enumerate(layer.blobs):
            name = f"{layer.name}/{number}"
            if name in tensors:
                raise ModelFileError(f"{path} has two layers named {quoted(layer.name)}")
            tensors[name] = _tensor(blob, name, path)
            shapes.append(list(tensors[name].shape))
        described = {
            "name": layer.name,
            "type": layer.type,
            "bottom": list(layer.bottom),
            "top": list(layer.top),
            "blobs": shapes,
        }
        layers.append(described | {name: _plain(layer, name) for name in _settings(layer)})
    return tensors, {"name": net.name, "input": list(net.input), "layers": layers}


def parse_mean(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the one blob of a ``.binaryproto``: the tensor ``mean``, and no metadata; see :func:`parse`."""
    return {"mean": _tensor(_parse_message("BlobProto", path), "mean", path)}, {}


def read_binaryproto(path: Path) -> torch.Tensor:
    """Read a mean image in a child process with limits.

    Args:
        path: A ``.binaryproto`` file.

    Returns:
        The image, (C, H, W), float32, in the file's channel order (Caffe's is blue, green, red).

    Raises:
        ModelFileError: The file is missing, damaged, too large, or holds something else.
        MissingDependencyError: protobuf is not installed.
    """
    from deepresidual.conversion.readers import regular_size, sandbox

    tensors, _ = sandbox.run("binaryproto", path, regular_size(path))
    mean = tensors["mean"]
    shape = tuple(mean.shape)
    if len(shape) == 4 and shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3 or mean.numel() == 0:
        raise ModelFileError(f"{path} holds a blob of shape {shape}", expected="one image, (1, C, H, W)")
    return mean.float()


def _parse_message(name: str, path: Path) -> Any:
    decode_error = require().message.DecodeError
    try:
        return messages()[name].FromString(path.read_bytes())
    except (decode_error, UnicodeDecodeError) as error:
        raise ModelFileError(
            f"{path} is damaged or no Caffe file (protobuf cannot parse it)",
            remedy="get the file from its source again",
        ) from error


def _settings(layer: Any) -> list[str]:
    return [field.name for field, _ in layer.ListFields() if field.name.endswith("_param")]


def _plain(layer: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, value in getattr(layer, name).ListFields():
        kind = _FIELDS[type(getattr(layer, name)).DESCRIPTOR.name][field.name][1]
        if kind in _ENUMERATIONS:
            found[field.name] = _ENUMERATIONS[kind][value].removesuffix("_OF")
        elif _FIELDS[type(getattr(layer, name)).DESCRIPTOR.name][field.name][2]:
            found[field.name] = [_finite(item) for item in value]
        else:
            found[field.name] = _finite(value)
    return found


def _finite(value: float | bool) -> float | bool | str:
    # JSON has no infinity.
    return value if math.isfinite(value) else repr(value)


def _tensor(blob: Any, name: str, path: Path) -> torch.Tensor:
    wide = bool(blob.double_data)
    dtype, raw = (torch.float64, blob.double_data) if wide else (torch.float32, blob.data)
    if len(raw) % dtype.itemsize:
        raise ModelFileError(f"{path} is damaged (blob {quoted(name)} ends within a number)")
    count = len(raw) // dtype.itemsize
    if blob.HasField("shape"):
        shape = list(blob.shape.dim)
    elif any(blob.HasField(side) for side in ("num", "channels", "height", "width")):
        shape = [blob.num, blob.channels, blob.height, blob.width]
    else:
        shape = [count]
    if len(shape) > 32 or min(shape, default=1) < 0 or math.prod(shape) != count:
        raise ModelFileError(
            f"{path} is damaged (blob {quoted(name)} of shape {tuple(shape[:32])} has {count:,} values)"
        )
    values = torch.frombuffer(bytearray(raw), dtype=dtype) if count else torch.empty(0, dtype=dtype)
    return values.reshape(shape)
