"""``OnnxRuntimeEngine``: an ONNX file, computed by ONNX Runtime on the CPU.

One session serves all threads; ``run`` may be called by several at once, and computes in the calling thread
where ``threads`` is 1. Fixed shapes keep its memory flat (the arena never shrinks).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepresidual.backends.engine import Engine, EngineSettings, imported
from deepresidual.errors import ModelFileError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

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
        onnxruntime = imported("onnxruntime", path, "onnx")
        self.settings, self.version = settings, onnxruntime.__version__
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
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library raises a dozen classes of its own
            reason = " ".join(str(error).split())
            raise ModelFileError(
                f"ONNX Runtime {self.version} cannot open {path}: {reason}", remedy="export the model again"
            ) from error

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits ``(N, K)`` of views ``(N, S, S, C)`` uint8."""
        import numpy as np

        (logits,) = self._session.run(["logits"], {"pixels": np.ascontiguousarray(pixels)})
        values: Any = logits
        return values  # type: ignore[no-any-return]
