"""Measure what the choices behind ``residual export --int8`` cost, on training images that calibrate nothing.

The defaults were chosen by this table and not on test images, which only judge them
(``benchmarks/exported_accuracy.py``). Each bundled CIFAR network is made int8 in several ways, calibrated on
images of the first part of the training images and computed by both engines on the last 10,000, against
PyTorch in float32.

Example::

    python benchmarks/int8.py cifar10-jpeg --out int8.json
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from deepresidual.backends.engine import EngineSettings
from deepresidual.backends.onnx_runtime import OnnxRuntimeEngine
from deepresidual.backends.open_vino import OpenVinoEngine
from deepresidual.benchmarks.measurement import measured_commit
from deepresidual.data.loader import evaluation_batches
from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.validation import Subset
from deepresidual.exporting.calibration import calibration_views
from deepresidual.exporting.gate import top1_loss
from deepresidual.exporting.int8_options import NUM_IMAGES, WeightBits
from deepresidual.exporting.layer_errors import correct_biases, layer_errors
from deepresidual.exporting.onnx_file import write_onnx
from deepresidual.exporting.quantize import layers_of, prepared, quantized
from deepresidual.models import TorchClassifier, load_torch
from deepresidual.runtime.console import note
from deepresidual.runtime.cpu import telling_flags
from deepresidual.runtime.device import describe_hardware
from deepresidual.runtime.files import write_json
from deepresidual.runtime.provenance import now, version_of, versions

MODELS = ("resnet20-cifar10", "resnet56-cifar10")
MEASURED = 10_000
_BATCH_SIZE = 100


@dataclass(frozen=True)
class Way:
    """A way to make a network int8; the default is what ``residual export`` does."""

    images: int = NUM_IMAGES
    weight_bits: WeightBits = 7
    first_in_float: bool = False
    corrected: bool = True


WAYS = {
    "default": Way(),
    "biases as they are": Way(corrected=False),
    "first convolution in float": Way(first_in_float=True),
    "8-bit weights": Way(weight_bits=8),
    "100 images": Way(images=100),
    "1,000 images": Way(images=1000),
}


def halves(source: SampleSource, measured: int) -> tuple[SampleSource, SampleSource]:
    """Return the training images that may calibrate, and those that are measured."""
    train = source.split("train")
    border = len(train) - measured
    parts = (range(border), range(border, len(train)))
    return tuple(replace(source, splits={"train": Subset(train, part)}) for part in parts)  # type: ignore[return-value]


def made(way: Way, fp32: onnx.ModelProto, source: SampleSource, model: TorchClassifier) -> onnx.ModelProto:
    """Return the network as int8."""
    pixels = calibration_views(source, model.preprocess, way.images).pixels
    in_float = layers_of(fp32.graph)[:1] if way.first_in_float else []
    small = quantized(fp32, pixels, in_float=in_float, weight_bits=way.weight_bits)
    if way.corrected:
        correct_biases(small, layer_errors(fp32, small, pixels[:64], 1))
    return small


def engines(path: Path) -> Iterator[tuple[str, Callable[[NDArray[np.uint8]], NDArray[np.float32]]]]:
    """Yield the engines with what computes logits."""
    yield "onnxruntime", OnnxRuntimeEngine(path, EngineSettings("onnxruntime")).logits
    yield "openvino", OpenVinoEngine(path, EngineSettings("openvino", batch=_BATCH_SIZE)).logits


def rows_of(name: str, source: SampleSource, measured: int) -> Iterator[dict[str, Any]]:
    """Measure all ways of one network."""
    model = load_torch(name)
    calibrating, judging = halves(source, measured)
    batches = list(
        evaluation_batches(judging.split("train"), model.preprocess, batch_size=_BATCH_SIZE, num_workers=0)
    )
    rows = np.array([model.label_names.index(label) for label in source.classes])
    labels = rows[np.concatenate([batch.targets.numpy() for batch in batches])]
    pixels = [batch.pixels.numpy() for batch in batches]
    reference = np.concatenate([model.logits(part) for part in pixels])
    with tempfile.TemporaryDirectory(prefix="residual-int8-") as place:
        float_file, file = Path(place) / "fp32.onnx", Path(place) / "int8.onnx"
        write_onnx(model, float_file)
        fp32 = prepared(float_file)
        for title, way in WAYS.items():
            onnx.save(made(way, fp32, calibrating, model), file)
            for engine, compute in engines(file):
                logits = np.concatenate([compute(part) for part in pixels])
                loss = top1_loss(reference.argmax(axis=1), logits.argmax(axis=1), labels)
                rms = float(np.sqrt(np.mean(np.square(logits - reference))) / reference.std())
                note(f"{name}, {title}, {engine}: {loss}, rms {rms:.4f} of the deviation")
                yield {
                    "model": name, "way": title, "engine": engine, **loss.to_dict(), "rms_of_deviation": rms,
                }  # fmt: skip


def main() -> None:
    """Read the command line, measure and write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--images", type=int, default=MEASURED, help="measure on the last N")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    # Before anything is measured: a checkout may move on meanwhile.
    commit, source = measured_commit(), open_source(options.data)
    rows = [row for name in options.models for row in rows_of(name, source, options.images)]
    write_json(
        options.out,
        {
            "schema_version": 1,
            "benchmark": "int8",
            "command": ["python", "benchmarks/int8.py", options.data.name],
            "commit": commit,
            "date": now(),
            "versions": versions() | {name: version_of(name) for name in ("onnxruntime", "openvino")},
            "hardware": describe_hardware(torch.device("cpu")) | {"flags": list(telling_flags())},
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
