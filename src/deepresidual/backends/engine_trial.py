"""Try engines, streams and batches for an exported model, and remember the fastest; without torch.

One request for each core and an image at a time is the rule: two streams of one thread are faster than one of
two threads, and of large images a batch saves nothing. Which engine is faster, and where a batch or fewer
streams of two threads pay, depends on the network and the processor, so it is tried, for at most
:data:`~deepresidual.runtime.autotune.BUDGET_S` seconds, opening included. What is tried computes the same
file in the same precision, and has passed the self-test.
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
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from deepresidual.backends.signature import Signature

_CACHE = "engines"

# An engine is taken for the fastest where no other takes less than so much of its time.
_AS_FAST = 1.04
# A batch, or streams of two threads, are taken where they save at least this.
_WORTH = 0.97
_ROUNDS_OF_ENGINES = 7

# Opening OpenVINO takes up to one and a half times as long as opening ONNX Runtime with its self-test; what
# would not fit is not begun.
_SLOWER_TO_OPEN = 1.5
# A pass is long beside what starting it costs, and short beside the whole.
_PASS_S = 0.02
# Of images that take longer one at a time fills a processor.
_BATCH_BELOW_S = 0.01
_BATCH = 8
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
        ModelFileError: No engine passes; the error is that of the first.
        MissingDependencyError: None is installed.
    """
    sessions, errors = _opened(folder, signature, candidates, Clock(math.inf), most=1)
    if not sessions:
        raise errors[0]
    return sessions[0]


def try_engines(folder: Path, signature: Signature, candidates: Sequence[EngineSettings]) -> Trial:
    """Try engines, then batches and streams of the fastest.

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
    by_name: dict[str, Session] = {session.settings.engine: session for session in sessions}
    best, reason, is_clear = sessions[0], "", len(sessions) + len(errors) == len(candidates)
    if not is_clear:
        reason = "too slow or too busy here to try another"
    elif len(sessions) > 1:
        with _Passes(views) as passes:
            rounds = run_in_turn(
                {name: passes.of(session) for name, session in by_name.items()},
                clock,
                most_rounds=_ROUNDS_OF_ENGINES,
            )
        best = by_name[rounds.fastest() or best.settings.engine]
        reason, is_clear = _reason(rounds, best.settings.engine)
    if clock.left_s > 0:
        best = _improved(best, views, clock)
    return Trial(best, reason, is_clear)


def _opened(
    folder: Path, signature: Signature, candidates: Sequence[EngineSettings], clock: Clock, *, most: int
) -> tuple[list[Session], list[ResidualError]]:
    """Open up to ``most`` engines, as long as there is time, and return why others are not among them."""
    sessions: list[Session] = []
    failed: list[ResidualError] = []
    missing: list[ResidualError] = []
    longest = 0.0
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


def _reason(rounds: Rounds, best: str) -> tuple[str, bool]:
    """Return in words how the fastest engine compares with the others, and whether that is clear."""
    others = [name for name in rounds.seconds if name != best]
    is_clear = all(rounds.verdict(best, name, _AS_FAST) == "faster" for name in others)
    if not rounds.are_enough and not rounds.given_up:
        return "too slow or too busy here to measure", False
    told = [
        f"{name} given up at {rounds.given_up[name]:.1f} times its time"
        if name in rounds.given_up
        else f"{name} takes {np.median(rounds.ratios(name, best)):.2f} of its time"
        for name in others
    ]
    return f"measured: {', '.join(told)}" + ("" if is_clear else ", which is not clear"), is_clear


def _improved(session: Session, views: NDArray[np.uint8], clock: Clock) -> Session:
    """Return a session of the same engine with the batch or the streams that are clearly faster."""
    settings, seconds = session.settings, _seconds_of_request(session, views[:1])
    variants: dict[str, Session] = {"": session}
    try:
        if seconds < _BATCH_BELOW_S:
            variants["batch"] = session.with_batch(_BATCH)
        if settings.streams >= _FEWEST_STREAMS_TO_PAIR and settings.engine != "torch":
            paired = replace(settings, streams=settings.streams // 2, threads=2 * settings.threads)
            variants["pairs"] = session.with_settings(paired)
    except ModelFileError as error:  # what has failed the self-test is no variant
        warn(f"{settings.engine} keeps to a stream for each core, an image at a time: {error.found}")
    if len(variants) == 1 or clock.left_s <= 0:
        return session
    with _Passes(views) as passes:
        rounds = run_in_turn({name: passes.of(each) for name, each in variants.items()}, clock, baseline="")
    fastest = rounds.fastest() or ""
    return variants[fastest] if rounds.verdict(fastest, "", _WORTH) == "faster" else session


def _seconds_of_request(session: Session, view: NDArray[np.uint8]) -> float:
    session.logits_here(view)
    started = time.perf_counter()
    session.logits_here(view)
    return time.perf_counter() - started


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
        times = max(1, math.ceil(_PASS_S / _seconds_of_request(session, pixels)))
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
