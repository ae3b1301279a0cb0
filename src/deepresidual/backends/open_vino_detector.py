"""``OpenVinoDetector``: the file of a detector, computed by OpenVINO on the CPU.

Its shapes follow the image and the number of objects, so they stay open; all else is as for classifiers
(:mod:`.open_vino`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.backends.detector_engine import OUTPUTS, DetectorEngine
from deepresidual.backends.open_vino import Requests, compiled, shared_core
from deepresidual.runtime.provenance import version_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
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
        MachineError: The processor does not compute in the precision.
        MissingDependencyError: OpenVINO is not installed, or broken.
    """

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        core = shared_core(path)
        self.settings, self.version = settings, version_of("openvino") or ""
        model = compiled(core, lambda: core.read_model(path), path, settings)
        by_name = {output.get_any_name(): output for output in model.outputs}
        self._outputs = [by_name[name] for name in OUTPUTS if name in by_name]
        self._requests = Requests(model)

    def find(self, pixels: NDArray[np.uint8]) -> FoundInView:
        """Find the objects of one image ``(height, width, C)`` uint8."""
        from deepresidual.backends.object_detector import FoundInView

        return FoundInView(*self._requests.infer(pixels, self._outputs))
