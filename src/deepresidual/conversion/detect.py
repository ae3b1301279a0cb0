"""Recognize the ecosystem of a checkpoint: the first that knows its tensors."""

from __future__ import annotations

import re

from deepresidual.conversion.akamaster import Akamaster
from deepresidual.conversion.caffe import Caffe
from deepresidual.conversion.detector_ecosystem import DetectorEcosystem
from deepresidual.conversion.detector_selection import select_detector
from deepresidual.conversion.detectron2 import Detectron2
from deepresidual.conversion.ecosystem import Ecosystem, ForeignCheckpoint, Recognition
from deepresidual.conversion.keras import Keras
from deepresidual.conversion.mmdetection import MMDetection
from deepresidual.conversion.selection import Selection
from deepresidual.conversion.tensorflow import TensorFlow
from deepresidual.conversion.timm import Timm
from deepresidual.conversion.torch7 import Torch7
from deepresidual.conversion.torchvision import TorchVision
from deepresidual.conversion.torchvision_detection import TorchVisionDetection
from deepresidual.conversion.transformers import Transformers
from deepresidual.errors import ConfigurationError, ModelFileError

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

DETECTOR_ECOSYSTEMS: tuple[DetectorEcosystem, ...] = (
    TorchVisionDetection(),
    Detectron2(),
    MMDetection(),
)
"""Those whose networks find objects."""


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


def detector_ecosystem(name: str) -> DetectorEcosystem:
    """Return the ecosystem of detectors called ``name``.

    Raises:
        ConfigurationError: There is none of that name.
    """
    for candidate in DETECTOR_ECOSYSTEMS:
        if candidate.name == name:
            return candidate
    raise ConfigurationError(f"no detector can be written for {name}", expected="torchvision")


def find_detector(
    checkpoint: ForeignCheckpoint, state_dict: str = ""
) -> tuple[DetectorEcosystem, Selection] | None:
    """Return the ecosystem of the detector that a checkpoint holds, and its tensors; ``None``: it holds none.

    Raises:
        ModelFileError: It holds several, and nothing tells which is meant.
    """
    for candidate in DETECTOR_ECOSYSTEMS:
        selection = select_detector(checkpoint, candidate.marks, state_dict)
        if selection is not None:
            return candidate, selection
    return None


def recognize(checkpoint: ForeignCheckpoint) -> tuple[Ecosystem, Recognition]:
    """Return the ecosystem of a checkpoint, and its network.

    Raises:
        ModelFileError: Nobody recognizes it; the message shows some of its names.
    """
    for candidate in ECOSYSTEMS:
        recognition = candidate.recognize(checkpoint)
        if recognition is not None:
            return candidate, recognition
    names = list(checkpoint.tensors)
    listed = ", ".join(name[:100] for name in names[:4]) + (", …" if len(names) > 4 else "")
    raise ModelFileError(
        f"{checkpoint.path} is a {checkpoint.format} file of no known residual network: it has "
        f"{len(names):,} tensors ({listed}){_nearest(checkpoint)}",
        expected=f"a network of {', '.join(known.name for known in ECOSYSTEMS)}",
    )


# By which the networks of PyTorch libraries are known.
_KNOWN_BY = {
    "torchvision's and timm's resnet": ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight"),
    "timm's resnetv2": (
        "stem.conv.weight",
        "stages.0.blocks.0.norm1.weight",
        "stages.0.blocks.0.conv1.weight",
    ),
    "transformers' ResNet": (
        "embedder.embedder.convolution.weight",
        "encoder.stages.0.layers.0.layer.0.convolution.weight",
    ),
}


def _nearest(checkpoint: ForeignCheckpoint) -> str:
    """Return a clause that says what the nearest of the known networks has and this one lacks."""
    if checkpoint.format not in ("torch", "safetensors"):
        return ""
    found: dict[tuple[str, str], set[str]] = {}  # library and prefix → tensors by which it is known
    for library, known in _KNOWN_BY.items():
        for wanted in known:
            for name in checkpoint.tensors:
                prefix = name.removesuffix(wanted)
                # Units have a conv1 of their own; what is numbered is inside of something.
                if prefix != name and not re.search(r"(?:[^.]|\d\.)$", prefix):
                    found.setdefault((library, prefix), set()).add(wanted)
    if not found:
        return ""
    library, prefix = min(found, key=lambda place: (-len(found[place]), len(place[1])))
    missing = [prefix + wanted for wanted in _KNOWN_BY[library] if wanted not in found[library, prefix]]
    if not missing:
        return f"; nearest is {library}, and other tensors are in the way"
    are = "is" if len(missing) == 1 else "are"
    return f"; nearest is {library}, of which {' and '.join(missing)[:200]} {are} missing"
