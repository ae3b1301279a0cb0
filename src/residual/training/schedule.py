"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, assert_never

if TYPE_CHECKING:
    from residual.training.recipe import Recipe

__all__ = ["learning_rate"]


def learning_rate(recipe: Recipe, step: int, total_steps: int, warmup_steps: int) -> float:
    """Return the learning rate of update ``step``.

    Args:
        recipe: The recipe; its schedule and highest learning rate.
        step: Updates done before this one, 0 ≤ step < total_steps.
        total_steps: Updates of the whole run.
        warmup_steps: Updates of the linear rise; the first is at 1 / warmup_steps of the highest rate.
    """
    if step < warmup_steps:
        return recipe.learning_rate * (step + 1) / warmup_steps
    match recipe.schedule:
        case "constant":
            return recipe.learning_rate
        case "step":
            drops = sum(step >= at * total_steps for at in recipe.milestones)
            return recipe.learning_rate * recipe.decay**drops
        case "cosine":
            progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
            return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        case _:
            assert_never(recipe.schedule)
