"""``EngineChoice``: which engine computes an exported model, by how many images are expected.

Below :data:`TRIED_FROM` images nothing is tried: the choice of an earlier time is taken, or the first engine
that is installed, with a stream for each core. Of few images, fewer than five of a classifier and one at a
time of a detector, the first engine is taken whatever was chosen, since it opens soonest. From
:data:`TRIED_FROM` on engines, batches and streams are tried for some seconds
(:mod:`deepresidual.backends.engine_trial`), once for a file, a processor and versions, and what was chosen is
said on stderr. An engine that fails in its self-test is told of and left out. Of an int8 file the engines
that were judged at export come first, and others only where none of these is installed. No torch is imported.
"""

from __future__ import annotations

import importlib.util
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from deepresidual.backends.engine import ENGINES, PRECISIONS, EngineName, EngineSettings
from deepresidual.backends.engine_trial import open_first, remember, remembered, try_engines
from deepresidual.backends.session import Session
from deepresidual.backends.signature import require_unchanged
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.runtime.console import note
from deepresidual.runtime.processes import usable_cores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from deepresidual.backends.signature import Signature
    from deepresidual.runtime.compute import Precision

TRIED_FROM = 64
"""Images from which on trying pays."""

_Session = TypeVar("_Session", bound=Session)


def engines_for(folder: Path, signature: Signature, backend: str) -> tuple[EngineName, ...]:
    """Return the engines to choose from.

    Args:
        folder: The exported model, for the message.
        signature: Its signature.
        backend: Name of an engine, or ``auto``.

    Raises:
        ModelFileError: The engine does not run the format.
    """
    able = ENGINES[signature.format]
    if backend == "auto":
        return _judged(able, signature) or able
    chosen = tuple(name for name in able if name == backend)
    if not chosen:
        raise ModelFileError(
            f"{folder} holds {signature.file}, which the backend {backend!r} does not run",
            expected=" or ".join(("auto", *able)),
        )
    return chosen


def _judged(engines: Sequence[EngineName], signature: Signature) -> tuple[EngineName, ...]:
    """Return those that have passed the gate of an int8 file, as far as they are installed."""
    judged = signature.certificate.get("gate", {}).get("engines", [])
    names = {str(verdict["engine"]).split()[0] for verdict in judged}
    return tuple(name for name in engines if name in names and importlib.util.find_spec(name) is not None)


def candidates_of(engines: Sequence[EngineName], precision: Precision) -> tuple[EngineSettings, ...]:
    """Return the settings to begin with: one request for each core, an image at a time.

    Engines that are not installed are left out, if there is one that is.

    Raises:
        ConfigurationError: None of the engines computes in that precision.
    """
    able = [name for name in engines if precision in PRECISIONS[name]]
    if not able:
        raise ConfigurationError(
            f"precision is {precision!r} for a model that {' or '.join(engines)} computes",
            expected=" or ".join(dict.fromkeys(one for name in engines for one in PRECISIONS[name])),
        )
    installed = [name for name in able if importlib.util.find_spec(name) is not None]
    return tuple(
        EngineSettings(name, streams=usable_cores(), precision=precision) for name in installed or able
    )


class EngineChoice(Generic[_Session]):
    """The session of an exported model, which is opened when images are expected or the first ones come.

    Args:
        session_type: What opens, tests and computes the file.
        folder: The exported model.
        signature: What its ``signature.json`` says.
        candidates: Settings to choose from, the preferred ones first.
        is_fixed: Whether the first ones are taken as they are.
    """

    def __init__(
        self,
        session_type: type[_Session],
        folder: Path,
        signature: Signature,
        candidates: Sequence[EngineSettings],
        *,
        is_fixed: bool = False,
    ) -> None:
        self._type, self._folder, self._signature = session_type, folder, signature
        self._candidates, self._is_settled = tuple(candidates), is_fixed
        self._session: _Session | None = None
        self._is_for_few = False  # the open session
        self._num_expected, self._most_at_once = 0, 0
        self._is_unchanged = False
        self._lock = threading.RLock()

    @property
    def settings(self) -> EngineSettings:
        """How it computes, or is going to."""
        return self._candidates[0] if self._session is None else self._session.settings

    def session(self) -> _Session:
        """Return the session, which has passed the self-test.

        Raises:
            ModelFileError: The file has changed, or no engine passes.
            MissingDependencyError: No engine is installed.
        """
        with self._lock:
            if self._session is None:
                self._session = self._opened(self._first())
            return self._session

    def expect(self, num_images: int) -> None:
        """Choose and open a session for so many images; of few, for all that were expected until now.

        Raises:
            ModelFileError: The file has changed, or no engine passes.
            MissingDependencyError: No engine is installed.
        """
        if num_images < 1:
            return
        with self._lock:
            self._num_expected += num_images
            self._most_at_once = max(self._most_at_once, num_images)
            if num_images >= TRIED_FROM and not self._is_settled:
                self._settle(num_images)
            elif self._is_for_few and not self._are_few():
                self._session = None
            self.session()

    def _are_few(self) -> bool:
        return not self._is_settled and self._type.are_few(self._num_expected, self._most_at_once)

    def _first(self) -> list[EngineSettings]:
        """Return what to open where nothing is tried, in the order of preference."""
        self._is_for_few = self._are_few()
        if self._is_for_few:
            return [self._type.for_few(one) for one in self._candidates]
        kept = None if self._is_settled else remembered(self._signature, self._candidates)
        others = [one for one in self._candidates if kept is None or one.engine != kept.engine]
        return ([] if kept is None else [kept]) + others

    def _settle(self, num_images: int) -> None:
        """Open what was chosen at an earlier time, or try; tell the user."""
        kept = remembered(self._signature, self._candidates)
        if kept is not None:
            if self._session is None or self._session.settings != kept:
                others = [one for one in self._candidates if one.engine != kept.engine]
                self._session = self._opened([kept, *others])
            reason = "measured at an earlier time"
        else:
            self._require_unchanged()
            self._session = None  # its memory is needed
            trial = try_engines(self._type, self._folder, self._signature, self._candidates, num_images)
            self._session, reason = trial.session, trial.reason
            if trial.is_clear:
                remember(self._signature, self._candidates, trial.session.settings)
        self._is_settled, self._is_for_few = True, False
        note(f"computing  {self._session.settings}" + (f" ({reason})" if reason else ""))

    def _opened(self, candidates: Sequence[EngineSettings]) -> _Session:
        self._require_unchanged()
        return open_first(self._type, self._folder, self._signature, candidates)

    def _require_unchanged(self) -> None:
        if not self._is_unchanged:
            require_unchanged(self._folder, self._signature)
            self._is_unchanged = True
