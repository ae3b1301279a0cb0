"""Which ecosystem a checkpoint comes from: the first that recognizes its tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from residual.conversion.akamaster import Akamaster
from residual.conversion.caffe import Caffe
from residual.conversion.keras import Keras
from residual.conversion.tensorflow import TensorFlow
from residual.conversion.timm import Timm
from residual.conversion.torch7 import Torch7
from residual.conversion.torchvision import TorchVision
from residual.conversion.transformers import Transformers
from residual.errors import ConfigurationError, ModelFileError

if TYPE_CHECKING:
    from residual.conversion.checkpoint import Checkpoint
    from residual.conversion.ecosystem import Ecosystem, Recognition

__all__ = ["ECOSYSTEMS", "ecosystem", "recognize"]

ECOSYSTEMS: tuple[Ecosystem, ...] = (
    Timm(),
    Transformers(),
    Akamaster(),
    TorchVision(),
    Keras(),
    TensorFlow(),
    Caffe(),
    Torch7(),
)
"""In the order in which they are asked: those with more evidence first."""


def ecosystem(name: str) -> Ecosystem:
    """Return the ecosystem called ``name``.

    Raises:
        ConfigurationError: There is none of that name.
    """
    for candidate in ECOSYSTEMS:
        if candidate.name == name:
            return candidate
    raise ConfigurationError(
        f"unknown ecosystem {name!r}", expected=f"one of {', '.join(known.name for known in ECOSYSTEMS)}"
    )


def recognize(checkpoint: Checkpoint) -> tuple[Ecosystem, Recognition]:
    """Return where a checkpoint comes from, and what network it is.

    Raises:
        ModelFileError: Nobody recognizes it; the message shows some of its names.
    """
    for candidate in ECOSYSTEMS:
        recognition = candidate.recognize(checkpoint)
        if recognition is not None:
            return candidate, recognition
    names = list(checkpoint.tensors)
    listed = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
    raise ModelFileError(
        f"{checkpoint.path} is a {checkpoint.format} file of no known residual network: it has "
        f"{len(names):,} tensors ({listed})",
        expected=f"a network of {', '.join(known.name for known in ECOSYSTEMS)}",
    )
