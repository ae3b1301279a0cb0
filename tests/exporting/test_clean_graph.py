"""``model.onnx`` of every kind of network: the same function, of nodes that every compiler knows.

What torch.onnx.export does of itself, and what other compilers stumble over: weights in a second file, opset
20, a batch dimension called s77 or fixed to 1, and eleven nodes of shape arithmetic for an average pooling.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from deepresidual.errors import ModelFileError
from deepresidual.exporting import export
from deepresidual.exporting.onnx_file import write_onnx
from deepresidual.models import TorchClassifier
from deepresidual.preprocess import MeanImage
from deepresidual.spec import ResNetSpec
from tests.exporting.conftest import tiny_model
from tests.kinds import BASIC, BOTTLENECK, KINDS, classifier_of, each_classifier, network_of

ALWAYS = {"Cast", "Sub", "Div", "Transpose", "Conv", "Relu", "ReduceMean", "Gemm", "Softmax"}
FEW = ("shortcut A", "bottleneck full-preactivation")


def pixels_of(model: TorchClassifier, count: int = 3) -> NDArray[np.uint8]:
    side = model.preprocess.crop_px
    shape = (count, side, side, model.preprocess.num_channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def nodes_of(spec: ResNetSpec) -> set[str]:
    """Return the nodes that a network may have beside those of all; most have only the addition."""
    pads_shortcut = spec.shortcut not in ("none", "B", "C")
    follows_an_addition = spec.is_preactivated or spec.arrangement == "bn-after-addition"
    return {"Add"}.union(
        {"MaxPool"} if spec.stem == "imagenet" else set(),
        {"Pad"} if spec.padding in ("tensorflow", "keras") else set(),
        # No convolution is there for this BN to be folded into.
        {"BatchNormalization"} if follows_an_addition else set(),
        {"Slice", "Pad"} if pads_shortcut else set(),
        {"Slice"} if spec.widths[0] < 8 else set(),  # SubsampledConv2d
        {"Mul"} if spec.shortcut == "scaled" else set(),
        {"Mul", "Sigmoid"} if "gating" in spec.shortcut else set(),
        set() if spec.has_usual_head else {"Concat", "Mul", "Sqrt"},
    )


@pytest.mark.parametrize("name", each_classifier(*FEW))
def test_every_kind_is_a_clean_graph_and_the_same_function(name: str, tmp_path: Path) -> None:
    model = classifier_of(KINDS[name])
    write_onnx(model, tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    graph = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    onnx.checker.check_model(graph, full_check=True)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 18)]
    for tensor in (*graph.graph.input, *graph.graph.output):
        assert tensor.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [tensor.name for tensor in graph.graph.input] == ["pixels"]
    assert [tensor.name for tensor in graph.graph.output] == ["probabilities", "logits"]
    kinds = {node.op_type for node in graph.graph.node}
    assert kinds >= ALWAYS
    assert kinds - ALWAYS <= nodes_of(model.spec)

    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for count in (1, 3):
        pixels = pixels_of(model, count)
        expected = model.logits(pixels)
        probabilities, logits = session.run(["probabilities", "logits"], {"pixels": pixels})
        assert logits == pytest.approx(expected, abs=1e-4 * float(expected.std()))
        assert probabilities == pytest.approx(model.probabilities(expected), abs=1e-5)


ODD = dataclasses.replace(BOTTLENECK, depths=(1, 1), widths=(8, 8))


def with_mean_image(model: TorchClassifier) -> TorchClassifier:
    values = np.random.default_rng(1).random((32, 32, 3), np.float32)
    image = MeanImage.from_array(values)
    record = dataclasses.replace(model.preprocess, mean_image=image, mean=image.average())
    return model.with_preprocess(record)


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(lambda: with_mean_image(classifier_of(BASIC)), id="mean image"),
        pytest.param(
            lambda: classifier_of(BASIC, "multilabel"), id="several labels", marks=pytest.mark.test_all
        ),
        pytest.param(lambda: classifier_of(ODD, side=33), id="an odd side", marks=pytest.mark.test_all),
    ],
)
def test_other_records_and_tasks_are_in_the_graph(
    model: Callable[[], TorchClassifier], tmp_path: Path
) -> None:
    made = model()
    write_onnx(made, tmp_path / "model.onnx")
    session, pixels = onnxruntime.InferenceSession(tmp_path / "model.onnx"), pixels_of(made)
    probabilities, logits = session.run(["probabilities", "logits"], {"pixels": pixels})
    expected = made.logits(pixels)
    assert logits == pytest.approx(expected, abs=1e-4 * float(expected.std()))
    assert probabilities == pytest.approx(made.probabilities(expected), abs=1e-5)
    ends = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node} & {"Sigmoid", "Softmax"}
    assert ends == ({"Sigmoid"} if made.task == "multilabel" else {"Softmax"})


def test_batch_normalization_is_folded_into_the_weights_that_are_written(tmp_path: Path) -> None:
    model = tiny_model()
    write_onnx(model, tmp_path / "model.onnx")
    names = {tensor.name for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer}
    convolutions = sum(name.endswith("weight") for name in names) - 1  # the classifier's is not one
    assert convolutions == sum(
        ".conv" in f".{name}" for name in model.network.state_dict() if "weight" in name
    )
    assert not [name for name in names if "running" in name or ".bn" in name]


def test_a_backbone_has_no_classes_to_export(tmp_path: Path) -> None:
    spec = KINDS["backbone"]
    backbone = TorchClassifier(network_of(spec), (), classifier_of(BASIC).preprocess)
    with pytest.raises(ModelFileError, match="the model is a backbone"):
        export(backbone, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
