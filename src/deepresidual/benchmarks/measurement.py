"""Measure two ways of doing the same thing in turn, with the facts that a result needs.

Machines are shared and drift, so a row is the ratio of two sides that were measured A B A B …, as the median
of the pairs with their range. Absolute numbers stand beside it for orientation.

Example:
    >>> pairs = in_turn({"ours": ours, "theirs": theirs}, repetitions=5)
    >>> ratio(pairs["theirs"], pairs["ours"]).median  # above 1: ours takes less time
    1.7
"""

from __future__ import annotations

import math
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from scipy.stats import quantile_test

from deepresidual.errors import ConfigurationError, RunError, UnknownNameError
from deepresidual.fields import is_whole
from deepresidual.runtime.cpu import telling_flags
from deepresidual.runtime.device import describe_hardware
from deepresidual.runtime.files import make_folder, write_json
from deepresidual.runtime.provenance import command_line, now, version_of, versions

MIN_REPETITIONS = 5
"""Fewest pairs of a published row."""

_MOST_REPETITIONS = 1000


@dataclass(frozen=True)
class Ratio:
    """The quotients of the pairs of a comparison.

    Attributes:
        median: Their median.
        lowest: The smallest.
        highest: The largest.
        count: Number of pairs.
    """

    median: float
    lowest: float
    highest: float
    count: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lowest:.2f} – {self.highest:.2f}, n = {self.count})"


@dataclass(frozen=True)
class Row:
    """One comparison, or one speed or size alone.

    Attributes:
        name: Name of the row, for ``--rows``.
        what: The same in words.
        against: The peer; empty: there is none.
        target: The ratio that is aimed at; ``None`` where there is no peer.
        at_most: Whether the target is a ceiling (memory) rather than a floor (speed).
        ratio: The measured ratio; ``None``: nothing was measured.
        unit: Unit of ``ours`` and ``theirs``.
        ours: Median of our side.
        theirs: Median of the other.
        reason: Why nothing was measured.
        details: Setup of both sides and further findings, as JSON types.
    """

    name: str
    what: str
    against: str = ""
    target: float | None = None
    at_most: bool = False
    ratio: Ratio | None = None
    unit: str = ""
    ours: float | None = None
    theirs: float | None = None
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_met(self) -> bool | None:
        """Whether the median reaches the target; ``None`` where nothing was measured."""
        if self.ratio is None or self.target is None:
            return None
        return self.ratio.median <= self.target if self.at_most else self.ratio.median >= self.target

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {**asdict(self), "is_met": self.is_met}


@dataclass(frozen=True)
class Result:
    """The rows of a benchmark and everything that is needed to repeat them.

    Attributes:
        benchmark: Its name.
        command: The command that was given, program name first; absolute paths by their last name.
        commit: The commit of the checkout, with ``+`` where files differ from it; else the version.
        hardware: Device, cores, threads, and instruction sets of the processor.
        threads: Threads of torch on each side.
        versions: Of everything that can change a figure.
        date: When it ended, UTC.
        repetitions: Pairs a row.
        rows: The measured rows.
    """

    benchmark: str
    command: list[str]
    commit: str
    hardware: dict[str, Any]
    threads: int
    versions: dict[str, Any]
    date: str
    repetitions: int
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {**asdict(self), "rows": [row.to_dict() for row in self.rows]}

    def save(self, path: Path) -> None:
        """Write the result as a JSON file.

        Raises:
            RunError: It cannot be written.
        """
        make_folder(path.parent)
        write_json(path, {"schema_version": 1, **self.to_dict()})


def make_result(
    benchmark: str, rows: Sequence[Row], repetitions: int, device: torch.device, peers: Sequence[str] = ()
) -> Result:
    """Return a result of ``rows`` with the facts of this machine and installation.

    Args:
        benchmark: Name of the benchmark.
        rows: The measured rows.
        repetitions: Pairs a row.
        device: Device of the measurement.
        peers: Packages that ours was compared with; their versions belong to the result.
    """
    found = versions()
    return Result(
        benchmark=benchmark,
        command=[Path(word).name if Path(word).is_absolute() else word for word in command_line()],
        commit=measured_commit(),
        hardware={**describe_hardware(device), "flags": list(telling_flags())},
        threads=torch.get_num_threads(),
        versions={**found, **{peer: version_of(peer) for peer in peers}},
        date=now(),
        repetitions=repetitions,
        rows=tuple(rows),
    )


def in_turn(
    sides: Mapping[str, Callable[[], float]], repetitions: int, *, warm_up: int = 1
) -> dict[str, list[float]]:
    """Measure every side once, again and again, and return what each gave, in the order of the rounds.

    Args:
        sides: Functions that return what they measured of themselves, for example with :func:`seconds_of`.
        repetitions: Rounds that count.
        warm_up: Rounds before them.
    """
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(warm_up + repetitions):
        for name, measure in sides.items():
            value = measure()
            if number >= warm_up:
                measured[name].append(value)
    return measured


def seconds_of(function: Callable[[], object], device: torch.device | None = None) -> Callable[[], float]:
    """Return a function that calls ``function`` and returns how many seconds that took."""

    def measure() -> float:
        _wait(device)
        started = time.perf_counter()
        function()
        _wait(device)
        return time.perf_counter() - started

    return measure


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Return median and range of the quotients of pairs that were measured one after the other."""
    quotients = [above / below for above, below in zip(numerators, denominators, strict=True)]
    return Ratio(statistics.median(quotients), min(quotients), max(quotients), len(quotients))


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of the median of ``values`` by their ranks; ``None`` of fewer than six."""
    interval: Any = quantile_test(values, p=0.5).confidence_interval(0.95)
    return (float(interval.low), float(interval.high)) if math.isfinite(interval.low) else None


def unmeasured(row: Row, reason: str) -> Row:
    """Return ``row`` without figures and with the reason why."""
    return Row(row.name, row.what, row.against, row.target, row.at_most, reason=f"unmeasured: {reason}")


def alone(row: Row, measure: Callable[[], float], repetitions: int, details: Mapping[str, Any]) -> Row:
    """Return ``row`` with the median of what ``measure`` returns after one call that does not count."""
    values = in_turn({"ours": measure}, repetitions)["ours"]
    return replace(row, ours=statistics.median(values), details=dict(details), reason="measured alone")


def require_alike(what: str, ours: float, theirs: float, tolerance: float) -> None:
    """Refuse to time two sides that do not compute the same.

    Args:
        what: The quantity that should agree.
        ours: Its value here.
        theirs: Its value there.
        tolerance: Largest difference, relative to the larger of the two.

    Raises:
        RunError: They differ by more.
    """
    if not abs(ours - theirs) <= tolerance * max(abs(ours), abs(theirs)):
        raise RunError(
            f"{what} is {ours:.6g} here and {theirs:.6g} there",
            expected=f"a difference of at most {tolerance:.1%}, so that like is timed with like",
        )


def check_repetitions(repetitions: int) -> None:
    """Refuse a number of repetitions that is out of range.

    Raises:
        ConfigurationError: It is below 1 or above 1,000.
    """
    if not is_whole(repetitions, 1, _MOST_REPETITIONS):
        raise ConfigurationError(f"repetitions is {repetitions!r}", expected=f"1 to {_MOST_REPETITIONS:,}")


def chosen_rows(names: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """Return the rows to measure, in their own order: those ``chosen``, or all.

    Raises:
        UnknownNameError: One is not among ``names``.
    """
    for name in chosen:
        if name not in names:
            raise UnknownNameError("row", name, names)
    return [name for name in names if not chosen or name in chosen]


def _wait(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def checkout() -> Path | None:
    """Return the folder of the sources that this file is run from; ``None`` of an installed package."""
    here = Path(__file__).resolve()
    root = here.parents[3]
    return root if here.parents[2] == root / "src" else None


def measured_commit() -> str:
    """Return the commit of the checkout, with ``+`` where files differ from it; else the version."""
    return _commit() or f"version {versions()['residual']}"


def _commit() -> str:
    """Return the commit of the checkout that this file lies in; empty: there is none."""
    git, root = shutil.which("git"), checkout()
    if git is None or root is None or not (root / ".git").exists():
        return ""

    def ask(*arguments: str) -> str:
        command = [git, "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = ask("status", "--porcelain", "--untracked-files=no")
    return ask("rev-parse", "HEAD") + ("+" if changed else "")
