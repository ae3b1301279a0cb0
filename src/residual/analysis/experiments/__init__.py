"""Experiments: the claims of the papers, each as a value that one command runs, draws and judges."""

from __future__ import annotations

from residual.analysis.experiments.arrangements import ARRANGEMENTS
from residual.analysis.experiments.complexity import COMPLEXITY
from residual.analysis.experiments.degradation import DEGRADATION
from residual.analysis.experiments.depth import DEPTH
from residual.analysis.experiments.experiment import SCALES, Experiment, Scale
from residual.analysis.experiments.gradients import GRADIENTS
from residual.analysis.experiments.imagenet import IMAGENET
from residual.analysis.experiments.jobs import usual_jobs
from residual.analysis.experiments.lesions import LESIONS
from residual.analysis.experiments.preactivation import PREACTIVATION
from residual.analysis.experiments.responses import RESPONSES
from residual.analysis.experiments.runner import Reproduction, chosen_arms, reproduce
from residual.analysis.experiments.shortcuts import SHORTCUTS
from residual.analysis.experiments.warmup import WARMUP
from residual.errors import UnknownNameError

__all__ = [
    "EXPERIMENTS",
    "SCALES",
    "Experiment",
    "Reproduction",
    "Scale",
    "chosen_arms",
    "experiment",
    "reproduce",
    "usual_jobs",
]

EXPERIMENTS: tuple[Experiment, ...] = (
    COMPLEXITY,
    DEGRADATION,
    DEPTH,
    SHORTCUTS,
    ARRANGEMENTS,
    PREACTIVATION,
    WARMUP,
    RESPONSES,
    GRADIENTS,
    LESIONS,
    IMAGENET,
)


def experiment(name: str) -> Experiment:
    """Return the experiment called ``name``.

    Raises:
        UnknownNameError: There is none; the message names the nearest.
    """
    for one in EXPERIMENTS:
        if one.name == name:
            return one
    raise UnknownNameError("experiment", name, [one.name for one in EXPERIMENTS])
