"""Run alternatives in turn within a few seconds, and tell which is faster; without torch.

What training, evaluation and prediction choose by measuring is measured here: the precision of a network, and
what computes an exported model. Programs beside change the times from second to second, so alternatives take
turns, and what counts is how each compares with another of its own round. One that is far behind is given up
at once; what the rounds do not agree on is not for a cache.

Example:
    >>> passes = {"sort": Pass(numbers.sort), "sorted": Pass(lambda: sorted(numbers))}
    >>> rounds = run_in_turn(passes, Clock(1.0))
    >>> rounds.fastest(), rounds.verdict("sort", "sorted", 0.95)
    ('sort', 'faster')
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

BUDGET_S = 3.0
"""Seconds that a measurement takes at most, or a little more where a pass cannot be ended."""

# Beyond this multiple of the time that the fastest one took an alternative is given up. The first pass of
# each prepares and may take longer.
_GIVE_UP = 1.5
_GIVE_UP_FIRST = 3.0
_FIRST_S = 0.1
_MOST_ROUNDS = 15
# An alternative is faster where it is in so many of the rounds; where neither side has so many, or there are
# too few rounds, nothing is clear.
_SHARE_OF_ROUNDS = 0.75
_FEWEST_ROUNDS = 3

Verdict: TypeAlias = Literal["faster", "slower", "unclear"]


class TooSlowError(Exception):
    """A pass takes longer than it may beside the other alternatives."""


class OutOfTimeError(Exception):
    """The time for the whole measurement is used up."""


class Clock:
    """Times passes and ends what takes too long, where a pass looks at it.

    Args:
        budget_s: Seconds for everything, from now on.
        of_cpu: Whether passes are timed in CPU seconds of this process, which other programs hardly change:
            for alternatives that keep the same number of threads at work.
    """

    def __init__(self, budget_s: float = BUDGET_S, *, of_cpu: bool = False) -> None:
        self._last_end = time.perf_counter() + budget_s
        self._end = math.inf
        self._of_cpu = of_cpu

    @property
    def left_s(self) -> float:
        """Seconds that are left, below 0 where there are none."""
        return self._last_end - time.perf_counter()

    def time(self, run: Callable[[], object], limit_s: float = math.inf) -> float:
        """Run something and return its seconds.

        Raises:
            TooSlowError: It takes longer than ``limit_s``.
            OutOfTimeError: The time for everything is used up.
        """
        started = self._now()
        self._end = math.inf if self._of_cpu else started + limit_s
        run()
        self.look()
        seconds = self._now() - started
        if seconds > limit_s:
            raise TooSlowError
        return seconds

    def _now(self) -> float:
        return time.process_time() if self._of_cpu else time.perf_counter()

    def look(self) -> None:
        """End the pass that is running if it takes too long; for a pass that has places to look from."""
        now = time.perf_counter()
        if now > self._end:
            raise TooSlowError
        if now > self._last_end:
            raise OutOfTimeError


@dataclass(frozen=True)
class Pass:
    """What an alternative does in its turn.

    Attributes:
        run: Does it.
        work: How much that is, in a unit that all alternatives share, such as images.
    """

    run: Callable[[], object]
    work: float = 1.0


@dataclass(frozen=True)
class Rounds:
    """Seconds that alternatives took for a unit of work, in rounds.

    Attributes:
        seconds: Of each alternative, by its name; one that was given up has fewer.
        given_up: The multiple of the fastest one's time at which an alternative was given up.
    """

    seconds: dict[str, list[float]]
    given_up: dict[str, float] = field(default_factory=dict)

    def fastest(self) -> str | None:
        """Return the alternative with the smallest median, the first of equals; ``None`` without a round."""
        left = {name: values for name, values in self.seconds.items() if name not in self.given_up}
        if len(left) == 1:
            return next(iter(left))
        medians = {name: statistics.median(values) for name, values in left.items() if values}
        return min(medians, key=medians.__getitem__) if medians else None

    def ratios(self, name: str, other: str) -> list[float]:
        """Return the time of ``name`` as a multiple of that of ``other``, of each round that both have."""
        return [
            mine / its for mine, its in zip(self.seconds[name], self.seconds[other], strict=False) if its > 0
        ]

    def verdict(self, name: str, other: str, worth: float) -> Verdict:
        """Return whether ``name`` takes at most ``worth`` of the time of ``other``, by a clear majority."""
        if other in self.given_up:
            return "faster"
        if name in self.given_up:
            return "slower"
        ratios = self.ratios(name, other)
        if len(ratios) < _FEWEST_ROUNDS:
            return "unclear"
        faster = sum(ratio <= worth for ratio in ratios) / len(ratios)
        if faster >= _SHARE_OF_ROUNDS:
            return "faster"
        return "slower" if 1 - faster >= _SHARE_OF_ROUNDS else "unclear"

    @property
    def are_enough(self) -> bool:
        """Whether one alone is left, or all that are left have rounds enough to tell anything."""
        counts = [len(values) for name, values in self.seconds.items() if name not in self.given_up]
        return len(counts) == 1 or min(counts, default=0) >= _FEWEST_ROUNDS


def run_in_turn(
    alternatives: Mapping[str, Pass],
    clock: Clock,
    *,
    baseline: str | None = None,
    most_rounds: int = _MOST_ROUNDS,
) -> Rounds:
    """Run alternatives in turn until the time is used up or one alone is left.

    Args:
        alternatives: What to do, by name; each does it once before its time counts.
        clock: Its time, and the watch of passes that look at it.
        baseline: An alternative that is never given up. Default: none.
        most_rounds: Rounds after which it is enough.
    """
    rounds = Rounds({name: [] for name in alternatives})
    try:
        alive = _prepared(alternatives, clock, baseline, rounds)
        for _ in range(most_rounds):
            for name in list(alive):
                if len(alive) == 1:
                    return rounds
                each, own = alternatives[name], rounds.seconds[name]
                limit = math.inf if name == baseline else _left(rounds, alive, name)
                try:
                    own.append(clock.time(each.run, limit * each.work) / each.work)
                except TooSlowError:
                    rounds.given_up[name] = _GIVE_UP
                    alive.remove(name)
    except OutOfTimeError:
        pass
    return rounds


def _prepared(
    alternatives: Mapping[str, Pass], clock: Clock, baseline: str | None, rounds: Rounds
) -> list[str]:
    """Run every alternative once and return those that are not far behind."""
    seconds: dict[str, float] = {}
    for name, each in alternatives.items():
        limit = _first_limit(seconds, each) if name != baseline else math.inf
        try:
            seconds[name] = clock.time(each.run, limit) / each.work
        except TooSlowError:
            rounds.given_up[name] = _GIVE_UP_FIRST
    for name, each in alternatives.items():  # the first had none to be held against
        if name != baseline and seconds.get(name, 0) * each.work > _first_limit(seconds, each):
            rounds.given_up[name] = _GIVE_UP_FIRST
    return [name for name in alternatives if name not in rounds.given_up]


def _first_limit(seconds: Mapping[str, float], each: Pass) -> float:
    """Return how long the first pass of an alternative may take beside the first passes of others."""
    return _GIVE_UP_FIRST * min(seconds.values(), default=math.inf) * each.work + _FIRST_S


def _left(rounds: Rounds, alive: list[str], name: str) -> float:
    """Return how long the next pass of an alternative may take beside the fastest of the others."""
    own = rounds.seconds[name]
    others = [rounds.seconds[other] for other in alive if other != name and rounds.seconds[other]]
    if not others:
        return math.inf
    return _GIVE_UP * min(map(statistics.fmean, others)) * (len(own) + 1) - sum(own)


def key_of(facts: Mapping[str, Any]) -> str:
    """Return a name for all that an answer depends on, JSON types, for :mod:`deepresidual.runtime.cache`."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
