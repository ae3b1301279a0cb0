"""How many times as fast a file is, whatever else the machine does."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from deepresidual.exporting import int8_search
from deepresidual.exporting.int8_search import speed_ratio


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Replace both clocks; what is returned moves CPU seconds and the wall clock on."""
    now = {"cpu": 0.0, "wall": 0.0}
    monkeypatch.setattr(time, "process_time", lambda: now["cpu"])
    monkeypatch.setattr(time, "perf_counter", lambda: now["wall"])

    def spend(cpu: float, wall: float) -> None:
        now["cpu"] += cpu
        now["wall"] += wall

    return spend


def test_pauses_of_the_process_do_not_count(clock: Callable[[float, float], None]) -> None:
    pauses = iter(range(1000))
    slow, fast = (
        lambda count, each=each: clock(count * each, count * each + (next(pauses) % 7) / 10)
        for each in (0.004, 0.001)
    )
    assert speed_ratio(slow, fast) == pytest.approx(4)
    assert speed_ratio(fast, slow) == pytest.approx(0.25)


def test_one_round_does_not_decide_and_a_slow_network_has_three(
    clock: Callable[[float, float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_search, "_SPEED_S", 0.0)
    counts: list[int] = []
    seconds = iter([9.0, 2.0, 1.0, 2.0, 1.0, 0.1, 1.0, 2.0])  # what prepares first, then three rounds

    def compute(count: int) -> None:
        counts.append(count)
        once = next(seconds)
        clock(once, once)

    assert speed_ratio(compute, compute) == pytest.approx(0.5)  # of 0.5, 10 and 0.5
    assert counts == [1] * 8


def test_both_compute_as_many_images(clock: Callable[[float, float], None]) -> None:
    counts: dict[str, list[int]] = {"before": [], "after": []}

    def side(name: str, each: float) -> Callable[[int], None]:
        def compute(count: int) -> None:
            counts[name].append(count)
            first = 1.0 if len(counts[name]) == 1 and name == "before" else 0.0
            clock(count * each + first, count * each + first)

        return compute

    assert speed_ratio(side("before", 0.0002), side("after", 0.0001)) == pytest.approx(2)
    assert counts["before"] == counts["after"]
