"""Decide what to do with a step whose loss or gradient is not finite, alike on every process."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from deepresidual.recipe import Recipe

_MOST_BAD_STEPS = 10


@dataclass(frozen=True)
class Go:
    """Do the update."""


@dataclass(frozen=True)
class LeaveOut:
    """Go on with the next step."""


@dataclass(frozen=True)
class RollBack:
    """Go back, and leave out all steps from there to this one.

    Attributes:
        step: The first step to leave out.
    """

    step: int


@dataclass(frozen=True)
class Stop:
    """End the run as diverged."""


Decision = Go | LeaveOut | RollBack | Stop


def decide(recipe: Recipe, not_finite: Collection[int], step: int, *, finite: bool = True) -> Decision:
    """Decide on a step, before it is computed or after its loss or gradient was not finite.

    Args:
        recipe: Its ``non_finite`` and ``rollback_steps``.
        not_finite: The steps so far that were not finite.
        step: The step.
        finite: False if the step was computed and is not finite.
    """
    rolls_back = recipe.non_finite == "rollback"
    before = recipe.rollback_steps if rolls_back else 0
    if finite:
        return LeaveOut() if any(bad - before <= step <= bad for bad in not_finite) else Go()
    if recipe.non_finite == "stop":
        return Stop()
    if rolls_back:
        often = len(not_finite) >= _MOST_BAD_STEPS - 1
    else:
        # Ten in a row, of which the first ten steps of a run may be some.
        often = set(not_finite).issuperset(range(step - _MOST_BAD_STEPS + 1, step))
    if often:
        return Stop()
    return RollBack(max(0, step - before)) if rolls_back else LeaveOut()
