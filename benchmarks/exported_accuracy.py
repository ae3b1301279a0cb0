"""Measure what exported models have right, every engine × precision, on a whole test set.

Each bundled CIFAR network is computed by PyTorch and by everything that its exports run on; int8 is
calibrated on training images of the same data. Beside the accuracy stand how many images have the class that
PyTorch gives in float32, how far the logits are from its own, and the paired interval of the difference of
the accuracies.

Example::

    python benchmarks/exported_accuracy.py cifar10-jpeg --out exported-accuracy.json
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepresidual.benchmarks.measurement import measured_commit
from deepresidual.data.decode import decode
from deepresidual.data.source import open_source
from deepresidual.evaluation.intervals import paired_difference_interval
from deepresidual.exporting import export
from deepresidual.exporting.int8_options import Int8Options
from deepresidual.models import TorchClassifier, load_torch
from deepresidual.models.exported import load_exported
from deepresidual.preprocess import Preprocess
from deepresidual.runtime.console import note
from deepresidual.runtime.cpu import telling_flags
from deepresidual.runtime.device import describe_hardware
from deepresidual.runtime.files import write_json
from deepresidual.runtime.provenance import now, version_of, versions

MODELS = ("resnet20-cifar10", "resnet56-cifar10")
_BATCH_SIZE = 100

Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def float_sides(model: TorchClassifier, place: Path) -> Iterator[tuple[str, str, Logits]]:
    """Yield engine, precision and what computes logits; the first is PyTorch in float32.

    Args:
        model: The model.
        place: A folder for what is exported.
    """
    yield "PyTorch", "fp32", model.logits
    yield "PyTorch", "bf16", model.in_precision("bf16").logits
    export(model, place / "pt2", to="pt2")
    yield "PyTorch, exported program", "fp32", load_exported(place / "pt2").logits
    export(model, place / "onnx", resize="none")
    for engine in ("onnxruntime", "openvino"):
        yield engine, "fp32", load_exported(place / "onnx", backend=engine).logits
    exported = load_exported(place / "onnx", backend="openvino")
    yield "openvino", "bf16", exported.in_precision("bf16").logits
    export(model, place / "xml", to="openvino")
    yield "openvino, model.xml", "fp32", load_exported(place / "xml").logits


def int8_sides(model: TorchClassifier, data: Path, place: Path) -> Iterator[tuple[str, str, Logits]]:
    """Yield the same of int8, which training images of ``data`` calibrate."""
    export(model, place / "int8", resize="none", int8=Int8Options(data))
    for engine in ("onnxruntime", "openvino"):
        yield engine, "int8", load_exported(place / "int8", backend=engine).logits


def test_views(
    data: Path, preprocess: Preprocess, split: str, limit: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Return central views ``(N, S, S, C)``, labels ``(N,)`` and the classes of a split."""
    source = open_source(data)
    samples = source.split(split)
    count = min(len(samples), limit) if limit else len(samples)
    contents = (samples.read(index).content for index in range(count))
    views = [preprocess.center_view(preprocess.to_channels(decode(content))) for content in contents]
    return np.stack(views), np.asarray(samples.labels[:count], np.int64), list(source.classes)


def measured(
    logits: NDArray[np.float32], reference: NDArray[np.float32], labels: NDArray[np.int64]
) -> dict[str, Any]:
    """Return what ``logits`` ``(N, K)`` have right, beside PyTorch's in float32."""
    classes, expected = logits.argmax(axis=1), reference.argmax(axis=1)
    is_right, was_right = classes == labels, expected == labels
    low, high = paired_difference_interval(
        int((was_right & ~is_right).sum()), int((is_right & ~was_right).sum()), len(labels)
    )
    rms = float(np.sqrt(np.mean((logits - reference) ** 2)))
    return {
        "count": len(labels),
        "right": int(is_right.sum()),
        "top1": float(is_right.mean()),
        "difference": float(is_right.mean() - was_right.mean()),
        "difference_interval": [low, high],
        "agreement": float((classes == expected).mean()),
        "rms_of_deviation": rms / float(reference.std()),
    }


def rows_of(name: str, data: Path, split: str, limit: int) -> Iterator[dict[str, Any]]:
    """Measure one bundled model by all its sides."""
    model = load_torch(name)
    pixels, labels, classes = test_views(data, model.preprocess, split, limit)
    labels = np.array([model.label_names.index(label) for label in classes])[labels]
    reference: NDArray[np.float32] | None = None
    with tempfile.TemporaryDirectory(prefix="residual-accuracy-") as place:
        sides = itertools.chain(float_sides(model, Path(place)), int8_sides(model, data, Path(place)))
        for engine, precision, compute in sides:
            logits = np.concatenate(
                [compute(pixels[first : first + _BATCH_SIZE]) for first in range(0, len(pixels), _BATCH_SIZE)]
            )
            reference = logits if reference is None else reference
            row = {"model": name, "engine": engine, "precision": precision}
            row |= measured(logits, reference, labels)
            note(f"{name}, {engine}, {precision}: {row['right']:,} of {row['count']:,}")
            yield row


def main() -> None:
    """Read the command line, measure and write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=0, help="the first N images alone")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = [
        row for name in options.models for row in rows_of(name, options.data, options.split, options.images)
    ]
    write_json(
        options.out,
        {
            "schema_version": 1,
            "benchmark": "exported-accuracy",
            "command": ["python", "benchmarks/exported_accuracy.py", options.data.name],
            "commit": measured_commit(),
            "date": now(),
            "versions": versions() | {name: version_of(name) for name in ("onnxruntime", "openvino")},
            "hardware": describe_hardware(torch.device("cpu")) | {"flags": list(telling_flags())},
            "threads": torch.get_num_threads(),
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
