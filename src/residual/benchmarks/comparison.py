"""One figure of a benchmark: our speed and a peer's, measured in turn, and their ratio.

Machines are shared and their clocks drift, so a speed alone says little. The two sides run one after the
other (A B A B …), each pair gives a ratio, and what is reported is the median of the ratios with their range.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from residual.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MIN_REPETITIONS", "Comparison", "Missing", "compare"]

MIN_REPETITIONS = 5
"""Fewer pairs say nothing about a range."""


@dataclass(frozen=True)
class Comparison:
    """How fast we and a peer did the same work.

    Attributes:
        name: What was measured, and against what.
        ours: Median of our speeds.
        theirs: Median of the peer's.
        unit: Unit of the speeds.
        ratio: Median of ours over theirs, pair by pair.
        lowest: Smallest of these ratios.
        highest: Largest of them.
        repetitions: Number of pairs.
    """

    name: str
    ours: float
    theirs: float
    unit: str
    ratio: float
    lowest: float
    highest: float
    repetitions: int

    def summary(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class Missing:
    """A comparison that could not be made.

    Attributes:
        name: What would have been measured.
        reason: Why it was not, as a clause.
    """

    name: str
    reason: str

    def summary(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return asdict(self)


def compare(
    name: str,
    ours: Callable[[int], float],
    theirs: Callable[[int], float],
    *,
    repetitions: int,
    unit: str = "images/s",
) -> Comparison:
    """Measure two sides in turn, after a pair that warms both up and does not count.

    Args:
        name: What is measured, and against what.
        ours: Does the work once and returns its speed; gets the number of the repetition.
        theirs: The same for the peer.
        repetitions: Number of pairs, :data:`MIN_REPETITIONS` or more.
        unit: Unit of the speeds.

    Raises:
        ConfigurationError: There are too few repetitions.
    """
    if repetitions < MIN_REPETITIONS:
        raise ConfigurationError(f"repetitions is {repetitions}", expected=f"{MIN_REPETITIONS} or more")
    pairs = [(ours(repetition), theirs(repetition)) for repetition in range(repetitions + 1)][1:]
    ratios = [our_speed / their_speed for our_speed, their_speed in pairs]
    return Comparison(
        name,
        ours=statistics.median(speed for speed, _ in pairs),
        theirs=statistics.median(speed for _, speed in pairs),
        unit=unit,
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        repetitions=repetitions,
    )
