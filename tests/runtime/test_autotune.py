"""Alternatives in turn: who is given up, what rounds decide, and that time is kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from deepresidual.runtime import autotune
from deepresidual.runtime.autotune import Clock, Pass, Rounds, Verdict, key_of, run_in_turn


class Time:
    """A clock that goes on only where it is told, since a busy machine is no defect."""

    def __init__(self) -> None:
        self.now = 0.0
        self.done: list[str] = []

    def perf_counter(self) -> float:
        return self.now

    def taking(self, name: str, *seconds: float) -> Callable[[], None]:
        """Return a pass that takes these seconds, one after the other, and the last of them from then on."""
        left = list(seconds)

        def run() -> None:
            self.done.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    fake = Time()
    monkeypatch.setattr(autotune, "time", fake)
    return fake


def test_three_take_turns_and_the_one_far_behind_is_given_up(time: Time) -> None:
    passes = {
        name: Pass(time.taking(name, seconds))
        for name, seconds in (("a", 0.02), ("b", 0.019), ("slow", 0.045))
    }
    rounds = run_in_turn(passes, Clock())
    assert time.done[:7] == ["a", "b", "slow", "a", "b", "slow", "a"]
    assert rounds.given_up == {"slow": 1.5}
    assert (len(rounds.seconds["a"]), rounds.seconds["slow"]) == (15, [])
    assert (rounds.fastest(), rounds.verdict("b", "slow", 1.0)) == ("b", "faster")


def test_one_that_is_left_alone_has_won(time: Time) -> None:
    passes = {"a": Pass(time.taking("a", 1.0)), "b": Pass(time.taking("b", 0.01))}
    rounds = run_in_turn(passes, Clock(100.0))
    assert rounds.given_up == {"a": 3.0}
    assert time.done == ["a", "b"]
    assert (rounds.fastest(), rounds.are_enough) == ("b", True)


def test_seconds_of_the_processor_leave_waiting_out(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "process_time", lambda: 0.01 * len(time.done), raising=False)
    passes = {"waits": Pass(time.taking("waits", 0.04)), "computes": Pass(time.taking("computes", 0.02), 0.8)}
    rounds = run_in_turn(passes, Clock(of_cpu=True))
    assert rounds.fastest() == "waits"
    assert rounds.ratios("waits", "computes")[:2] == pytest.approx([0.8, 0.8])


def test_the_first_pass_may_take_longer(time: Time) -> None:
    passes = {"a": Pass(time.taking("a", 0.01)), "b": Pass(time.taking("b", 0.12, 0.005))}
    rounds = run_in_turn(passes, Clock())
    assert rounds.fastest() == "b"


def test_work_is_divided_by(time: Time) -> None:
    passes = {"one": Pass(time.taking("one", 0.01), 1), "eight": Pass(time.taking("eight", 0.064), 8)}
    rounds = run_in_turn(passes, Clock())
    assert rounds.fastest() == "eight"
    assert rounds.ratios("eight", "one") == pytest.approx([0.8] * 15)


def test_the_budget_ends_it(time: Time) -> None:
    passes = {"a": Pass(time.taking("a", 0.3)), "b": Pass(time.taking("b", 0.3))}
    rounds = run_in_turn(passes, Clock(1.0))
    assert time.now == pytest.approx(1.2)
    assert not rounds.are_enough
    assert rounds.verdict("a", "b", 1.0) == "unclear"


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([0.5, 0.5, 0.5, 1.2], "faster"),
        ([0.5, 1.2, 1.2, 1.2], "slower"),
        ([0.5, 0.5, 1.2, 1.2], "unclear"),
        ([0.5, 0.5], "unclear"),
    ],
)
def test_three_of_four_rounds_decide(ratios: list[float], expected: Verdict) -> None:
    assert Rounds({"a": ratios, "b": [1.0] * len(ratios)}).verdict("a", "b", 0.9) == expected


def test_nothing_is_fastest_without_a_round() -> None:
    assert Rounds({"a": [], "b": []}).fastest() is None


def test_a_key_tells_facts_apart_whatever_their_order() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1}) != key_of({"a": 1, "b": 3})
