"""Make the layers of a detector's ONNX graph int8; what chooses boxes stays as it is.

Int8 are the convolutions of the backbone, of the pyramid and of the heads, and the linear layers of the box
head: nearly all multiplications. The predictors of scores, codes and masks stay in float, since their error
goes straight into what is found, and so does everything between the layers: decoding, suppression, reading
of regions. :mod:`.quantize` does the same for classifiers.

Images have sizes of their own here, and a region head may be given nothing, so the ranges are measured by
outputs that are added to the graph instead of by onnxruntime's calibrator; its quantizer takes them as they
are. They are measured once, for all networks that are tried.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import TensorsData

from deepresidual.exporting.layer_errors import LayerError, layer_errors
from deepresidual.exporting.quantize import PASSING, Layer, keep_own_facts, layers_of, quiet, without_range

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import GraphProto, ModelProto, NodeProto

    from deepresidual.exporting.int8_options import WeightBits

PREDICTORS = (
    "rpn.head.cls_logits",
    "rpn.head.bbox_pred",
    "roi_heads.box_predictor",
    "roi_heads.mask_predictor",
)
"""What is in float from the beginning."""

# What the parts of a graph are called in the network.
_PLACES = {
    "body": "backbone.body",
    "fpn": "backbone.fpn",
    "head": "rpn.head",
    "box_head": "roi_heads.box_head",
    "box_predictor": "roi_heads.box_predictor",
    "mask_head": "roi_heads.mask_head",
    "mask_predictor": "roi_heads.mask_predictor",
}

_PARTS = ("trunk/", "head/", "mask_head/")
_LAYERS = ("Conv", "Gemm")
_PASSING = [*PASSING, "Resize"]
_PREFIX = "residual/range/"
_NUM_EXAMPLES = 16  # an image of 800 px has as many positions as sixteen of 200 px


class QuantizableDetector:
    """A detector as a float graph, with the ranges of its tensors.

    Args:
        fp32: The graph, as :func:`~deepresidual.exporting.quantize.prepared` returns it.
        pixels: ``(H, W, C)`` uint8 images, read one by one; the ranges are those that tensors have in them.
        threads: Threads to compute on.

    Attributes:
        fp32: The graph.
        layers: What can be int8, in the order in which it is computed.
        examples: The first 16 images in which something is found, so that every layer sees something.
    """

    def __init__(self, fp32: ModelProto, pixels: Iterable[NDArray[np.uint8]], threads: int) -> None:
        self.fp32 = fp32
        names = [node.name for node in fp32.graph.node]
        assert len(set(names)) == len(names)  # noqa: S101  # the builder and torch's exporter name all nodes
        endless = set(without_range(fp32.graph))
        self._passing = {
            node.name
            for node in fp32.graph.node
            if node.name.startswith(_PARTS) and node.op_type in _PASSING and node.name not in endless
        }
        self.layers = _int8_layers(fp32.graph)
        of_layers = {node for layer in self.layers for node in layer.nodes}
        self._computing = {
            node.name for node in fp32.graph.node if node.name in of_layers and node.op_type in _LAYERS
        }
        self._ranges, self.examples = self._measured(pixels, threads)

    def quantized(self, in_float: Sequence[Layer] = (), weight_bits: WeightBits = 7) -> ModelProto:
        """Return the graph whose layers are int8.

        Args:
            in_float: Layers to leave as they are.
            weight_bits: 7, or 8 for CPUs with VNNI and ARM.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.fp32)
        excluded = {node for layer in in_float for node in layer.nodes}
        chosen = self._computing | self._passing
        with quiet():
            quantizer = QDQQuantizer(
                model,
                per_channel=True,
                reduce_range=weight_bits == 7,
                weight_qType=QuantType.QInt8,
                activation_qType=QuantType.QUInt8,
                tensors_range=TensorsData(CalibrationMethod.MinMax, dict(self._ranges)),
                nodes_to_quantize=sorted(chosen - excluded),
                nodes_to_exclude=sorted(excluded),
                op_types_to_quantize=[*_LAYERS, *_PASSING],
                extra_options={},
            )
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        done: ModelProto = quantizer.model.model
        keep_own_facts(done, self.fp32)
        return done

    def errors(self, int8: ModelProto, threads: int) -> dict[str, LayerError]:
        """Return the error of every int8 layer by its node; the share is the largest of its weights.

        Args:
            int8: The graph with all layers int8.
            threads: Threads to compute on.
        """
        errors = layer_errors(self.fp32, int8, self.examples, threads)
        for layer in self.layers:
            share = max(errors[node].share for node in layer.nodes if node in errors)
            errors[layer.node] = dataclasses.replace(errors[layer.node], share=share)
        return errors

    def _measured(
        self, pixels: Iterable[NDArray[np.uint8]], threads: int
    ) -> tuple[dict[str, tuple[Any, Any]], list[NDArray[np.uint8]]]:
        """Return the smallest and largest value of each tensor, 0 among them; and images with objects."""
        chosen = self._computing | self._passing
        tensors = _float_tensors(self.fp32, [node for node in self.fp32.graph.node if node.name in chosen])
        session = onnxruntime.InferenceSession(
            _with_ranges(self.fp32, tensors).SerializeToString(),
            _options(threads),
            providers=["CPUExecutionProvider"],
        )
        names = [f"{_PREFIX}{tensor}/{end}" for tensor in tensors for end in ("min", "max")]
        lowest, highest = np.zeros(len(tensors), np.float32), np.zeros(len(tensors), np.float32)
        examples: list[NDArray[np.uint8]] = []
        for image in pixels:
            scores, *found = session.run(["scores", *names], {"pixels": image})
            lowest, highest = np.minimum(lowest, found[::2]), np.maximum(highest, found[1::2])
            if len(scores) and len(examples) < _NUM_EXAMPLES:
                examples.append(image)
        return dict(zip(tensors, zip(lowest, highest, strict=True), strict=True)), examples


def _int8_layers(graph: GraphProto) -> list[Layer]:
    """Return the layers that can be int8, by their names in the network.

    What is computed several times by the same weights is one layer, since these are rounded for all: the
    proposal head on the levels of a pyramid, and of ``c4`` the last stage for boxes and for masks.
    """
    found: dict[str, Layer] = {}
    for layer in layers_of(graph, _LAYERS):
        part, _, rest = layer.name.removeprefix("last_stage.").partition(".")
        name = f"{_PLACES.get(part, part)}.{rest}"
        if layer.node.startswith(_PARTS) and not name.startswith(PREDICTORS):
            first = found.setdefault(name, dataclasses.replace(layer, name=name, nodes=()))
            found[name] = dataclasses.replace(first, nodes=(*first.nodes, *layer.nodes))
    return list(found.values())


def _float_tensors(model: ModelProto, nodes: Sequence[NodeProto]) -> list[str]:
    """Return the names of what nodes read and give, constants left out."""
    constants = {tensor.name for tensor in model.graph.initializer}
    named = dict.fromkeys(
        tensor for node in nodes for tensor in (node.input[0], *_further(node), *node.output)
    )
    return [tensor for tensor in named if tensor and tensor not in constants]


def _further(node: NodeProto) -> Iterator[str]:
    """Yield what a node reads besides its first input, where that is a tensor of numbers like it."""
    if node.op_type in ("Add", "Concat", "Mul"):
        yield from node.input[1:]


def _with_ranges(model: ModelProto, tensors: Sequence[str]) -> ModelProto:
    """Return the network with the smallest and the largest value of tensors as outputs."""
    measured = onnx.ModelProto()
    measured.CopyFrom(model)
    graph = measured.graph
    flat, zero = f"{_PREFIX}flat", f"{_PREFIX}zero"
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), flat))
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), zero))
    for tensor in tensors:
        name = f"{_PREFIX}{tensor}"
        graph.node.append(helper.make_node("Reshape", [tensor, flat], [f"{name}/flat"]))
        # A range holds 0 anyway, and of no objects there is nothing else.
        graph.node.append(helper.make_node("Concat", [f"{name}/flat", zero], [f"{name}/with 0"], axis=0))
        for operator, end in (("ReduceMin", "min"), ("ReduceMax", "max")):
            graph.node.append(helper.make_node(operator, [f"{name}/with 0"], [f"{name}/{end}"], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(f"{name}/{end}", TensorProto.FLOAT, []))
    return measured


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return options
