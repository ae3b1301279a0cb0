"""Measure the most memory that a training takes, in a process of its own.

``python -m deepresidual.benchmarks.peak_memory MODEL BATCH PX [CHECKPOINTED]`` prints a JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from deepresidual.benchmarks.training_sides import OurTraining, Problem, TrainingSide
from deepresidual.errors import RunError
from deepresidual.runtime.memory import peak_memory

_STEPS = 4  # the peak does not rise after the third


@dataclass(frozen=True)
class Peak:
    """Memory of a process that trained.

    Attributes:
        peak: The most bytes that it held.
        before: Bytes held when the network was built and nothing had run.
    """

    peak: int
    before: int

    @property
    def rise(self) -> int:
        """Bytes that training took beyond libraries and weights."""
        return self.peak - self.before


def our_peak(problem: Problem, *, activation_checkpointing: bool = False) -> Peak:
    """Train a few steps in a new process and return its memory.

    Raises:
        RunError: The process failed.
    """
    program = ["-m", "deepresidual.benchmarks.peak_memory"]
    return peak_of(program, problem, *(["checkpointed"] if activation_checkpointing else []))


def peak_of(program: Sequence[str], problem: Problem, *words: str) -> Peak:
    """Run a Python program that ends with :func:`report_peak`, and return what it reported.

    Args:
        program: Arguments of the interpreter.
        problem: The training; model, batch and pixels follow ``program``.
        words: Arguments after them.

    Raises:
        RunError: The process failed.
    """
    size = [problem.model, str(problem.batch_size), str(problem.image_px)]
    done = subprocess.run(
        [sys.executable, *program, *size, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RunError(f"the process that measures memory failed ({lines[-1]})")
    return Peak(**json.loads(done.stdout.splitlines()[-1]))


def problem_of(model: str, batch_size: str, image_px: str) -> Problem:
    """Return the problem that the arguments of such a program name."""
    return Problem(model, int(batch_size), int(image_px), total_steps=1, device=torch.device("cpu"))


def report_peak(training: TrainingSide) -> None:
    """Train a few steps and print the memory of this process."""
    device = torch.device("cpu")
    before = peak_memory(device)
    with training.surroundings():
        for _ in range(_STEPS):
            training.step()
    sys.stdout.write(json.dumps({"peak": peak_memory(device), "before": before}) + "\n")


if __name__ == "__main__":
    report_peak(OurTraining(problem_of(*sys.argv[1:4]), activation_checkpointing=len(sys.argv) > 4))
