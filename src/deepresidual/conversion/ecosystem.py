"""The interface to another library: recognize, name, compare and write its networks.

One file an ecosystem, each with one subclass of :class:`Ecosystem`; :mod:`deepresidual.conversion.detect`
lists them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from deepresidual.conversion.translation import Translation
from deepresidual.errors import ConfigurationError, MissingDependencyError
from deepresidual.preprocess import Preprocess
from deepresidual.spec import ResNetSpec


@dataclass(frozen=True)
class ForeignCheckpoint:
    """A checkpoint of another library: named arrays, and what the file says of itself; nothing is trusted.

    Attributes:
        path: The file or folder.
        format: ``safetensors``, ``torch``, ``pickle`` (NumPy arrays), ``torch7``, ``caffemodel``, ``keras``
            or ``tensorflow``.
        tensors: Every array under the name that the file gives it, on the CPU, in the file's own layout.
        metadata: What else the file says, as JSON types: ``config`` (a folder's ``config.json``), ``modules``
            (a Torch7 file's modules by path), ``layers`` (a Caffe net's layers, in order), ``meta`` (what
            mmdetection keeps of a training).
        sha256: Hash of the file; of a folder, of its weights.
    """

    path: Path
    format: str
    tensors: dict[str, Tensor]
    sha256: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recognition:
    """The network that a checkpoint was recognized as.

    Attributes:
        spec: The network.
        evidence: What it was recognized by, as a clause: ``"tensor names such as layer1.0.conv1.weight"``.
        preprocess: The preprocessing that belongs to these weights.
        label_names: Class names, where the checkpoint or its data set has them.
        assumed: Assumptions where the checkpoint says nothing, one clause each.
    """

    spec: ResNetSpec
    evidence: str
    preprocess: Preprocess
    label_names: tuple[str, ...] | None = None
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reference:
    """Another library's own network, filled by its own code.

    Attributes:
        name: Library and version: ``"torchvision 0.29"``.
        logits: Images ``(N, C, H, W)`` float32, normalized, on the CPU → ``(N, num_classes)`` float32.
    """

    name: str
    logits: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Exported:
    """A model to be written for another library: our state dict, and what belongs to it."""

    spec: ResNetSpec
    state: dict[str, Tensor]
    preprocess: Preprocess
    label_names: tuple[str, ...]


class Ecosystem(ABC):
    """A library or release whose checkpoints can be read, and perhaps written.

    Attributes:
        name: Name in ``--to`` and in messages.
        package: Python package that :meth:`reference` needs; empty where there is none.
    """

    name: ClassVar[str]
    package: ClassVar[str] = ""

    @abstractmethod
    def recognize(self, checkpoint: ForeignCheckpoint) -> Recognition | None:
        """Return the network of a checkpoint, or ``None`` if it is not of this ecosystem.

        Raises:
            ModelFileError: It is of this ecosystem, and a network that Residual does not have.
        """

    @abstractmethod
    def translation(self, spec: ResNetSpec, checkpoint: ForeignCheckpoint | None = None) -> Translation:
        """Return the names of a network's tensors there.

        Args:
            spec: The network.
            checkpoint: The file that is read, where its names vary (prefixes, layer counters); ``None``
                for the names that the library itself gives.

        Raises:
            ConfigurationError: The library has no such network; the message says what differs.
        """

    def reference(self, checkpoint: ForeignCheckpoint, spec: ResNetSpec) -> Reference:  # noqa: ARG002
        """Build the library's own network with the checkpoint's weights, by the library's own code.

        Raises:
            MissingDependencyError: The library is not installed, or there is none to compare with.
        """
        raise MissingDependencyError(f"{self.name} has no implementation in Python to compare with")

    def write(self, model: Exported, path: Path) -> None:  # noqa: ARG002
        """Write ``model`` to ``path``, where nothing is yet: a file or a folder, whole or not at all.

        Raises:
            ConfigurationError: The library has no such network, or cannot be written.
            MissingDependencyError: The library is needed for it and not installed.
            RunError: The path cannot be written.
        """
        raise ConfigurationError(
            f"nothing can be written for {self.name}", expected="torchvision, timm, transformers or keras"
        )
