"""Make convolutions of an ONNX file int8: onnxruntime's static quantization with pairs of Q and DQ.

Activations are uint8 and weights int8, a scale for every output channel, in 7 bits: on a CPU without VNNI
products of 8-bit numbers are added in pairs in 16 bits and saturate, which costs 2 to 2.6 points of CIFAR-10
without a word, and 255 · 64 · 2 is still below 2¹⁵. The classifier stays in float: it is a thousandth of the
multiplications, and its error goes straight into the logits.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

    from deepresidual.exporting.int8_options import WeightBits

PASSING = ["Add", "Concat", "MaxPool", "Mul", "Pad", "Relu", "Slice"]
"""What is computed in int8 where its inputs are. Others stay in float: a softmax or a sigmoid in 256 steps
would spoil the probabilities."""

_OPERATORS = ["Conv", *PASSING]
_BATCH = 8


@dataclass(frozen=True)
class Layer:
    """A layer that can be int8 or stay in float.

    Attributes:
        name: Its name in the network, such as ``layer1.0.conv2``.
        node: Name of its convolution in the graph.
        nodes: That, and the nodes which make its input or read it as well.
    """

    name: str
    node: str
    nodes: tuple[str, ...]


def layers_of(graph: GraphProto, operators: Collection[str] = ("Conv",)) -> list[Layer]:
    """Return the convolutions of a network, or other layers, in the order in which they are computed."""
    made_by = {output: node for node in graph.node for output in node.output}
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.node:
        for tensor in node.input:
            readers[tensor].append(node)
    found = []
    for node in graph.node:
        if node.op_type not in operators:
            continue
        nodes, waiting = [node.name], [node.input[0]]
        while waiting:
            tensor = waiting.pop()
            # What one reader wants rounded is rounded for all.
            nodes += [reader.name for reader in readers[tensor] if reader.op_type in PASSING]
            before = made_by.get(tensor)
            if before is not None and before.op_type in PASSING:
                nodes.append(before.name)
                # Beyond a sum begin the units before this one.
                waiting.extend(before.input if before.op_type != "Add" else ())
        name = node.input[1].removeprefix("network.").removesuffix(".weight")
        found.append(Layer(name, node.name, tuple(dict.fromkeys(nodes))))
    return found


def prepared(path: Path) -> ModelProto:
    """Read an ONNX file as the quantizer wants it: with all shapes, and a bias for each convolution."""
    model = onnx.load(path)
    biases = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Conv" and len(node.input) < 3:
            channels = biases[node.input[1]].dims[0]
            name = f"{node.input[1].removesuffix('.weight')}.bias"
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(channels, np.float32), name))
            node.input.append(name)
    return onnx.shape_inference.infer_shapes(model)


def quantized(
    fp32: ModelProto,
    pixels: NDArray[np.uint8],
    *,
    in_float: Sequence[Layer] = (),
    weight_bits: WeightBits = 7,
) -> ModelProto:
    """Return a network whose convolutions are int8.

    Args:
        fp32: The network, as :func:`prepared` returns it.
        pixels: ``(N, S, S, C)`` uint8 views; the ranges of all tensors are those that they have.
        in_float: Layers to leave as they are.
        weight_bits: 7, or 8 for CPUs with VNNI and ARM.
    """
    excluded = sorted({*without_range(fp32.graph), *(node for layer in in_float for node in layer.nodes)})
    with tempfile.TemporaryDirectory(prefix="residual-int8-") as scratch, quiet():
        before, after = Path(scratch) / "fp32.onnx", Path(scratch) / "int8.onnx"
        onnx.save(fp32, before)
        # Batch normalization is folded already; optimizing would only add operator sets of onnxruntime's.
        quant_pre_process(before, before, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            before,
            after,
            _Reader(pixels),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_OPERATORS,
            nodes_to_exclude=excluded,
            per_channel=True,
            reduce_range=weight_bits == 7,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        model = onnx.load(after)
    keep_own_facts(model, fp32)
    return model


def keep_own_facts(model: ModelProto, fp32: ModelProto) -> None:
    """Give a quantized network the metadata of the float one, and no operator sets that it does not use."""
    del model.metadata_props[:]
    model.metadata_props.extend(fp32.metadata_props)
    used = {node.domain for node in model.graph.node}
    own = [version for version in model.opset_import if version.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(own)


def without_range(graph: GraphProto) -> Iterator[str]:
    """Yield the nodes whose tensors have no range: padding by −∞ in front of a pooling, and that pooling."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    endless = {
        node.output[0]: node.name
        for node in graph.node
        if node.op_type == "Pad" and len(node.input) > 2 and values.get(node.input[2], np.zeros(1)).any()
    }
    yield from endless.values()
    yield from (node.name for node in graph.node if endless.keys() & set(node.input))


class _Reader:
    """Hands out the calibration views, a few at a time."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._parts = iter([pixels[first : first + _BATCH] for first in range(0, len(pixels), _BATCH)])

    def get_next(self) -> Mapping[str, NDArray[np.uint8]] | None:
        """Return the inputs of the next run, ``None`` after the last."""
        part = next(self._parts, None)
        return None if part is None else {"pixels": part}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out what the quantizer advises by way of the root logger, and what it warns of −∞."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
