"""Measure what each int8 convolution does wrong by itself, and correct what it does wrong on average.

Rounded weights shift the mean of a channel, since what a convolution reads is mostly positive (Nagel et al.
2019, arXiv 1906.04721, section 4.2). The shift is measured on calibration views, every convolution on the
inputs that the float network gives it, and taken back by its bias: resnet20-cifar10 names the same class as
in float for 99.4 % of images instead of 99.1 % (``benchmarks/int8.py``). What is left tells which layers are
to stay in float where a network loses too much.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

_BATCH = 8
_PREFIX = "residual/"


@dataclass(frozen=True)
class LayerError:
    """What one int8 convolution does wrong, given right inputs.

    Attributes:
        shift: ``(C,)`` by how much its outputs are too small, mean over views and positions.
        share: Root of the mean square of its error as a share of that of what it gives on, at most 1, mean
            over channels: one large channel does not hide that the others are lost.
    """

    shift: NDArray[np.float64]
    share: float


@dataclass(frozen=True)
class _Quantized:
    """An int8 convolution: the node, the scale and zero point of its input, and its weights."""

    node: NodeProto
    input_range: tuple[str, str]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    bias_name: str
    bias_scale: NDArray[np.float64]


def layer_errors(
    fp32: ModelProto, int8: ModelProto, pixels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8], threads: int
) -> dict[str, LayerError]:
    """Return the error of every int8 convolution, and of every int8 linear layer, by the name of its node.

    Args:
        fp32: The network.
        int8: The same with int8 convolutions, as onnxruntime's quantizer writes them.
        pixels: ``(N, S, S, C)`` uint8; of a network that takes one image of any size ``(H, W, C)`` each.
        threads: Threads to compute on.
    """
    layers = list(_quantized_convolutions(int8))
    if not layers:
        return {}
    session = _session(_with_errors(fp32, int8.graph, layers), threads)
    names = [f"{_PREFIX}{layer.node.name}/{what}" for layer in layers for what in ("shift", "error", "size")]
    sums: list[Any] = [0.0] * len(names)
    for part, count in _parts(pixels):
        found = session.run(names, {"pixels": part})
        sums = [total + count * value.astype(np.float64) for total, value in zip(sums, found, strict=True)]
    errors = {}
    for place, layer in enumerate(layers):
        shift, error, size = (value / len(pixels) for value in sums[3 * place : 3 * place + 3])
        alive = size > 0
        shares = np.sqrt(error[alive] / size[alive]).clip(max=1)
        errors[layer.node.name] = LayerError(shift, float(shares.mean()) if alive.any() else 0.0)
    return errors


def _parts(
    pixels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Yield what is computed at a time, and how many images that are."""
    if not isinstance(pixels, np.ndarray):
        yield from ((each, 1) for each in pixels)
        return
    for first in range(0, len(pixels), _BATCH):
        part = pixels[first : first + _BATCH]
        yield part, len(part)


def correct_biases(int8: ModelProto, errors: dict[str, LayerError]) -> None:
    """Add to the bias of every int8 convolution what its outputs are too small by."""
    tensors = {tensor.name: tensor for tensor in int8.graph.initializer}
    for layer in _quantized_convolutions(int8):
        tensor = tensors[layer.bias_name]
        steps = np.rint(errors[layer.node.name].shift / layer.bias_scale).astype(np.int64)
        corrected = numpy_helper.to_array(tensor).astype(np.int64) + steps
        limits = np.iinfo(np.int32)
        values = corrected.clip(limits.min, limits.max).astype(np.int32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def _quantized_convolutions(int8: ModelProto) -> Iterator[_Quantized]:
    """Yield the int8 convolutions of a network, in order."""
    values = {tensor.name: tensor for tensor in int8.graph.initializer}
    made_by = {output: node for node in int8.graph.node for output in node.output}

    def dequantized(name: str) -> tuple[NodeProto, NDArray[Any], NDArray[np.float64]]:
        node = made_by[name]
        steps, scale = (numpy_helper.to_array(values[each]) for each in node.input[:2])
        return node, steps, scale.astype(np.float64)

    for node in int8.graph.node:
        weight = made_by.get(node.input[1]) if node.op_type in ("Conv", "Gemm") else None
        if weight is None or weight.op_type != "DequantizeLinear":
            continue
        _, weight_steps, weight_scale = dequantized(node.input[1])
        bias, bias_steps, bias_scale = dequantized(node.input[2])
        values_of = weight_steps * weight_scale.reshape(-1, *[1] * (weight_steps.ndim - 1))
        yield _Quantized(
            node,
            (made_by[node.input[0]].input[1], made_by[node.input[0]].input[2]),
            values_of.astype(np.float32),
            (bias_steps * bias_scale).astype(np.float32),
            bias.input[0],
            bias_scale,
        )


def _with_errors(fp32: ModelProto, int8: GraphProto, layers: list[_Quantized]) -> ModelProto:
    """Return the float network with every int8 convolution beside its own, and outputs that compare both."""
    model = onnx.ModelProto()
    model.CopyFrom(fp32)
    graph = model.graph
    values = {tensor.name: tensor for tensor in int8.initializer}
    float_nodes = {node.name: node for node in graph.node}
    written = {output for node in graph.node for output in node.output}
    quantized = {node.input[0]: node for node in int8.node if node.op_type == "QuantizeLinear"}
    added: dict[str, str] = {}

    def constant(name: str, array: NDArray[Any]) -> str:
        graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def add(operator: str, inputs: list[str], output: str) -> str:
        graph.node.append(helper.make_node(operator, inputs, [output], name=output))
        return output

    def add_mean(tensor: str, output: str) -> None:
        """Add the mean over images and positions, of each channel."""
        axes = others[own.op_type]
        node = helper.make_node("ReduceMean", [tensor, axes], [output], name=output, keepdims=0)
        graph.node.append(node)
        graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))

    def rounded(tensor: str, scale: str, zero: str) -> str:
        """Return the tensor as its int8 numbers tell it; made once."""
        if tensor not in added:
            range_ = [
                constant(f"{_PREFIX}{tensor}/{part}", numpy_helper.to_array(values[name]))
                for part, name in (("scale", scale), ("zero", zero))
            ]
            steps = add("QuantizeLinear", [tensor, *range_], f"{_PREFIX}{tensor}/steps")
            added[tensor] = add("DequantizeLinear", [steps, *range_], f"{_PREFIX}{tensor}/rounded")
        return added[tensor]

    others = {
        operator: constant(f"{_PREFIX}all but channels/{operator}", np.array(axes))
        for operator, axes in (("Conv", [0, 2, 3]), ("Gemm", [0]))
    }
    for layer in layers:
        own, name = float_nodes[layer.node.name], f"{_PREFIX}{layer.node.name}"
        inputs = [
            rounded(own.input[0], *layer.input_range),
            constant(f"{name}/weight", layer.weight),
            constant(f"{name}/bias", layer.bias),
        ]
        graph.node.append(helper.make_node(own.op_type, inputs, [f"{name}/output"], name=f"{name}/output"))
        graph.node[-1].attribute.extend(own.attribute)
        add_mean(add("Sub", [own.output[0], f"{name}/output"], f"{name}/gap"), f"{name}/shift")
        # What it gives on is rounded, too, and a ReLU behind it has become part of that.
        given_on, output = own.output[0], f"{name}/output"
        after = quantized.get(layer.node.output[0])
        if after is not None and layer.node.output[0] in written:
            given_on = layer.node.output[0]
            output = rounded(output, after.input[1], after.input[2])
        wrong = add("Sub", [given_on, output], f"{name}/wrong")
        add_mean(add("Mul", [wrong, wrong], f"{name}/wrong²"), f"{name}/error")
        add_mean(add("Mul", [given_on, given_on], f"{name}/given²"), f"{name}/size")
    return model


def _session(model: ModelProto, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # What is rounded here is to stay rounded as it is written.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
