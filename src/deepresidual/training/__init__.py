"""Training: a plan, a run folder, and the loop that fills it."""

from deepresidual.training.launch import train
from deepresidual.training.loop import RunResult

__all__ = ["RunResult", "train"]
