"""Write a model as ONNX: one file, opset 18, the batch dimension dynamic and named."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from typing import TYPE_CHECKING

import torch

from deepresidual.backends.engine import imported
from deepresidual.backends.export_module import ExportModule
from deepresidual.backends.signature import CONTRACT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from deepresidual.backends.pytorch import TorchClassifier

OPSET = 18


METADATA = "residual"
"""Key of a JSON document in the metadata of a file: labels, task, preprocessing, the contract in words."""


def write_onnx(model: TorchClassifier, path: Path) -> None:
    """Write a model as an ONNX file.

    Args:
        model: The model, on the CPU.
        path: The file.

    Raises:
        MissingDependencyError: onnx or onnxscript is not installed.
        OSError: The file cannot be written.
    """
    onnx = imported("onnx", path, "onnx")
    imported("onnxscript", path, "onnx")  # what torch writes ONNX with
    module, side = ExportModule.of(model), model.preprocess.crop_px
    # Of two images: a batch of one would be taken for a constant.
    sample = torch.zeros(2, side, side, model.preprocess.num_channels, dtype=torch.uint8)
    with quiet(), torch.inference_mode():
        program = torch.onnx.export(
            module,
            (sample,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["pixels"],
            output_names=["probabilities", "logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            external_data=False,
            verbose=False,
        )
    assert program is not None  # noqa: S101  # only without dynamo it writes by itself
    graph = program.model_proto
    facts = {
        "label_names": model.label_names,
        "task": model.task,
        "preprocess": model.preprocess.to_dict(),
        "contract": CONTRACT,
    }
    onnx.helper.set_model_props(graph, {METADATA: json.dumps(facts)})
    onnx.save(graph, path)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leave out what the exporter says of its own inside."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
