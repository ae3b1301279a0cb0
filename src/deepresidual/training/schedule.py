"""The learning rate and the stages that learn: functions of the step, and of what was measured by then."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import assert_never

from deepresidual.recipe import Recipe


@dataclass(frozen=True)
class ScheduleState:
    """Measurements that a schedule follows; part of every checkpoint.

    Attributes:
        warmup_ended: Step at which the training error ended the warm-up; ``None``: it has not.
        num_drops: Times that a plateau has lowered the learning rate.
        best_error: Lowest held-out error so far, as a fraction.
        num_without_gain: Evaluations since then, or since the last drop.
        num_since_best: Evaluations since the lowest error, whatever dropped in between.
    """

    warmup_ended: int | None = None
    num_drops: int = 0
    best_error: float = math.inf
    num_without_gain: int = 0
    num_since_best: int = 0


def learning_rate(
    recipe: Recipe, step: int, total_steps: int, warmup_steps: int, measured: ScheduleState | None = None
) -> float:
    """Return the learning rate of update ``step``.

    Args:
        recipe: The recipe; its schedule and highest learning rate.
        step: Updates done before this one, 0 ≤ step < total_steps.
        total_steps: Updates of the whole run.
        warmup_steps: Updates of the warm-up. A linear one ends with its last step at the highest rate, so
            from 0 the first is at 1 / warmup_steps of it.
        measured: Measurements so far. Default: none.
    """
    measured = measured or ScheduleState()
    ended = warmup_steps if measured.warmup_ended is None else min(warmup_steps, measured.warmup_ended)
    low, high = recipe.warmup_learning_rate, recipe.learning_rate
    if step < ended:
        return low if recipe.warmup == "constant" else low + (high - low) * (step + 1) / warmup_steps
    match recipe.schedule:
        case "constant":
            return high
        case "step":
            drops = sum(step >= at * total_steps for at in recipe.milestones)
            return high * recipe.step_decay**drops
        case "cosine":
            progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
            last = recipe.final_learning_rate
            return last + (high - last) * 0.5 * (1 + math.cos(math.pi * max(0.0, progress)))
        case "plateau":
            return high * recipe.step_decay**measured.num_drops
        case _:
            assert_never(recipe.schedule)


def num_frozen_stages(recipe: Recipe, num_stages: int, step: int, total_steps: int, warmup_steps: int) -> int:
    """Return how many stages, counted from the stem, keep their weights in update ``step``.

    During the warm-up nothing depends on ``total_steps``, so a run whose length is settled then has the same
    updates as one that was so long from the beginning.

    Args:
        recipe: The recipe; its ``frozen_stages`` and ``unfreeze_share``.
        num_stages: Stages of the network, the stem among them.
        step: Updates done before this one.
        total_steps: Updates of the whole run.
        warmup_steps: Updates of the warm-up.
    """
    frozen = recipe.frozen_stages
    if recipe.unfreeze_share == 0:
        return frozen
    all_but_last = num_stages - 1
    if step < warmup_steps:
        return max(frozen, all_but_last)
    span = recipe.unfreeze_share * (total_steps - warmup_steps)
    num_opened = 1 + int((step - warmup_steps) / span * all_but_last)
    return max(frozen, all_but_last - num_opened)


def after_window(recipe: Recipe, measured: ScheduleState, step: int, training_error: float) -> ScheduleState:
    """Return what is known after a window of training steps that ended before ``step``."""
    if (
        recipe.warmup_until_error is not None
        and measured.warmup_ended is None
        and training_error < recipe.warmup_until_error
    ):
        return dataclasses.replace(measured, warmup_ended=step)
    return measured


def after_evaluation(recipe: Recipe, measured: ScheduleState, error: float) -> ScheduleState:
    """Return what is known after an evaluation with a top-1 ``error`` between 0 and 1."""
    if error < measured.best_error:
        return dataclasses.replace(measured, best_error=error, num_without_gain=0, num_since_best=0)
    waited = measured.num_without_gain + 1
    drops = recipe.schedule == "plateau" and waited >= recipe.patience
    return dataclasses.replace(
        measured,
        num_drops=measured.num_drops + drops,
        num_without_gain=0 if drops else waited,
        num_since_best=measured.num_since_best + 1,
    )
