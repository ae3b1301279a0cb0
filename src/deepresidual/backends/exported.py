"""``ExportedClassifier``: an exported file with class names and preprocessing. No torch is imported here."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from deepresidual.backends.classifier import ASKED_FOR, Classifier, SettledPrecision, require_outputs
from deepresidual.backends.session import Session
from deepresidual.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from deepresidual.backends.abstention import Abstention
    from deepresidual.backends.engine import EngineSettings
    from deepresidual.backends.signature import Signature
    from deepresidual.backends.thresholds import Thresholds
    from deepresidual.preprocess import Preprocess
    from deepresidual.runtime.compute import Precision, PrecisionChoice


class ExportedClassifier(Classifier):
    """An exported file, computed by one of the engines that run it; ``load`` returns it.

    The engine is opened and tests itself when the first logits are asked for.

    Args:
        folder: The exported model.
        signature: What its ``signature.json`` says.
        settings: How to compute.
        label_names: Name of every class, in the order of the logits.
        preprocess: How a decoded image becomes the input.
        task: What the model has learned.
        thresholds: Of several labels an image, where they are given.
        abstention: From which probability on it answers; ``None``: never chosen.
    """

    def __init__(
        self,
        folder: Path,
        signature: Signature,
        settings: EngineSettings,
        label_names: tuple[str, ...],
        preprocess: Preprocess,
        *,
        task: str = "classification",
        thresholds: Thresholds | None = None,
        abstention: Abstention | None = None,
    ) -> None:
        self.folder, self.signature = folder, signature
        self.label_names, self.preprocess, self.task = label_names, preprocess, task
        self.thresholds, self.abstention = thresholds, abstention
        self.session, self.backend = Session(folder, signature, settings), settings.engine

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.folder}/{self.signature.file}, {self.signature.precision}, "
            f"{len(self.label_names):,} classes, {self.preprocess.crop_px} px, {self.settings})"
        )

    @property
    def settings(self) -> EngineSettings:
        """How it is computed."""
        return self.session.settings

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages whose versions may change the outputs."""
        return (self.settings.engine,)

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the exported file, as its signature states it."""
        return self.signature.sha256

    def with_settings(self, settings: EngineSettings) -> Self:
        """Return this classifier, computed in another way."""
        if settings == self.settings:
            return self
        other = copy.copy(self)
        other.session = Session(self.folder, self.signature, settings)
        other.backend = settings.engine
        return other

    @property
    def streams(self) -> int:
        """Threads that may compute at once, each taking images all the way."""
        return self.settings.streams

    @property
    def stream_batch(self) -> int:
        """Images that a stream computes at a time."""
        return self.settings.batch

    def engine_version(self) -> str:
        """Return the version of the engine, which is opened for that and tests itself."""
        return self.session.engine().version

    def settle_precision(self, choice: PrecisionChoice, image_px: int) -> SettledPrecision:
        """Choose the precision; by default that of the file."""
        del image_px
        if choice == "auto":
            return SettledPrecision("fp32", f"{self.signature.file} holds {self.signature.precision}")
        self.in_precision(choice)
        return SettledPrecision(choice, ASKED_FOR)

    def in_precision(self, precision: Precision) -> Self:
        """Return this classifier with what is float32 in the file computed in ``precision``.

        Raises:
            ConfigurationError: The engine does not compute in that precision.
        """
        if precision != "fp32" and self.settings.engine != "openvino":
            raise ConfigurationError(
                f"precision is {precision!r} for a model that {self.backend} computes", expected="fp32"
            )
        return self.with_settings(replace(self.settings, precision=precision))

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the logits of a batch, dealt out over the streams.

        Args:
            pixels: ``(N, S, S, C)`` uint8, as :meth:`Preprocess.center_view` gives them.

        Returns:
            ``(N, K)`` float32.

        Raises:
            ModelFileError: The file has changed, the engine refuses it, or fails in its self-test.
            MissingDependencyError: The engine is not installed.
        """
        require_outputs(self)
        return self.session.logits(pixels)

    def stream_logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits as :meth:`logits` does, in the calling thread alone: one of the streams."""
        return self.session.logits_here(pixels)
