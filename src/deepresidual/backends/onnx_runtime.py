"""``OnnxRuntimeEngine`` and ``OnnxRuntimeDetector``: an ONNX file, computed by ONNX Runtime on the CPU.

One session serves all threads; ``run`` may be called by several at once, and computes in the calling thread
where ``threads`` is 1. Fixed shapes keep its memory flat (the arena never shrinks).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepresidual.backends.detector_engine import OUTPUTS, DetectorEngine
from deepresidual.backends.engine import Engine, EngineSettings, imported
from deepresidual.errors import ModelFileError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from deepresidual.backends.object_detector import FoundInView

_QUIET = 3  # only errors: warnings of the optimizer are no user's concern


class OnnxRuntimeEngine(Engine):
    """Compute an ONNX file by ONNX Runtime.

    Args:
        path: The file.
        settings: How to compute.

    Raises:
        ModelFileError: ONNX Runtime refuses the file.
        MissingDependencyError: It is not installed, or broken.
    """

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        self.settings = settings
        self._session, self.version = _opened(path, settings)

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits ``(N, K)`` of views ``(N, S, S, C)`` uint8."""
        import numpy as np

        (logits,) = self._session.run(["logits"], {"pixels": np.ascontiguousarray(pixels)})
        values: Any = logits
        return values  # type: ignore[no-any-return]


class OnnxRuntimeDetector(DetectorEngine):
    """Compute the ONNX file of a detector by ONNX Runtime.

    Args:
        path: The file.
        settings: How to compute.

    Raises:
        ModelFileError: ONNX Runtime refuses the file.
        MissingDependencyError: It is not installed, or broken.
    """

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        self.settings = settings
        self._session, self.version = _opened(path, settings)
        there = {output.name for output in self._session.get_outputs()}
        self._outputs = [name for name in OUTPUTS if name in there]

    def find(self, pixels: NDArray[np.uint8]) -> FoundInView:
        """Find the objects of one image ``(height, width, C)`` uint8."""
        import numpy as np

        from deepresidual.backends.object_detector import FoundInView

        return FoundInView(*self._session.run(self._outputs, {"pixels": np.ascontiguousarray(pixels)}))


def _opened(path: Path, settings: EngineSettings) -> tuple[Any, str]:
    """Open a session, and return it with the version of the library."""
    onnxruntime = imported("onnxruntime", path, "onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _QUIET
    if not settings.optimize:
        # Without the layout of this processor: of ResNet-50 0.13 CPU seconds less to open, 190 MB instead
        # of 320, and 80 ms an image instead of 55.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    # Threads that spin between requests take the cores from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises a dozen classes of its own
        reason = " ".join(str(error).split())
        raise ModelFileError(
            f"ONNX Runtime {onnxruntime.__version__} cannot open {path}: {reason}",
            remedy="export the model again",
        ) from error
    return session, onnxruntime.__version__
