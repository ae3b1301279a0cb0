"""What the converter has to know of another library: how to recognize, name, compare and write its networks.

One file an ecosystem, each with one subclass of :class:`Ecosystem`; :mod:`deepresidual.conversion.detect`
lists them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from deepresidual.conversion.checkpoint import Checkpoint
from deepresidual.conversion.translation import Translation
from deepresidual.errors import ConfigurationError, MissingDependencyError
from deepresidual.preprocess import Preprocess
from deepresidual.spec import ResNetSpec

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Recognition:
    """What a checkpoint turned out to be.

    Attributes:
        spec: The network.
        evidence: By what it was recognized, as a clause: ``"tensor names such as layer1.0.conv1.weight"``.
        preprocess: The preprocessing that belongs to these weights.
        label_names: Class names, where the checkpoint or its data set has them.
        assumed: What the checkpoint does not say and was taken for granted, one clause each.
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
    """What is written for another library: our state dict, and what belongs to it."""

    spec: ResNetSpec
    state: dict[str, Tensor]
    preprocess: Preprocess
    label_names: tuple[str, ...]


class Ecosystem(ABC):
    """A library or release whose checkpoints can be read, and perhaps written.

    Attributes:
        name: By which ``--to`` and messages know it.
        package: Python package that :meth:`reference` needs; empty where there is none.
    """

    name: ClassVar[str]
    package: ClassVar[str] = ""

    @abstractmethod
    def recognize(self, checkpoint: Checkpoint) -> Recognition | None:
        """Return what the checkpoint is, or ``None`` where it is not of this ecosystem.

        Raises:
            ModelFileError: It is of this ecosystem, and a network that Residual does not have.
        """

    @abstractmethod
    def translation(self, spec: ResNetSpec, checkpoint: Checkpoint | None = None) -> Translation:
        """Return the names of a network's tensors there.

        Args:
            spec: The network.
            checkpoint: The file that is read, where its names vary (prefixes, layer counters); ``None``
                for the names that the library itself gives.

        Raises:
            ConfigurationError: The library has no such network; the message says what differs.
        """

    def reference(self, checkpoint: Checkpoint, spec: ResNetSpec) -> Reference:  # noqa: ARG002
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
