"""``ExportedModel``: what exported classifiers and detectors share: the file, and what computes it.

The engine is chosen and opened, and computes the self-test, before the first image
(:mod:`deepresidual.backends.engine_choice`). No torch is imported.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, ClassVar, Generic, Self, TypeVar

from deepresidual.backends.classifier import ASKED_FOR, SettledPrecision
from deepresidual.backends.engine import EngineSettings
from deepresidual.backends.engine_choice import EngineChoice, candidates_of
from deepresidual.backends.session import Session

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from deepresidual.backends.engine import EngineName
    from deepresidual.backends.signature import Signature
    from deepresidual.preprocess import Preprocess
    from deepresidual.runtime.compute import Precision, PrecisionChoice

_Session = TypeVar("_Session", bound=Session)


class ExportedModel(Generic[_Session]):
    """An exported file, computed by one of the engines that run it.

    Args:
        folder: The exported model.
        signature: What its ``signature.json`` says.
        engines: What may compute it, the preferred one first; or the settings of one, which are taken as
            they are.
        label_names: Name of every class.
        preprocess: How a decoded image becomes the input.
        task: What the model has learned.
    """

    session_type: ClassVar[type[Session]]

    def __init__(
        self,
        folder: Path,
        signature: Signature,
        engines: Sequence[EngineName] | EngineSettings,
        label_names: tuple[str, ...],
        preprocess: Preprocess,
        task: str,
    ) -> None:
        self.folder, self.signature = folder, signature
        self.label_names, self.preprocess, self.task = label_names, preprocess, task
        self.precision: Precision = "fp32"
        self._engines: Sequence[EngineName] = ()
        self._choices: dict[Precision, EngineChoice[_Session]] = {}  # shared by copies in other precisions
        if isinstance(engines, EngineSettings):
            self._fix(engines)
        else:
            self._engines = tuple(engines)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.folder}/{self.signature.file}, {self.signature.precision}, "
            f"{len(self.label_names):,} classes, {self.preprocess.crop_px} px, {self.settings})"
        )

    @property
    def settings(self) -> EngineSettings:
        """How it is computed, or is going to be."""
        return self._choice.settings

    @property
    def backend(self) -> str:
        """Name of the engine."""
        return self.settings.engine

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages whose versions may change the outputs."""
        return (self.settings.engine,)

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the exported file, as its signature states it."""
        return self.signature.sha256

    # -- what computes ---------------------------------------------------------------------------------------

    def with_settings(self, settings: EngineSettings) -> Self:
        """Return this model, computed in another way, which is taken as it is."""
        other = copy.copy(self)
        other._fix(settings)  # noqa: SLF001  # a copy of this object
        return other

    def computed_by(self, backend: str) -> Self:
        """Return this model, computed by an engine, where that is one to choose from."""
        engines = tuple(name for name in self._engines if name == backend)
        if backend == self.backend or not engines:
            return self
        other = copy.copy(self)
        other._engines, other._choices = engines, {}  # noqa: SLF001  # a copy of this object
        return other

    def expect(self, num_images: int) -> Self:
        """Choose an engine, its streams and its batch for so many images, and return this model.

        The engine is opened. See :mod:`deepresidual.backends.engine_choice`.

        Raises:
            ModelFileError: The file has changed, or no engine passes the self-test.
            MissingDependencyError: No engine is installed.
        """
        self._choice.expect(num_images)
        return self

    def settled_precision(self, choice: PrecisionChoice) -> SettledPrecision:
        """Return the precision that is asked for; by default that of the file.

        Raises:
            ConfigurationError: None of the engines computes in that precision.
        """
        if choice == "auto":
            return SettledPrecision("fp32", f"{self.signature.file} holds {self.signature.precision}")
        self.in_precision(choice)
        return SettledPrecision(choice, ASKED_FOR)

    def in_precision(self, precision: Precision) -> Self:
        """Return this model with what is float32 in the file computed in ``precision``.

        Raises:
            ConfigurationError: None of the engines computes in that precision.
        """
        candidates_of(self._engines, precision)
        other = copy.copy(self)
        other.precision = precision
        return other

    def session(self) -> _Session:
        """Return the open session, which has passed the self-test.

        Raises:
            ModelFileError: The file has changed, the engine refuses it, or fails in its self-test.
            MissingDependencyError: The engine is not installed.
        """
        return self._choice.session()

    @property
    def _choice(self) -> EngineChoice[_Session]:
        if self.precision in self._choices:
            return self._choices[self.precision]
        choice = self._chosen_from(candidates_of(self._engines, self.precision))
        # Of several threads that ask at the same time all get the same one.
        return self._choices.setdefault(self.precision, choice)

    def _fix(self, settings: EngineSettings) -> None:
        self.precision, self._engines = settings.precision, (settings.engine,)
        self._choices = {settings.precision: self._chosen_from((settings,), is_fixed=True)}

    def _chosen_from(
        self, candidates: Sequence[EngineSettings], *, is_fixed: bool = False
    ) -> EngineChoice[_Session]:
        # A class attribute cannot name the type variable.
        session_type: type[_Session] = self.session_type  # type: ignore[assignment]
        return EngineChoice(session_type, self.folder, self.signature, candidates, is_fixed=is_fixed)
