"""The most memory that a training takes, in a process of its own.

``python -m deepresidual.benchmarks.peak_memory SIDE MODEL BATCH PX`` prints a JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import torch

from deepresidual.benchmarks.training_sides import OurTraining, PlainTraining, Problem
from deepresidual.errors import RunError
from deepresidual.runtime.memory import peak_memory

if TYPE_CHECKING:
    from deepresidual.benchmarks.training_sides import TrainingSide

__all__ = ["Peak", "Side", "measure_peak", "torchvision_training"]

Side: TypeAlias = Literal["ours", "ours-checkpointed", "torchvision"]

_STEPS = 4  # the peak does not rise after the third


@dataclass(frozen=True)
class Peak:
    """Memory of a process that trained.

    Attributes:
        peak: The most bytes that it held.
        before: What it held when the network was built and nothing had run.
    """

    peak: int
    before: int

    @property
    def rise(self) -> int:
        """What training took beyond libraries and weights."""
        return self.peak - self.before


def measure_peak(side: Side, problem: Problem) -> Peak:
    """Train a few steps in a new process and return its memory.

    Raises:
        RunError: The process failed.
    """
    size = [str(problem.batch_size), str(problem.image_px)]
    command = [sys.executable, "-m", "deepresidual.benchmarks.peak_memory", side, problem.model, *size]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RunError(f"the process that measures memory failed ({lines[-1]})")
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def torchvision_training(problem: Problem) -> PlainTraining:
    """Return torchvision's network in its references' way: float32, NCHW, eager, SGD with momentum."""
    from torchvision import models

    return PlainTraining(models.get_model(problem.model), problem)


def _main(side: Side, model: str, batch_size: int, image_px: int) -> None:
    problem = Problem(model, batch_size, image_px, total_steps=1, device=torch.device("cpu"))
    training: TrainingSide = (
        torchvision_training(problem)
        if side == "torchvision"
        else OurTraining(problem, activation_checkpointing=side == "ours-checkpointed")
    )
    before = peak_memory(problem.device)
    with training.surroundings():
        for _ in range(_STEPS):
            training.step()
    sys.stdout.write(json.dumps({"peak": peak_memory(problem.device), "before": before}) + "\n")


if __name__ == "__main__":
    if sys.argv[1] not in get_args(Side):
        raise SystemExit(f"unknown side {sys.argv[1]}")
    _main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))  # type: ignore[arg-type]
