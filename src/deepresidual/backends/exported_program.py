"""``ProgramEngine``: the weights of an exported program, computed by PyTorch with BN folded, channels last.

What computes is the module that was exported, built again of ``config.json`` and filled with the weights of
the file; the graph in the file is for other programs (see :mod:`deepresidual.backends.program_weights`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from deepresidual.backends.engine import Engine, EngineSettings
from deepresidual.backends.export_module import ExportModule
from deepresidual.backends.program_weights import read_program_weights
from deepresidual.preprocess import Preprocess
from deepresidual.runtime.strict_json import read_object
from deepresidual.spec import ResNetSpec

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

_CONFIG = "config.json"


class ProgramEngine(Engine):
    """Compute the weights of an exported program.

    Args:
        path: The program; ``config.json`` lies beside it.
        settings: How to compute.

    Raises:
        ModelFileError: The file is damaged, or holds the weights of another network.
    """

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        self.settings, self.version = settings, torch.__version__
        own = read_object(path.parent / _CONFIG)["residual"]
        self._module = ExportModule.empty(
            ResNetSpec.from_dict(own["spec"]),
            Preprocess.from_dict(own["preprocess"]),
            own.get("task", "classification"),
        )
        shapes = {name: tuple(tensor.shape) for name, tensor in self._module.state_dict().items()}
        weights = read_program_weights(path, shapes)
        # Not strict: BN asks for a counter that it lacks.
        self._module.load_state_dict(weights, strict=False, assign=True)
        self._module.network.to(memory_format=torch.channels_last).requires_grad_(False)

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits ``(N, K)`` of views ``(N, S, S, C)`` uint8."""
        if not pixels.flags.writeable or min(pixels.strides) < 0:
            pixels = pixels.copy()  # PyTorch has no tensors that are read-only or run backwards
        before = torch.get_num_threads()
        torch.set_num_threads(self.settings.threads)
        try:
            with torch.inference_mode():
                _, logits = self._module(torch.from_numpy(pixels))
        finally:
            torch.set_num_threads(before)
        values: NDArray[np.float32] = logits.numpy()
        return values
