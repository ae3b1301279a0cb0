"""How many updates fit into the minutes that a run may take.

The length is settled twice. Before the run it follows from updates on blank images; when the warm-up is over,
from the time that its updates took here. Nothing in a warm-up depends on the length of the run, so with both
numbers of updates (``--steps``, ``--warmup-steps``) a run repeats to the bit on a machine of any speed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from deepresidual.errors import ConfigurationError
from deepresidual.recipe import Recipe
from deepresidual.runs.plan import Plan
from deepresidual.training.kept import MOST_SEEN
from deepresidual.training.options import TrainOptions
from deepresidual.training.timing import seconds_a_step

USUAL_MINUTES = {"finetune": 10.0, "detect": 15.0}
"""Time that these recipes take at most on a machine without a GPU where nothing else is asked for."""

_WARMUP_SHARE = 0.1
_TIMED_IMAGES = 8
_FEWEST, _FEWEST_TIMED = 10, 3
# Reports, heat maps, checkpoints: each is held down to a twentieth.
_OVERHEAD = 1.05


@dataclass(frozen=True)
class Length:
    """The length of a run in minutes, and what it was planned from.

    Attributes:
        minutes: Minutes of the updates and evaluations; what comes before the first update is not counted.
        warmup_seconds: Time of an update of the warm-up, when it was planned.
        seconds: Time of an update after it.
        most_steps: Updates that the recipe has without minutes.
        is_settled: Whether it was planned again after the warm-up.
    """

    minutes: float
    warmup_seconds: float
    seconds: float
    most_steps: int
    is_settled: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types, for ``run.json``."""
        return dict(vars(self))


def minutes_of(options: TrainOptions, recipe: Recipe, device: torch.device, num_processes: int) -> float:
    """Return the minutes that a run may take; 0: the recipe says how long it is, or has no updates at all.

    Raises:
        ConfigurationError: Two lengths are asked for, or minutes of several processes.
    """
    given = [name for name in ("epochs", "steps") if options.changes.get(name) is not None]
    if options.minutes is None:
        is_usual = device.type == "cpu" and num_processes == 1 and not given
        is_named = not isinstance(options.recipe, Recipe)
        return USUAL_MINUTES.get(recipe.name, 0.0) if is_usual and is_named else 0.0
    check_minutes(options.minutes)
    if given:
        raise ConfigurationError(f"minutes and {given[0]} are given together", expected="one of both")
    if num_processes > 1:
        raise ConfigurationError(
            f"minutes is given for {num_processes} processes", remedy="say how long with --epochs or --steps"
        )
    return options.minutes if recipe.steps != 0 else 0.0


def check_minutes(minutes: float | None) -> None:
    """Refuse a time that is none.

    Raises:
        ConfigurationError: It is not above 0.
    """
    if minutes is not None and not 0 < minutes <= 1e6:
        raise ConfigurationError(f"minutes is {minutes:g}", expected="a number above 0")


def plan_length(plan: Plan, minutes: float, device: torch.device) -> tuple[Plan, Length]:
    """Return the plan with as many updates as are expected to fit into ``minutes``, ten at least."""
    least = replace(plan, recipe=replace(plan.recipe, steps=10, warmup_steps=1))
    length = Length(
        minutes,
        seconds_a_step(least, device, step=0, batch_size=_TIMED_IMAGES),
        seconds_a_step(least, device, step=9, batch_size=_TIMED_IMAGES),
        plan.total_steps,
    )
    evaluation = _evaluation_seconds(plan, length)
    # On a busy machine blank images take long; the warm-up will tell.
    total = max(_FEWEST, _fitting(plan, 60 * minutes, length, evaluation, 0))
    warmup = max(_FEWEST_TIMED, round(_WARMUP_SHARE * total))
    return replace(plan, recipe=replace(plan.recipe, steps=total, warmup_steps=warmup)), length


def length_in_words(num_steps: int, length: Length) -> str:
    """Return how many updates are planned for how many minutes: ``4 steps for 1 minute at 0.2 s each``."""
    steps = f"{num_steps:,} {'step' if num_steps == 1 else 'steps'}"
    minutes = f"{length.minutes:g} {'minute' if length.minutes == 1 else 'minutes'}"
    return f"{steps} for {minutes} at {length.seconds:.2g} s each"


def plan_again(
    plan: Plan, length: Length, num_steps: int, seconds: float, evaluation_seconds: float | None
) -> tuple[Plan, Length]:
    """Return the plan with as many updates as fit into the rest of the minutes, after the warm-up.

    Args:
        plan: The plan so far.
        length: What it was made from.
        num_steps: Updates that were timed; 0: none, so it stays as it is.
        seconds: Time that they took.
        evaluation_seconds: Time of one evaluation; ``None``: none was timed.
    """
    if not num_steps:
        return plan, replace(length, is_settled=True)
    slower = seconds / num_steps / length.warmup_seconds
    found = replace(
        length,
        warmup_seconds=length.warmup_seconds * slower,
        seconds=length.seconds * slower,
        is_settled=True,
    )
    evaluation = evaluation_seconds or slower * _evaluation_seconds(plan, length)
    warmup = plan.warmup_steps
    rest = 60 * length.minutes - warmup * found.warmup_seconds
    total = warmup + _fitting(plan, rest, found, evaluation, warmup)
    return replace(plan, recipe=replace(plan.recipe, steps=total)), found


def _fitting(plan: Plan, seconds: float, length: Length, evaluation_seconds: float, done: int) -> int:
    """Return how many further updates, one or more, fit into ``seconds`` with their evaluations."""
    recipe, most = plan.recipe, length.most_steps - done
    steps_an_evaluation = max(1, plan.first_step_of_epoch(recipe.evaluate_every))
    # One evaluation more is that of the average, and one that of the final split. Where the average is kept,
    # it and the probe are measured on training images first.
    images = 2 * plan.num_held_out
    if recipe.keep_model == "average":
        images += 2 * min(MOST_SEEN, plan.num_samples)
    rest = seconds / _OVERHEAD - images / max(1, plan.num_held_out) * evaluation_seconds
    each = length.seconds + evaluation_seconds / steps_an_evaluation
    return max(1, min(most, int(rest / each)))


def _evaluation_seconds(plan: Plan, length: Length) -> float:
    """Return the time of an evaluation: an image for a third of one that is trained on."""
    return plan.num_held_out * length.seconds / plan.recipe.batch_size / 3
