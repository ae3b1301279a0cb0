"""Training: a plan, a run folder, and the loop that fills it."""

from residual.training.launch import train
from residual.training.loop import RunResult

__all__ = ["RunResult", "train"]
