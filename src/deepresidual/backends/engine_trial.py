"""Try engines, streams and batches for an exported model, and remember the fastest; without torch.

One request for each core and an image at a time is the rule: two streams of one thread are faster than one of
two threads, and of large float32 images a batch saves nothing. Which engine is faster, and where a batch or
fewer streams of two threads pay, depends on the network and the processor (with AMX a batch of four takes 0.6
of the time of an int8 ResNet-50), so it is tried. That takes at most
:data:`~deepresidual.runtime.autotune.BUDGET_S` seconds, opening included, or a fifth of what the expected
images are going to take where that is more: a detector may take a second for one. What is tried computes the
same file in the same precision, and has passed the self-test.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import numpy as np

from deepresidual.backends.engine import EngineSettings
from deepresidual.backends.session import Session
from deepresidual.errors import DISTRIBUTION, MissingDependencyError, ModelFileError, ResidualError
from deepresidual.fields import is_whole
from deepresidual.runtime.autotune import BUDGET_S, Clock, Pass, Rounds, key_of, run_in_turn
from deepresidual.runtime.cache import read_cache, write_cache
from deepresidual.runtime.console import warn
from deepresidual.runtime.cpu import cpu_flags, cpu_name
from deepresidual.runtime.processes import usable_cores
from deepresidual.runtime.provenance import version_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from deepresidual.backends.signature import Signature

_CACHE = "engines"

# Share of what all images are going to take that trying may take, and the most seconds of it.
_SHARE, _LONGEST_S = 0.2, 30.0

# What is taken for the fastest takes in most rounds at most so much of the time of each other one.
_AS_FAST = 1.05
# Streams of two threads are taken where they save at least this.
_WORTH = 0.97
_MOST_ROUNDS = 9

# Opening OpenVINO takes up to one and a half times as long as opening ONNX Runtime with its self-test; what
# would not fit is not begun.
_SLOWER_TO_OPEN = 1.5
# A pass is long beside what starting it costs, and short beside the whole.
_PASS_S = 0.02
_SURELY_LONG_S = 0.5  # an image that took so much the first time takes longer than a pass the next time
_MOST_REQUESTS = 1000
# Of images that take longer one at a time fills a processor; of small ones more fit into its caches.
_BATCH_BELOW_S = 0.03
_BATCH = 4
_LARGE_BATCH_BELOW_S = 0.002
_LARGE_BATCH = 8
_FEWEST_STREAMS_TO_PAIR = 4
_MOST_STREAMS = 1024


_Session = TypeVar("_Session", bound=Session)


@dataclass(frozen=True)
class Trial(Generic[_Session]):
    """What came of trying.

    Attributes:
        session: The fastest, open.
        reason: Why it was chosen, for the user; empty where there is one engine only.
        is_clear: Whether the measurements agree on it.
    """

    session: _Session
    reason: str
    is_clear: bool


def open_first(
    session_type: type[_Session], folder: Path, signature: Signature, candidates: Sequence[EngineSettings]
) -> _Session:
    """Open the first engine that is installed, reads the file and passes the self-test.

    Each that does not pass is told of before the next one is tried.

    Raises:
        ModelFileError: No engine passes, and the error is that of the first; or the self-test is damaged.
        MissingDependencyError: None is installed.
    """
    session_type.require_self_test(folder)  # its damage is told once, and is no engine's failure
    opener = _Opener(session_type, folder, signature, candidates)
    return opener.first()


def try_engines(
    session_type: type[_Session],
    folder: Path,
    signature: Signature,
    candidates: Sequence[EngineSettings],
    num_images: int,
) -> Trial[_Session]:
    """Try engines, an image at a time and in batches, then streams of the fastest.

    Args:
        session_type: What opens, tests and computes the file.
        folder: The exported model.
        signature: What its ``signature.json`` says.
        candidates: Settings of each engine to begin with, the preferred one first.
        num_images: Images that are going to be computed.

    Raises:
        ModelFileError: No engine passes the self-test; the error is that of the first.
        MissingDependencyError: None is installed.
    """
    started = time.perf_counter()
    session_type.require_self_test(folder)
    opener = _Opener(session_type, folder, signature, candidates)
    first = opener.first()
    budget_s = max(BUDGET_S, min(_LONGEST_S, _SHARE * num_images * first.first_s / first.settings.streams))
    clock = Clock(budget_s - (time.perf_counter() - started))
    sessions = [first, *opener.others(clock)]
    if opener.left:
        return Trial(first, "too slow or too busy here to try another", is_clear=False)
    sessions += [batched for session in sessions if (batched := _batched(session, clock))]
    by_name = {str(session.settings): session for session in sessions}
    rounds = _rounds(by_name, Clock(clock.left_s, of_cpu=True))
    fastest = (rounds.fastest() if rounds.are_enough else None) or str(first.settings)
    best, reason, is_clear = by_name[fastest], *_reason(rounds, by_name, fastest)
    return Trial(_with_pairs(best, clock), reason, is_clear)


class _Opener(Generic[_Session]):
    """Opens engines in the order of preference; each that does not pass the self-test is told of.

    Attributes:
        left: Settings that have not been tried.
    """

    def __init__(
        self,
        session_type: type[_Session],
        folder: Path,
        signature: Signature,
        candidates: Sequence[EngineSettings],
    ) -> None:
        self._open = partial(session_type, folder, signature)
        self._is_choice = len(candidates) > 1
        self._failed: list[ResidualError] = []
        self._missing: list[ResidualError] = []
        self._longest_s = 0.0
        self.left = list(candidates)

    def first(self) -> _Session:
        """Open the first that passes.

        Raises:
            ModelFileError: No engine passes; the error is that of the first.
            MissingDependencyError: None is installed.
        """
        while self.left:
            session = self._next()
            if session is not None:
                return session
        raise [*self._failed, *self._missing][0]

    def others(self, clock: Clock) -> list[_Session]:
        """Open those that are left, as long as there is time."""
        sessions = []
        while self.left and clock.left_s >= _SLOWER_TO_OPEN * self._longest_s:
            session = self._next()
            if session is not None:
                sessions.append(session)
        return sessions

    def _next(self) -> _Session | None:
        settings = self.left.pop(0)
        started = time.perf_counter()
        try:
            return self._open(settings)
        except MissingDependencyError as error:
            self._missing.append(error)
        except ModelFileError as error:
            self._failed.append(error)
            if self._is_choice:
                warn(f"{settings.engine} is left out: {error.found}")
        finally:
            self._longest_s = max(self._longest_s, time.perf_counter() - started)
        return None


def _batched(session: _Session, clock: Clock) -> _Session | None:
    """Return a session of the engine for several images a request, where that may pay."""
    if not session.takes_batches:
        return None
    seconds = _seconds_of_request(session)
    if seconds >= _BATCH_BELOW_S or clock.left_s <= 0:
        return None
    try:
        return session.with_batch(_LARGE_BATCH if seconds < _LARGE_BATCH_BELOW_S else _BATCH)
    except ModelFileError as error:  # what has failed the self-test is no alternative
        warn(f"{session.settings.engine} takes an image at a time: {error.found}")
        return None


def _rounds(sessions: Mapping[str, Session], clock: Clock) -> Rounds:
    with _Passes() as passes:
        alternatives = {name: passes.of(session) for name, session in sessions.items()}
        return run_in_turn(alternatives, clock, most_rounds=_MOST_ROUNDS)


def _reason(rounds: Rounds, sessions: Mapping[str, Session], best: str) -> tuple[str, bool]:
    """Return in words how the fastest compares with other engines, and whether that is clear."""
    others = [name for name in sessions if name != best]
    is_clear = all(rounds.verdict(best, name, _AS_FAST) == "faster" for name in others)
    engine = sessions[best].settings.engine
    rivals = [name for name in others if sessions[name].settings.engine != engine]
    if not rivals:
        return "", is_clear
    if not rounds.are_enough:
        return "too slow or too busy here to measure", False
    measured = {
        name: float(np.median(rounds.ratios(name, best))) for name in rivals if rounds.ratios(name, best)
    }
    rival = min(measured, key=measured.__getitem__, default=rivals[0])
    compared = f"takes {measured[rival]:.2f} of its time" if measured else "is far behind"
    doubt = "" if is_clear else ", which is not clear"
    return f"measured: {sessions[rival].settings.engine} {compared}{doubt}", is_clear


def _with_pairs(session: _Session, clock: Clock) -> _Session:
    """Return a session of half as many streams, of two threads each, where that is clearly faster."""
    settings = session.settings
    if settings.streams < _FEWEST_STREAMS_TO_PAIR or settings.engine == "torch" or clock.left_s <= 0:
        return session
    try:
        paired = session.with_settings(
            replace(settings, streams=settings.streams // 2, threads=2 * settings.threads)
        )
    except ModelFileError as error:
        warn(f"{settings.engine} keeps to a stream for each core: {error.found}")
        return session
    # By the clock on the wall: threads of a stream wait for each other.
    rounds = _rounds({"single": session, "paired": paired}, clock)
    return paired if rounds.verdict("paired", "single", _WORTH) == "faster" else session


def _seconds_of_request(session: Session) -> float:
    """Return CPU seconds of a request, the second one."""
    session.compute_stored()
    started = time.process_time()
    session.compute_stored()
    return time.process_time() - started


class _Passes:
    """Makes passes of sessions: every stream computes a few requests, all at the same time."""

    def __init__(self) -> None:
        self._pools: list[ThreadPoolExecutor] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools:
            pool.shutdown()

    def of(self, session: Session) -> Pass:
        """Return a pass of a session, and how many images it computes."""
        settings, times = session.settings, 1
        if session.first_s < _SURELY_LONG_S:
            seconds = max(_seconds_of_request(session), _PASS_S / _MOST_REQUESTS)
            times = math.ceil(_PASS_S / seconds)
        pool = ThreadPoolExecutor(settings.streams)
        self._pools.append(pool)

        def stream(_: int) -> None:
            for _ in range(times):
                session.compute_stored()

        def run() -> None:
            list(pool.map(stream, range(settings.streams)))

        return Pass(run, settings.streams * settings.batch * times)


# -- what is remembered --------------------------------------------------------------------------------------


def remembered(signature: Signature, candidates: Sequence[EngineSettings]) -> EngineSettings | None:
    """Return what was chosen before for this file, on this processor, with these versions; else ``None``."""
    kept = read_cache(_CACHE, _key(signature, candidates)) or {}
    base = next((one for one in candidates if one.engine == kept.get("engine")), None)
    numbers = [kept.get(name) for name in ("streams", "threads", "batch")]
    if base is None or not all(is_whole(number, 1, _MOST_STREAMS) for number in numbers):
        return None
    streams, threads, batch = (int(number) for number in numbers if number is not None)
    return replace(base, streams=streams, threads=threads, batch=batch)


def remember(signature: Signature, candidates: Sequence[EngineSettings], settings: EngineSettings) -> None:
    """Keep what was chosen."""
    chosen = {name: getattr(settings, name) for name in ("engine", "streams", "threads", "batch")}
    write_cache(_CACHE, _key(signature, candidates), chosen)


def _key(signature: Signature, candidates: Sequence[EngineSettings]) -> str:
    facts: dict[str, Any] = {
        "file": signature.sha256,
        "precision": candidates[0].precision,
        "cpu": [cpu_name(), *cpu_flags()],
        "cores": usable_cores(),
        "versions": {
            name: version_of(name) for name in (DISTRIBUTION, *(each.engine for each in candidates))
        },
    }
    return key_of(facts)
