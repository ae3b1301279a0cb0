"""Experiments: the claims of the papers, each as a value that one command runs, draws and judges."""

from __future__ import annotations

from deepresidual.analysis.experiments.arrangements import ARRANGEMENTS
from deepresidual.analysis.experiments.complexity import COMPLEXITY
from deepresidual.analysis.experiments.degradation import DEGRADATION
from deepresidual.analysis.experiments.depth import DEPTH
from deepresidual.analysis.experiments.experiment import SCALES, Experiment, Scale
from deepresidual.analysis.experiments.gradients import GRADIENTS
from deepresidual.analysis.experiments.imagenet import IMAGENET
from deepresidual.analysis.experiments.jobs import usual_jobs
from deepresidual.analysis.experiments.lesions import LESIONS
from deepresidual.analysis.experiments.preactivation import PREACTIVATION
from deepresidual.analysis.experiments.responses import RESPONSES
from deepresidual.analysis.experiments.runner import Reproduction, chosen_arms, reproduce
from deepresidual.analysis.experiments.shortcuts import SHORTCUTS
from deepresidual.analysis.experiments.warmup import WARMUP
from deepresidual.errors import UnknownNameError

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
