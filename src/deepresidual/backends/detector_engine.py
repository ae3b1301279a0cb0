"""``DetectorEngine``: what runs an exported detector, and one function that opens it. No torch is imported.

An engine is called by several threads at once. Each request takes one image of a size of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from deepresidual.backends.engine import ENGINES
from deepresidual.errors import ModelFileError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from deepresidual.backends.engine import EngineSettings
    from deepresidual.backends.object_detector import FoundInView
    from deepresidual.backends.signature import Signature

OUTPUTS = ("boxes", "labels", "scores", "masks")
"""Names of the outputs of a file; a detector of boxes has no masks."""


class DetectorEngine(ABC):
    """An exported detector that is ready to compute.

    Attributes:
        settings: How it computes.
        version: Version of the library that computes.
    """

    settings: EngineSettings
    version: str

    @abstractmethod
    def find(self, pixels: NDArray[np.uint8]) -> FoundInView:
        """Find the objects of one image ``(height, width, C)`` uint8, in the calling thread."""


def open_detector_engine(folder: Path, signature: Signature, settings: EngineSettings) -> DetectorEngine:
    """Open an exported detector for one of the engines that run it.

    Raises:
        ModelFileError: The engine does not run this format, or refuses the file.
        MissingDependencyError: The engine is not installed.
    """
    file = folder / signature.file
    if settings.engine == "onnxruntime" and signature.format == "onnx":
        from deepresidual.backends.onnx_runtime import OnnxRuntimeDetector

        return OnnxRuntimeDetector(file, settings)
    if settings.engine == "openvino" and signature.format in ("onnx", "openvino"):
        from deepresidual.backends.open_vino_detector import OpenVinoDetector

        return OpenVinoDetector(file, settings)
    raise ModelFileError(
        f"{folder} holds {signature.file}, a detector, which {settings.engine} does not run",
        expected=f"--backend {' or '.join(ENGINES[signature.format])}",
    )
