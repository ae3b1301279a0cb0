"""``Engine``: what runs an exported file, and one function that opens it. No torch is imported here.

An engine is called by several threads at once, each with a request of its own, and every request computes on
``settings.threads`` threads: two threads that take an image each are faster than one image on two threads.
"""

from __future__ import annotations

import copy
import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, assert_never

from deepresidual.errors import MissingDependencyError, ModelFileError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from deepresidual.backends.signature import ExportFormat, Signature
    from deepresidual.runtime.compute import Precision

EngineName: TypeAlias = Literal["onnxruntime", "openvino", "torch"]

ENGINES: dict[ExportFormat, tuple[EngineName, ...]] = {
    "onnx": ("onnxruntime", "openvino"),
    "openvino": ("openvino",),
    "pt2": ("torch",),
}
"""Engines that run a format; the first is the one that needs no trial."""

PRECISIONS: dict[EngineName, tuple[Precision, ...]] = {
    "onnxruntime": ("fp32",),
    "openvino": ("fp32", "bf16"),
    "torch": ("fp32",),
}
"""What each engine can compute in."""


@dataclass(frozen=True)
class EngineSettings:
    """How an engine computes.

    Attributes:
        engine: Name of the engine.
        streams: Requests at a time, each made by a thread of its own.
        threads: Threads that one request computes on.
        batch: Images of a request.
        precision: Precision of what the file holds as float32.
        optimize: Whether the graph is rearranged for this processor: an image takes less time, opening more
            time and memory, which few images do not repay.
    """

    engine: EngineName
    streams: int = 1
    threads: int = 1
    batch: int = 1
    precision: Precision = "fp32"
    optimize: bool = True

    def __str__(self) -> str:
        streams = f"{self.streams} stream{'s' if self.streams > 1 else ''}"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.engine}, {streams} of {threads}, batch {self.batch}"


class Engine(ABC):
    """An exported file that is ready to compute.

    Attributes:
        settings: How it computes.
        version: Version of the library that computes.
    """

    settings: EngineSettings
    version: str

    @abstractmethod
    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits ``(N, K)`` of views ``(N, S, S, C)`` uint8, N at least 1, in the calling thread.

        The result is memory of its own.
        """

    def with_batch(self, batch: int) -> Self:
        """Return this engine for another number of images a request; weights are shared if they can be."""
        other = copy.copy(self)
        other.settings = replace(self.settings, batch=batch)
        return other


def imported(name: str, path: Path, extra: str) -> Any:
    """Import the library of an engine.

    Args:
        name: Its module.
        path: The file that is to be opened, for the message.
        extra: The extra of this distribution that it comes with.

    Raises:
        MissingDependencyError: It is not installed, or broken.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise MissingDependencyError.of_extra(
            f"{path} needs {name}, which is not installed", extra
        ) from error
    except ImportError as error:
        raise MissingDependencyError(
            f"{name} is installed and cannot be imported ({' '.join(str(error).split())})",
            remedy=f"install it again: pip install --force-reinstall {name}",
        ) from error


def open_engine(folder: Path, signature: Signature, settings: EngineSettings) -> Engine:
    """Open an exported file for one of the engines that run it.

    Raises:
        ModelFileError: The engine does not run this format, or refuses the file.
        MissingDependencyError: The engine is not installed.
    """
    able = ENGINES[signature.format]
    if settings.engine not in able:
        raise ModelFileError(
            f"{folder} holds {signature.file}, which {settings.engine} does not run",
            expected=f"--backend {' or '.join(able)}",
        )
    match settings.engine:
        case "onnxruntime":
            from deepresidual.backends.onnx_runtime import OnnxRuntimeEngine

            return OnnxRuntimeEngine(folder / signature.file, settings)
        case "openvino":
            from deepresidual.backends.open_vino import OpenVinoEngine

            return OpenVinoEngine(folder / signature.file, settings)
        case "torch":
            from deepresidual.backends.exported_program import ProgramEngine

            return ProgramEngine(folder / signature.file, settings)
        case _:
            assert_never(settings.engine)
