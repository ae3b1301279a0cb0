"""An int8 export has passed the gate in the engines of this machine, or there is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import deepresidual
from deepresidual.backends.engine_choice import engines_for
from deepresidual.cli import main
from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.validation import Subset
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.exporting import Export, export, int8, int8_search
from deepresidual.exporting.gate import Gate, Limits, Loss
from deepresidual.exporting.int8_options import Int8Options
from deepresidual.exporting.int8_report import Attempt, EngineVerdict
from deepresidual.exporting.layer_errors import correct_biases, layer_errors
from deepresidual.exporting.onnx_file import write_onnx
from deepresidual.exporting.quantize import layers_of, prepared, quantized
from deepresidual.models import TorchClassifier, load_torch
from deepresidual.runtime.compute import Backend
from tests.kinds import KINDS, network_of


def few_digits(count: int = 120) -> SampleSource:
    """Return the digits with fewer images to judge by."""
    source = open_source("digits")
    return replace(source, splits={**source.splits, "test": Subset(source.split("test"), range(count))})


def spoiled(places: int) -> TorchClassifier:
    """Return a network that is the same function, whose first maps in some units have one huge channel.

    ReLU lets a factor through, and the convolution behind it takes it back. The range of such a map leaves
    two of 256 steps for its other channels.
    """
    model = load_torch("resnet20-digits")
    units = [unit for stage in ("layer1", "layer2", "layer3") for unit in model.network.get_submodule(stage)]  # type: ignore[attr-defined]
    with torch.no_grad():
        for unit in units[:places]:
            unit.bn1.weight[0] *= 2000
            unit.bn1.bias[0] *= 2000
            unit.conv2.weight[:, 0] /= 2000
    return model


@pytest.fixture(scope="module")
def digits_int8(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Return the bundled network of digits as int8."""
    options = Int8Options(few_digits(), calibration_images=40)
    return export("resnet20-digits", tmp_path_factory.mktemp("int8") / "out", int8=options, resize="none")


@pytest.fixture(autouse=True, scope="module")
def _short_passes() -> Iterator[None]:
    """Measure how fast a file is in a tenth of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8_search, "_PASS_S", 0.005)
        yield


def test_weights_have_7_bits_a_scale_a_channel_and_activations_8(digits_int8: Export) -> None:
    graph = onnx.load(digits_int8.path / "model.onnx").graph
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by = {output: node for node in graph.node for output in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 19
    for node in convolutions:
        weight, activation = made_by[node.input[1]], made_by[node.input[0]]
        assert values[weight.input[0]].dtype == np.int8
        assert np.abs(values[weight.input[0]].astype(int)).max() in (63, 64)
        assert len(values[weight.input[1]]) == len(values[weight.input[0]])
        assert values[activation.input[2]].dtype == np.uint8


def test_outputs_and_classifier_are_float(digits_int8: Export) -> None:
    graph = onnx.load(digits_int8.path / "model.onnx").graph
    last = {node.output[0]: node.op_type for node in graph.node}
    assert (last["probabilities"], last["logits"]) == ("Softmax", "Gemm")
    assert {tensor.name for tensor in graph.initializer} >= {"network.fc.weight"}


def test_the_signature_says_how_it_was_made_and_judged(digits_int8: Export) -> None:
    document = json.loads((digits_int8.path / "signature.json").read_text())
    assert (document["precision"], document["quantization"]["in_float"]) == ("int8", ["fc"])
    calibration, gate = document["quantization"]["calibration"], document["certificate"]["gate"]
    assert len(calibration["keys"]) == calibration["count"] == 40
    assert (calibration["split"], gate["split"]) == ("train", "test")
    assert gate["statement"] == "not shown within 0.5 point: 120 images are fewer than 2,000"
    engines = [engine["engine"].split()[0] for engine in gate["engines"]]
    assert engines == ["onnxruntime", "openvino"]
    for engine in gate["engines"]:
        assert engine["loss"] <= 0.005
        assert engine["agreement"] >= 0.98
        assert engine["speed"] > 0


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_it_predicts_as_the_model_does(digits_int8: Export, backend: Backend) -> None:
    source, model = few_digits(), load_torch("resnet20-digits")
    from deepresidual.data.loader import evaluation_batches

    (batch,) = evaluation_batches(source.split("test"), model.preprocess, batch_size=120, num_workers=0)
    pixels = batch.pixels.numpy()
    logits, expected = (
        deepresidual.load(digits_int8.path, backend=backend).logits(pixels),
        model.logits(pixels),
    )
    assert np.sqrt(np.square(logits - expected).mean()) < 0.05 * expected.std()
    assert (logits.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.99


def test_layers_with_huge_channels_stay_in_float(tmp_path: Path) -> None:
    done = export(
        spoiled(1), tmp_path / "out", int8=Int8Options(few_digits(), calibration_images=20), resize="none"
    )
    assert done.int8 is not None
    assert {"layer1.0.conv1", "layer1.0.conv2", "conv1", "fc"} <= set(done.int8.in_float)
    refused = json.loads((tmp_path / "out/signature.json").read_text())["certificate"]["gate"]["attempts"]
    assert refused[0]["in_float"] == ["fc"]


def test_what_loses_too_much_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_search, "_MOST_WORST", 0)
    with pytest.raises(
        ModelFileError, match=r"int8 does not pass on digits \(test\), even with (conv1, )?fc in float"
    ) as error:
        export(spoiled(9), tmp_path / "out", int8=Int8Options(few_digits(), calibration_images=20))
    assert error.value.exit_code == 3
    assert "clear views are off by" in error.value.found
    assert not list(tmp_path.iterdir())


def test_a_limit_that_is_missed_is_named_and_so_is_what_would_accept() -> None:
    loss = Loss("top1", 0.8, 0.8, (-0.02, 0.02), 149 / 153, 153)
    failure = Limits().failure(loss)
    refused = EngineVerdict("onnxruntime 1.32.0", loss, failure, Limits().excess(loss))
    error = int8_search.refusal("ants (val)", Attempt(("fc",), (refused,)), Limits(), 0)
    assert error.found.endswith("97.39% of the best classes agree (149 of 153), fewer than 98%")
    assert error.remedy.startswith("nothing was written; --min-agreement 0.97 accepts it, or judge on more")
    assert "calibrate" not in error.remedy
    more = int8_search.refusal("ants (val)", Attempt(("fc",), (refused,)), Limits(), 9)
    assert "calibrate on more images" in more.remedy


def test_two_layers_that_do_not_help_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = Loss("top1", 0.8, 0.8, (-0.02, 0.02), 0.97, 120)
    judged: list[bool] = []

    def refuse(bench: object, model: object, *, all_engines: bool = False) -> tuple[EngineVerdict, ...]:
        judged.append(all_engines)
        return (EngineVerdict("onnxruntime 1", loss, Limits().failure(loss), Limits().excess(loss)),)

    monkeypatch.setattr(int8._Bench, "judged", refuse)
    with pytest.raises(ModelFileError, match="even with fc in float: onnxruntime 1: 97.00%"):
        export("resnet20-digits", tmp_path / "out", int8=Int8Options(few_digits(), calibration_images=8))
    assert judged == [False, False, False, True]


def test_beyond_the_usual_limits_the_certificate_says_what_was_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Loss("top1", 0.8, 0.8, (-0.02, 0.02), 0.975, 120)
    monkeypatch.setattr(Gate, "loss", lambda *_: loss)
    options = Int8Options(few_digits(), calibration_images=8, min_agreement=0.97)
    done = export("resnet20-digits", tmp_path / "out", int8=options, resize="none")
    gate = json.loads((done.path / "signature.json").read_text())["certificate"]["gate"]
    assert (gate["most_loss"], gate["least_agreement"], len(gate["accepted"])) == (0.005, 0.97, 2)
    assert "97.50% of the best classes agree (117 of 120), fewer than 98%" in gate["accepted"][0]
    assert "Beyond the usual limits" in (done.path / "README.md").read_text()


def test_auto_takes_an_engine_that_was_judged(digits_int8: Export) -> None:
    signature = digits_int8.signature
    assert engines_for(digits_int8.path, signature, "auto") == ("onnxruntime", "openvino")
    gate = signature.certificate["gate"]
    only = replace(signature, certificate={"gate": {**gate, "engines": gate["engines"][1:]}})
    assert engines_for(digits_int8.path, only, "auto") == ("openvino",)
    assert engines_for(digits_int8.path, only, "onnxruntime") == ("onnxruntime",)
    other = replace(signature, certificate={"gate": {**gate, "engines": [{"engine": "another 1.0"}]}})
    assert engines_for(digits_int8.path, other, "auto") == ("onnxruntime", "openvino")


# -- single layers -----------------------------------------------------------------------------------------


def small_network(kind: str, folder: Path) -> tuple[Path, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """Write a small network as ONNX, and return its file and views that are no noise."""
    spec = KINDS[kind]
    record = deepresidual.Preprocess(
        crop_px=16, resize_px=16, mean=(0.5,) * spec.in_channels, std=(0.25,) * spec.in_channels
    )
    model = TorchClassifier(network_of(spec), tuple("abcde"), record)
    write_onnx(model, folder / "fp32.onnx")
    tiles = np.random.default_rng(0).integers(0, 256, (16, 4, 4, spec.in_channels), np.uint8)
    return folder / "fp32.onnx", tiles.repeat(4, axis=1).repeat(4, axis=2)


def logits_of(model: onnx.ModelProto, pixels: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    logits: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = session.run(["logits"], {"pixels": pixels})[0]
    return logits


@pytest.mark.test_all
@pytest.mark.parametrize(
    "kind",
    ["shortcut exclusive-gating", "full-preactivation", "groups", "padding tensorflow"],
)
def test_all_convolutions_of_every_kind_of_network_become_int8(kind: str, tmp_path: Path) -> None:
    file, pixels = small_network(kind, tmp_path)
    fp32 = prepared(file)
    small = quantized(fp32, pixels)
    onnx.checker.check_model(small, full_check=True)
    errors = layer_errors(fp32, small, pixels, 1)
    correct_biases(small, errors)
    assert set(errors) == {layer.node for layer in layers_of(fp32.graph)}
    assert max(error.share for error in errors.values()) < 0.2
    expected = logits_of(fp32, pixels)
    assert np.sqrt(np.square(logits_of(small, pixels) - expected).mean()) < 0.05 * expected.std()
    assert [version.domain for version in small.opset_import] == [""]


def test_corrected_biases_leave_no_shift(tmp_path: Path) -> None:
    file, pixels = small_network("shortcut A", tmp_path)
    fp32 = prepared(file)
    small = quantized(fp32, pixels)
    before = layer_errors(fp32, small, pixels, 1)
    correct_biases(small, before)
    after = layer_errors(fp32, small, pixels, 1)
    for name in before:
        assert np.abs(after[name].shift).max() <= 0.05 * np.abs(before[name].shift).max() + 1e-4
        assert after[name].share <= before[name].share * 1.01


def test_a_layer_in_float_is_float_and_so_is_its_input(tmp_path: Path) -> None:
    file, pixels = small_network("shortcut A", tmp_path)
    fp32 = prepared(file)
    layer = next(layer for layer in layers_of(fp32.graph) if layer.name == "layer1.1.conv1")
    small = quantized(fp32, pixels, in_float=[layer])
    made_by = {output: node for node in small.graph.node for output in node.output}
    convolution = next(node for node in small.graph.node if node.name == layer.node)
    assert convolution.input[1] not in made_by
    assert convolution.input[0] in made_by
    assert made_by[convolution.input[0]].op_type == "Relu"


# -- options -----------------------------------------------------------------------------------------------


DIGITS = ["resnet20-digits", "--int8", "--data", "digits"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet20-digits", "--int8"], "--int8 is given without --data, and resnet20-digits is no run"),
        (["resnet20-digits", "--split", "val"], "--split is given without --data"),
        ([*DIGITS, "--split", "training"], "int8 is calibrated on training images"),
        ([*DIGITS, "--calibration-images", "0"], "calibration_images is 0"),
        ([*DIGITS, "--min-agreement", "97"], "min_agreement is 97"),
        ([*DIGITS, "--max-loss", "-1"], "max_loss is -1"),
        ([*DIGITS, "--to", "pt2"], "--int8 is given with --to pt2"),
    ],
)
def test_options_that_make_no_sense_together(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, *options = arguments
    assert main(["export", model, str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


def test_data_that_does_not_exist_is_told_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(
        ["export", "resnet20-digits", str(tmp_path / "out"), "--int8", "--data", str(tmp_path / "phots")]
    )
    assert code == 3
    assert "phots does not exist" in capsys.readouterr().err


def test_weights_of_9_bits_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="weight_bits is 9; expected 7 or 8"):
        Int8Options("digits", weight_bits=9)  # type: ignore[arg-type]
