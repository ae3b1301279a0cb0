"""Comparisons: in turn, with a warm-up that does not count, and medians of ratios."""

from __future__ import annotations

import pytest

from residual.benchmarks.comparison import Comparison, Missing, compare
from residual.errors import ConfigurationError


def test_sides_are_measured_in_turn_and_ratios_are_of_pairs() -> None:
    calls: list[tuple[str, int]] = []
    speeds = {"ours": [1.0, 20, 40, 60, 80, 100], "theirs": [100.0, 10, 10, 10, 10, 10]}

    def side(name: str) -> object:
        def measure(repetition: int) -> float:
            calls.append((name, repetition))
            return speeds[name][repetition]

        return measure

    row = compare("x", side("ours"), side("theirs"), repetitions=5)  # type: ignore[arg-type]
    assert calls == [(name, repetition) for repetition in range(6) for name in ("ours", "theirs")]
    # The first pair, whose ratio is 0.01, warms up.
    assert row == Comparison("x", 60, 10, "images/s", ratio=6, lowest=2, highest=10, repetitions=5)
    assert row.summary()["ratio"] == 6
    assert Missing("y", "timm is not installed").summary() == {"name": "y", "reason": "timm is not installed"}


def test_too_few_repetitions_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^repetitions is 4; expected 5 or more$"):
        compare("x", float, float, repetitions=4)
