"""The decision on a step that is not finite, case by case."""

from __future__ import annotations

from typing import Any

import pytest

from deepresidual.recipe import Recipe
from deepresidual.training.non_finite import Go, LeaveOut, RollBack, Stop, decide


def recipe(non_finite: str, rollback_steps: int = 3) -> Recipe:
    return Recipe(name="tiny").changed({"non_finite": non_finite, "rollback_steps": rollback_steps})


@pytest.mark.parametrize("reaction", ["stop", "skip", "rollback"])
def test_a_step_is_done_unless_it_is_known_to_be_bad(reaction: str) -> None:
    assert decide(recipe(reaction), set(), 5) == Go()
    assert decide(recipe(reaction), {5}, 6) == Go()
    assert decide(recipe(reaction), {5}, 5) == LeaveOut()


@pytest.mark.parametrize(("step", "expected"), [(1, Go()), (2, LeaveOut()), (5, LeaveOut()), (6, Go())])
def test_after_a_rollback_the_steps_before_are_left_out_too(step: int, expected: Any) -> None:
    assert decide(recipe("rollback"), {5}, step) == expected
    assert decide(recipe("skip"), {5}, step) == (LeaveOut() if step == 5 else Go())


@pytest.mark.parametrize(
    ("reaction", "known", "step", "expected"),
    [
        ("stop", set(), 5, Stop()),
        ("skip", set(), 5, LeaveOut()),
        ("rollback", set(), 5, RollBack(2)),
        ("rollback", set(), 1, RollBack(0)),
        ("skip", set(range(9)), 9, Stop()),
        ("skip", set(range(8)), 8, LeaveOut()),
        ("skip", set(range(9)), 10, LeaveOut()),
        ("rollback", set(range(0, 90, 10)), 95, Stop()),
        ("rollback", set(range(0, 80, 10)), 95, RollBack(92)),
    ],
)
def test_a_step_that_is_not_finite(reaction: str, known: set[int], step: int, expected: Any) -> None:
    assert decide(recipe(reaction), known, step, finite=False) == expected
