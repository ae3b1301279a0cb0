"""The interface to detectors of another library: recognize, name, compare and write them.

It is :mod:`deepresidual.conversion.ecosystem` for networks that find objects; one file a library, each with
one subclass of :class:`DetectorEcosystem`, which :mod:`deepresidual.conversion.detect` lists.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.conversion.translation import Translation
from deepresidual.errors import ConfigurationError, MissingDependencyError
from deepresidual.preprocess import Preprocess
from deepresidual.spec import DetectorSpec

if TYPE_CHECKING:
    from deepresidual.nn.detection import Found


@dataclass(frozen=True)
class RecognizedDetector:
    """The detector that a checkpoint was recognized as.

    Attributes:
        spec: The detector.
        evidence: What it was recognized by, as a clause.
        preprocess: The preprocessing that belongs to these weights.
        label_names: Class names, where the checkpoint or its data set has them.
        assumed: Assumptions where the checkpoint says nothing, one clause each.
        bn_eps: What BN adds to the variance there; where it is not the spec's, weights of BN are scaled.
    """

    spec: DetectorSpec
    evidence: str
    preprocess: Preprocess
    label_names: tuple[str, ...] | None = None
    assumed: tuple[str, ...] = ()
    bn_eps: float = 1e-5


@dataclass(frozen=True)
class DetectorReference:
    """Another library's own detector, filled by its own code.

    Attributes:
        name: Library and version: ``"torchvision 0.29"``.
        find: An image ``(1, C, H, W)`` float32, normalized and padded, on the CPU, and its height and width
            in it → what is found, with class indices from 0 and the m × m masks.
    """

    name: str
    find: Callable[[Tensor, tuple[int, int]], Found]


@dataclass(frozen=True)
class ExportedDetector:
    """A detector to be written for another library: our state dict, and what belongs to it."""

    spec: DetectorSpec
    state: dict[str, Tensor]
    preprocess: Preprocess
    label_names: tuple[str, ...]


class DetectorEcosystem(ABC):
    """A library whose detectors can be read, and perhaps written.

    Attributes:
        name: Name in ``--to`` and in messages.
        package: Python package that :meth:`reference` needs; empty where there is none.
        marks: Tensors that all of its detectors have; what stands before them is a prefix.
        has_releases: Whether ``weights`` of :meth:`recognize` are released ones that Residual knows; else
            any name that the library gives them.
    """

    name: ClassVar[str]
    package: ClassVar[str] = ""
    marks: ClassVar[tuple[str, ...]]
    has_releases: ClassVar[bool] = True

    @abstractmethod
    def recognize(self, checkpoint: ForeignCheckpoint, weights: str = "") -> RecognizedDetector | None:
        """Return the detector of a checkpoint without prefix, or ``None`` if it is not of this ecosystem.

        Args:
            checkpoint: What was read.
            weights: Released weights that these are, or were trained from, where the user says so.

        Raises:
            ModelFileError: It is of this ecosystem, and a detector that Residual does not have.
        """

    @abstractmethod
    def translation(self, spec: DetectorSpec, checkpoint: ForeignCheckpoint | None = None) -> Translation:
        """Return the names of a detector's tensors there.

        Args:
            spec: The detector.
            checkpoint: The file that is read, where its names vary; ``None`` for those of the library today.
        """

    def reference(self, checkpoint: ForeignCheckpoint, recognized: RecognizedDetector) -> DetectorReference:  # noqa: ARG002
        """Build the library's own detector with the checkpoint's weights, by the library's own code.

        Raises:
            MissingDependencyError: The library is not installed, or there is none to compare with.
        """
        raise MissingDependencyError(f"{self.name} is not installed, to compare with")

    def write(self, model: ExportedDetector, path: Path) -> None:  # noqa: ARG002
        """Write ``model`` to ``path``, where nothing is yet.

        Raises:
            ConfigurationError: The library has no such detector, or cannot be written.
        """
        raise ConfigurationError(f"no detector can be written for {self.name}", expected="torchvision")

    def to_load(self, spec: DetectorSpec) -> str:
        """Return the Python call that builds the library's network for what :meth:`write` has written."""
        raise NotImplementedError(spec)
