"""Run a side of the benchmark of inference: one view at a time, in one thread or in several at once."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepresidual.benchmarks.measurement import in_turn
from deepresidual.errors import RunError

Precision: TypeAlias = Literal["fp32", "bf16", "int8"]
Compute: TypeAlias = Callable[[int], NDArray[np.float32]]
"""Computes the view of a number and returns its logits ``(1, K)``; several threads may call it at once."""

# Largest root of the mean square difference of logits from PyTorch's, as a share of their deviation.
TOLERANCES: dict[Precision, float] = {"fp32": 1e-3, "bf16": 0.1, "int8": 0.1}

CUT_OFF = 5.0
"""A side in bf16 that takes this many times as long as the fastest one in fp32 is not measured further."""

_MOST_IMAGES = 400
_FEW = 2


@dataclass
class InferenceSide:
    """One way to compute logits.

    Attributes:
        name: Its name, for rows.
        precision: What it computes in.
        callers: Threads that compute at the same time, each a view, or ``batch`` of them.
        compute: Computes ``batch`` views from the one of a number on.
        batch: Views of one call.
        setup: How it is set up, as JSON types.
        before: Called first in every thread that computes, such as to set the number of threads of a library.
        num_images: Views of a turn; chosen by :meth:`try_out`.
        cpu_s: CPU seconds that a view took in each turn.
    """

    name: str
    precision: Precision
    callers: int
    compute: Compute
    batch: int = 1
    setup: dict[str, Any] = field(default_factory=dict)
    before: Callable[[], object] = lambda: None
    num_images: int = 0
    cpu_s: list[float] = field(default_factory=list)

    def seconds(self, num_images: int) -> float:
        """Compute about ``num_images`` views and return the seconds that one takes."""
        calls = max(1, round(num_images / self.batch / self.callers))
        count = calls * self.batch * self.callers
        cpu, wall = time.process_time(), time.perf_counter()
        self._run(calls)
        seconds = (time.perf_counter() - wall) / count
        self.cpu_s.append((time.process_time() - cpu) / count)
        return seconds

    def try_out(self, turn_seconds: float) -> float:
        """Compute a few views, choose how many a turn has, and return the seconds that one takes."""
        few = _FEW * self.callers * self.batch
        self.seconds(1)
        seconds = min(self.seconds(few) for _ in range(2))
        self.num_images = round(max(few, min(_MOST_IMAGES, turn_seconds / seconds)))
        return seconds

    def turn(self) -> float:
        """Compute the views of a turn and return the seconds that one takes."""
        return self.seconds(self.num_images)

    def _run(self, calls: int) -> None:
        """Have every caller compute ``calls`` times."""
        if self.callers == 1:
            self._call(0, calls)
            return
        threads = [
            threading.Thread(target=self._call, args=(number * calls, calls), daemon=True)
            for number in range(self.callers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _call(self, first: int, calls: int) -> None:
        self.before()
        for number in range(first, first + calls):
            self.compute(number * self.batch)

    def require_right(self, expected: NDArray[np.float32]) -> dict[str, float]:
        """Refuse a side that does not compute the network, and return how far its logits are.

        Args:
            expected: PyTorch's logits of all views in float32, ``(N, K)``.

        Raises:
            RunError: Its logits differ by more than rounding in its precision explains.
        """
        self.before()
        parts = [self.compute(number) for number in range(0, len(expected), self.batch)]
        logits = np.concatenate(parts)[: len(expected)]
        rms = float(np.sqrt(np.mean((logits - expected) ** 2)) / expected.std())
        if not rms <= TOLERANCES[self.precision]:
            raise RunError(
                f"{self.name} computes other logits: their difference has {rms:.2g} of the logits' deviation",
                expected=f"at most {TOLERANCES[self.precision]:g}, so that like is timed with like",
            )
        return {
            "rms of logits / deviation": float(f"{rms:.3g}"),
            "top-1 agreement": float(np.mean(logits.argmax(axis=1) == expected.argmax(axis=1))),
        }


@dataclass(frozen=True)
class MeasuredSides:
    """Sides that were measured in turn.

    Attributes:
        seconds: Seconds of a view in every turn, by the side's name.
        cpu_s: CPU seconds of it, likewise.
        details: Setup of each side and how far its logits are from PyTorch's.
        left_out: Why a side was not measured, by its name.
    """

    seconds: dict[str, list[float]]
    cpu_s: dict[str, list[float]]
    details: dict[str, dict[str, Any]]
    left_out: dict[str, str]

    def best(self, names: Sequence[str]) -> str | None:
        """Return the side of these that takes the least time; ``None``: none of them was measured."""
        there = [name for name in names if name in self.seconds]
        return min(there, key=lambda name: statistics.median(self.seconds[name]), default=None)

    def speed(self, name: str) -> float:
        """Return views a second, by the median of the turns."""
        return round(1 / statistics.median(self.seconds[name]), 3)

    def details_of(self, name: str) -> dict[str, Any]:
        """Return how a side is set up and what it took, as JSON types."""
        cpu_ms = round(1000 * statistics.median(self.cpu_s[name]), 3)
        return {"side": name, **self.details[name], "cpu_ms": cpu_ms}


def measure_sides(
    sides: Sequence[InferenceSide], expected: NDArray[np.float32], repetitions: int, turn_seconds: float
) -> MeasuredSides:
    """Check and measure sides in turn; bf16 is left out where it is far behind, as where it is emulated.

    Args:
        sides: The sides, with names of their own.
        expected: PyTorch's logits of all views in float32, ``(N, K)``.
        repetitions: Turns of each.
        turn_seconds: About how long a turn is.

    Raises:
        RunError: A side computes other logits.
    """
    details, trials = {}, {}
    for side in sides:
        details[side.name] = {"setup": side.setup, **side.require_right(expected)}
        trials[side.name] = side.try_out(turn_seconds)
    fp32 = [trials[side.name] for side in sides if side.precision == "fp32"]
    limit = CUT_OFF * min(fp32, default=math.inf)
    left_out = {
        side.name: f"more than {CUT_OFF:g} times the time of the fastest in fp32"
        for side in sides
        if side.precision == "bf16" and trials[side.name] > limit
    }
    going_on = [side for side in sides if side.name not in left_out]
    seconds = in_turn({side.name: side.turn for side in going_on}, repetitions)
    cpu_s = {side.name: side.cpu_s[-repetitions:] for side in going_on}
    return MeasuredSides(seconds, cpu_s, details, left_out)
