"""Try engines, streams and batches for an exported model, and remember the fastest; without torch.

One request for each core and an image at a time is the rule: two streams of one thread are faster than one of
two threads, and of large float32 images a batch saves nothing. Which engine is faster, and where a batch or
fewer streams of two threads pay, depends on the network and the processor (with AMX a batch of four takes 0.6
of the time of an int8 ResNet-50), so it is tried, for at most :data:`~deepresidual.runtime.autotune.BUDGET_S`
seconds, opening included. What is tried computes the same file in the same precision, and has passed the
self-test.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from deepresidual.backends.engine import EngineSettings
from deepresidual.backends.self_test import SelfTest
from deepresidual.backends.session import Session
from deepresidual.backends.signature import SELF_TEST
from deepresidual.errors import DISTRIBUTION, MissingDependencyError, ModelFileError, ResidualError
from deepresidual.fields import is_whole
from deepresidual.runtime.autotune import Clock, Pass, Rounds, key_of, run_in_turn
from deepresidual.runtime.cache import read_cache, write_cache
from deepresidual.runtime.console import warn
from deepresidual.runtime.cpu import cpu_flags, cpu_name
from deepresidual.runtime.processes import usable_cores
from deepresidual.runtime.provenance import version_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from deepresidual.backends.signature import Signature

_CACHE = "engines"

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
_MOST_REQUESTS = 1000
# Of images that take longer one at a time fills a processor; of small ones more fit into its caches.
_BATCH_BELOW_S = 0.03
_BATCH = 4
_LARGE_BATCH_BELOW_S = 0.002
_LARGE_BATCH = 8
_FEWEST_STREAMS_TO_PAIR = 4
_MOST_STREAMS = 1024


@dataclass(frozen=True)
class Trial:
    """What came of trying.

    Attributes:
        session: The fastest, open.
        reason: Why it was chosen, for the user; empty where there is one engine only.
        is_clear: Whether the measurements agree on it.
    """

    session: Session
    reason: str
    is_clear: bool


def open_first(folder: Path, signature: Signature, candidates: Sequence[EngineSettings]) -> Session:
    """Open the first engine that is installed, reads the file and passes the self-test.

    Each that does not pass is told of before the next one is tried.

    Raises:
        ModelFileError: No engine passes, and the error is that of the first; or the stored views are damaged.
        MissingDependencyError: None is installed.
    """
    sessions, errors = _opened(folder, signature, candidates, Clock(math.inf), most=1)
    if not sessions:
        raise errors[0]
    return sessions[0]


def try_engines(folder: Path, signature: Signature, candidates: Sequence[EngineSettings]) -> Trial:
    """Try engines, an image at a time and in batches, then streams of the fastest.

    Args:
        folder: The exported model.
        signature: What its ``signature.json`` says.
        candidates: Settings of each engine to begin with, the preferred one first.

    Raises:
        ModelFileError: No engine passes the self-test; the error is that of the first.
        MissingDependencyError: None is installed.
    """
    clock = Clock()
    views = SelfTest.read(folder / SELF_TEST).pixels
    sessions, errors = _opened(folder, signature, candidates, clock, most=len(candidates))
    if not sessions:
        raise errors[0]
    if len(sessions) + len(errors) < len(candidates):
        return Trial(sessions[0], "too slow or too busy here to try another", is_clear=False)
    sessions += [batched for session in sessions if (batched := _batched(session, views, clock))]
    by_name = {str(session.settings): session for session in sessions}
    rounds = _rounds(by_name, views, Clock(clock.left_s, of_cpu=True))
    fastest = (rounds.fastest() if rounds.are_enough else None) or str(sessions[0].settings)
    best, reason, is_clear = by_name[fastest], *_reason(rounds, by_name, fastest)
    return Trial(_with_pairs(best, views, clock), reason, is_clear)


def _opened(
    folder: Path, signature: Signature, candidates: Sequence[EngineSettings], clock: Clock, *, most: int
) -> tuple[list[Session], list[ResidualError]]:
    """Open up to ``most`` engines, as long as there is time, and return why others are not among them."""
    sessions: list[Session] = []
    failed: list[ResidualError] = []
    missing: list[ResidualError] = []
    longest = 0.0
    SelfTest.read(folder / SELF_TEST)  # damage of the folder is told once, and is no engine's failure
    for settings in candidates:
        if len(sessions) == most or (sessions and clock.left_s < _SLOWER_TO_OPEN * longest):
            break
        started = time.perf_counter()
        try:
            sessions.append(Session(folder, signature, settings))
        except MissingDependencyError as error:
            missing.append(error)
        except ModelFileError as error:
            failed.append(error)
            if len(candidates) > 1:
                warn(f"{settings.engine} is left out: {error.found}")
        longest = max(longest, time.perf_counter() - started)
    return sessions, failed + missing


def _batched(session: Session, views: NDArray[np.uint8], clock: Clock) -> Session | None:
    """Return a session of the engine for several images a request, where that may pay."""
    seconds = _seconds_of_request(session, views[:1])
    if seconds >= _BATCH_BELOW_S or clock.left_s <= 0:
        return None
    try:
        return session.with_batch(_LARGE_BATCH if seconds < _LARGE_BATCH_BELOW_S else _BATCH)
    except ModelFileError as error:  # what has failed the self-test is no alternative
        warn(f"{session.settings.engine} takes an image at a time: {error.found}")
        return None


def _rounds(sessions: Mapping[str, Session], views: NDArray[np.uint8], clock: Clock) -> Rounds:
    with _Passes(views) as passes:
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


def _with_pairs(session: Session, views: NDArray[np.uint8], clock: Clock) -> Session:
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
    rounds = _rounds({"single": session, "paired": paired}, views, clock)
    return paired if rounds.verdict("paired", "single", _WORTH) == "faster" else session


def _seconds_of_request(session: Session, pixels: NDArray[np.uint8]) -> float:
    """Return CPU seconds of a request, the second one."""
    session.logits_here(pixels)
    started = time.process_time()
    session.logits_here(pixels)
    return time.process_time() - started


class _Passes:
    """Makes passes of sessions: every stream computes a few requests, all at the same time."""

    def __init__(self, views: NDArray[np.uint8]) -> None:
        self._views = views
        self._pools: list[ThreadPoolExecutor] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools:
            pool.shutdown()

    def of(self, session: Session) -> Pass:
        """Return a pass of a session, and how many images it computes."""
        settings = session.settings
        pixels = np.resize(self._views, (settings.batch, *self._views.shape[1:]))
        times = math.ceil(_PASS_S / max(_seconds_of_request(session, pixels), _PASS_S / _MOST_REQUESTS))
        pool = ThreadPoolExecutor(settings.streams)
        self._pools.append(pool)

        def stream(_: int) -> None:
            for _ in range(times):
                session.logits_here(pixels)

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
