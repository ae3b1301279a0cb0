"""``OpenVinoDetector``: the file of a detector, computed by OpenVINO on the CPU.

Its shapes follow the image and the number of objects, so they stay open, and the precision is float32 by
name: on processors with bf16 the default is bf16. As everywhere, every thread that computes has a request to
itself (:mod:`.open_vino`).
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

import numpy as np

from deepresidual.backends.detector_engine import OUTPUTS, DetectorEngine
from deepresidual.backends.open_vino import shared_core
from deepresidual.errors import ModelFileError
from deepresidual.runtime.provenance import version_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from deepresidual.backends.engine import EngineSettings
    from deepresidual.backends.object_detector import FoundInView


class OpenVinoDetector(DetectorEngine):
    """Compute ``model.onnx`` or ``model.xml`` of a detector by OpenVINO.

    Args:
        path: The file; ``model.bin`` lies beside ``model.xml``.
        settings: How to compute.

    Raises:
        ModelFileError: OpenVINO refuses the file.
        MissingDependencyError: OpenVINO is not installed, or broken.
    """

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        core = shared_core(path)
        self.settings, self.version = settings, version_of("openvino") or ""
        options = {
            "NUM_STREAMS": settings.streams,
            "INFERENCE_NUM_THREADS": settings.streams * settings.threads,
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            self._compiled = core.compile_model(core.read_model(path), "CPU", options)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ModelFileError(
                f"OpenVINO {self.version} cannot open {path}: {reason}",
                remedy="choose another --backend, or export the model again",
            ) from error
        by_name = {output.get_any_name(): output for output in self._compiled.outputs}
        self._outputs = [by_name[name] for name in OUTPUTS if name in by_name]
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def find(self, pixels: NDArray[np.uint8]) -> FoundInView:
        """Find the objects of one image ``(height, width, C)`` uint8."""
        from deepresidual.backends.object_detector import FoundInView

        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        try:
            found = request.infer({0: np.ascontiguousarray(pixels)}, share_inputs=True)
            return FoundInView(*(np.array(found[output]) for output in self._outputs))
        finally:
            self._idle.put(request)
