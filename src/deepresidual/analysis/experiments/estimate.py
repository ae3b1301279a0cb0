"""Estimate an experiment before it starts: its arms, updates and images, and their time on this machine.

The update of the cheapest arm is timed on blank images, on as many threads as one of the jobs has; the
others are taken to need time in proportion to their multiply-adds. Reading images and the measurements after
training are not counted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deepresidual.analysis.experiments.experiment import Arm, Experiment, Scale
from deepresidual.analysis.experiments.images import subsample
from deepresidual.analysis.experiments.jobs import check_jobs, share_of_cores
from deepresidual.data.sampler import steps_until_epoch
from deepresidual.data.source import SampleSource, open_source
from deepresidual.runtime.compute import PrecisionChoice
from deepresidual.training.preview import preview

_USUAL_PX = {"cifar": 32, "imagenet": 224}


@dataclass(frozen=True)
class ArmEstimate:
    """Steps and time of one arm.

    Attributes:
        arm: The arm.
        num_steps: Updates of one run; ``None``: they depend on data that was not named.
        seconds: Time of all its runs; ``None``: no data was named.
    """

    arm: Arm
    num_steps: int | None
    seconds: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the arm in numbers as JSON types."""
        network = self.arm.network
        return {
            "name": self.arm.name,
            "label": self.arm.label,
            "layers": network.num_layers,
            "parameters": network.num_parameters,
            "seeds": self.arm.num_seeds,
            "steps": self.num_steps,
            "seconds": self.seconds,
        }


def estimate(
    experiment: Experiment,
    arms: Sequence[Arm],
    scale: Scale,
    data: SampleSource | str | Path | None,
    *,
    device: str,
    precision: PrecisionChoice,
    num_jobs: int = 1,
) -> list[ArmEstimate]:
    """Estimate steps and time of each arm with ``num_jobs`` runs at a time; nothing is written.

    Raises:
        ConfigurationError: ``num_jobs`` is not allowed.
        DataError: The data cannot be used.
    """
    check_jobs(num_jobs)
    use = experiment.data[scale]
    chosen = data if data is not None else use.default or None
    if chosen is None or not arms:
        return [ArmEstimate(arm, arm.recipe.steps, None) for arm in arms]
    source = subsample(chosen if isinstance(chosen, SampleSource) else open_source(chosen), use)
    cheapest = min(arms, key=_work)
    with _threads_of_a_job(num_jobs):
        timed = preview(
            source,
            cheapest.network,
            recipe=cheapest.recipe,
            image_px=cheapest.image_px,
            precision=precision,
            compile="no",
            device=device,
        )
    rate = timed.seconds_a_step / _work(cheapest)
    found = []
    for arm in arms:
        num_train = len(source.split("train"))
        steps = arm.recipe.steps
        if steps is None:
            steps = steps_until_epoch(arm.recipe.epochs, num_train, arm.recipe.batch_size)
        found.append(ArmEstimate(arm, steps, rate * _work(arm) * steps * arm.num_seeds))
    return found


def elapsed_seconds(rows: Sequence[ArmEstimate], num_jobs: int) -> float | None:
    """Return how long all arms take, so many runs at a time: the longest run, or an equal share of all."""
    each = [row.seconds for row in rows]
    whole = [seconds for seconds in each if seconds is not None]
    if not whole or len(whole) < len(each):
        return None
    longest = max(seconds / row.arm.num_seeds for seconds, row in zip(whole, rows, strict=True))
    return max(longest, sum(whole) / num_jobs)


@contextlib.contextmanager
def _threads_of_a_job(num_jobs: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if num_jobs > 1:
        torch.set_num_threads(share_of_cores(num_jobs))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _work(arm: Arm) -> float:
    """Return the multiply-adds of an update's forward pass."""
    px = arm.image_px or _USUAL_PX[arm.network.stem]
    return float(arm.network.num_macs(px) * arm.recipe.batch_size)
