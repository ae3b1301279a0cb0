"""Training: a recipe, a plan, a run folder, and the loop that fills it."""

from residual.training.loop import RunResult, train
from residual.training.recipe import Recipe

__all__ = ["Recipe", "RunResult", "train"]
