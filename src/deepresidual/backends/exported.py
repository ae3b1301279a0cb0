"""``ExportedClassifier``: an exported file with class names and preprocessing. No torch is imported here."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Self

from deepresidual.backends.classifier import ASKED_FOR, Classifier, SettledPrecision, require_outputs
from deepresidual.backends.engine import EngineSettings
from deepresidual.backends.engine_choice import EngineChoice, candidates_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from deepresidual.backends.abstention import Abstention
    from deepresidual.backends.engine import EngineName
    from deepresidual.backends.signature import Signature
    from deepresidual.backends.thresholds import Thresholds
    from deepresidual.preprocess import Preprocess
    from deepresidual.runtime.compute import Precision, PrecisionChoice


class ExportedClassifier(Classifier):
    """An exported file, computed by one of the engines that run it; ``load`` returns it.

    The engine is opened and tests itself when images are expected or the first logits are asked for.

    Args:
        folder: The exported model.
        signature: What its ``signature.json`` says.
        engines: What may compute it, the preferred one first; or the settings of one, which are taken as
            they are.
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
        engines: Sequence[EngineName] | EngineSettings,
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
        self.instead = signature.source_in_words
        self.precision: Precision = "fp32"
        self._engines: Sequence[EngineName] = ()
        self._choices: dict[Precision, EngineChoice] = {}  # shared by copies in other precisions
        if isinstance(engines, EngineSettings):
            self._fix(engines)
        else:
            self._engines = tuple(engines)

    def _fix(self, settings: EngineSettings) -> None:
        self.precision, self._engines = settings.precision, (settings.engine,)
        self._choices = {
            settings.precision: EngineChoice(self.folder, self.signature, (settings,), is_fixed=True)
        }

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.folder}/{self.signature.file}, {self.signature.precision}, "
            f"{len(self.label_names):,} classes, {self.preprocess.crop_px} px, {self.settings})"
        )

    @property
    def _choice(self) -> EngineChoice:
        if self.precision in self._choices:
            return self._choices[self.precision]
        candidates = candidates_of(self._engines, self.precision)
        # Of several threads that ask at the same time all get the same one.
        return self._choices.setdefault(self.precision, EngineChoice(self.folder, self.signature, candidates))

    @property
    def settings(self) -> EngineSettings:
        """How it is computed, or is going to be."""
        return self._choice.settings

    @property
    def backend(self) -> str:  # type: ignore[override]  # which one may be chosen later
        """Name of the engine."""
        return self.settings.engine

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages whose versions may change the outputs."""
        return (self.settings.engine,)

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the exported file, as its signature states it."""
        return self.signature.sha256

    def with_settings(self, settings: EngineSettings) -> Self:
        """Return this classifier, computed in another way, which is taken as it is."""
        other = copy.copy(self)
        other._fix(settings)  # noqa: SLF001  # a copy of this object
        return other

    def computed_by(self, backend: str) -> Self:
        """Return this classifier, computed by an engine, where that is one to choose from."""
        engines = tuple(name for name in self._engines if name == backend)
        if backend == self.backend or not engines:
            return self
        other = copy.copy(self)
        other._engines, other._choices = engines, {}  # noqa: SLF001  # a copy of this object
        return other

    def expect(self, num_images: int) -> Self:
        """Choose an engine, its streams and its batch for so many images, and return this classifier.

        The engine is opened. See :mod:`deepresidual.backends.engine_choice`.

        Raises:
            ModelFileError: The file has changed, or no engine passes the self-test.
            MissingDependencyError: No engine is installed.
        """
        self._choice.expect(num_images)
        return self

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
        return self._choice.session().engine.version

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
            ConfigurationError: None of the engines computes in that precision.
        """
        candidates_of(self._engines, precision)
        other = copy.copy(self)
        other.precision = precision
        return other

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
        return self._choice.session().logits(pixels)

    def stream_logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits as :meth:`logits` does, in the calling thread alone: one of the streams."""
        return self._choice.session().logits_here(pixels)
