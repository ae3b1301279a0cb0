"""Write a model for OpenVINO: ``model.xml`` with its weights, uncompressed, in ``model.bin``.

OpenVINO reads the ONNX file of :mod:`deepresidual.exporting.onnx_file` and writes its own, so that both are
the same graph, of float32 as of int8. ``openvino.convert_model`` would read PyTorch's modules as well; it
reports to its makers when it is used.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from deepresidual.backends.engine import imported
from deepresidual.errors import RunError
from deepresidual.exporting.onnx_file import write_onnx

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepresidual.backends.pytorch import TorchClassifier


def write_openvino(model: TorchClassifier, path: Path) -> None:
    """Write a model as ``path`` (``.xml``) and the ``.bin`` beside it.

    Args:
        model: The model, on the CPU.
        path: The file.

    Raises:
        MissingDependencyError: openvino, onnx or onnxscript is not installed.
        RunError: The files cannot be written.
    """
    write_by_onnx(path, lambda onnx: write_onnx(model, onnx))


def write_by_onnx(path: Path, write: Callable[[Path], None]) -> None:
    """Write ``path`` (``.xml``) and the ``.bin`` beside it from an ONNX file that is gone afterwards.

    Args:
        path: The file.
        write: Writes the ONNX file.

    Raises:
        MissingDependencyError: openvino is not installed.
        RunError: The files cannot be written.
    """
    imported("openvino", path, "openvino")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        onnx = Path(folder) / "model.onnx"
        write(onnx)
        convert_onnx(onnx, path)


def convert_onnx(onnx: Path, path: Path, *, batch: int | None = None) -> None:
    """Convert an ONNX file of ours, float32 or int8.

    Args:
        onnx: The file.
        path: The ``.xml`` to write, with a ``.bin`` beside it.
        batch: Images of a request, for servers that take the file as it is: OpenVINO 2026.4 computes some
            int8 networks wrongly where the number is left open. Default: left open.

    Raises:
        MissingDependencyError: openvino is not installed.
        RunError: The files cannot be written.
    """
    openvino = imported("openvino", path, "openvino")
    graph = openvino.Core().read_model(onnx)
    if batch is not None:
        pixels = graph.inputs[0]
        graph.reshape({pixels: [batch, *list(pixels.partial_shape)[1:]]})
    try:
        openvino.save_model(graph, path, compress_to_fp16=False)
    except RuntimeError as error:
        raise RunError(f"{path} cannot be written ({' '.join(str(error).split())})") from error
