"""Write a model as an exported program of PyTorch: ``model.pt2``, which ``torch.export.load`` opens.

Others run it without Residual, from Python or compiled. Residual itself reads its weights alone and never
calls ``torch.export.load`` on a file that it has not just written, since that runs what stands in the file
(:mod:`deepresidual.backends.program_weights`).
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from deepresidual.backends.export_module import ExportModule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepresidual.backends.pytorch import TorchClassifier


def write_program(model: TorchClassifier, path: Path) -> None:
    """Write a model as an exported program: BN folded, channels last, a batch of any size.

    The views come channels last, and so do the maps. The weights are written in PyTorch's usual order: of
    programs whose weights are channels last ExecuTorch 1.5.1 refuses to make a file, and LiteRT 2.3.0 makes
    one without a word that computes something else.

    Args:
        model: The model, on the CPU.
        path: The file.

    Raises:
        OSError: The file cannot be written.
    """
    module, side = ExportModule.of(model), model.preprocess.crop_px
    module.network.to(memory_format=torch.contiguous_format)
    # Of two images: a batch of one would be taken for a constant.
    sample = torch.zeros(2, side, side, model.preprocess.num_channels, dtype=torch.uint8)
    with torch.no_grad():
        program = torch.export.export(
            module, (sample,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=False
        )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names files of the machine that exports
    torch.export.save(program, path)


def program_logits(path: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute logits ``(N, K)`` of views ``(N, S, S, C)`` uint8 by a program that this process has written.

    ``torch.export.load`` unpickles: a file from elsewhere is not for this function.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "The given buffer is not writable", UserWarning
        )  # torch 2.11, of itself
        program = torch.export.load(path).module()
    with torch.inference_mode():
        _, logits = program(torch.from_numpy(pixels))
    values: NDArray[np.float32] = logits.numpy()
    return values
