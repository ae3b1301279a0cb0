"""Time updates on blank images, before a run is started."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import torch

from deepresidual.data.loader import Batch
from deepresidual.models import create
from deepresidual.runs.plan import Plan
from deepresidual.runtime.distributed import SINGLE
from deepresidual.tasks import task_of
from deepresidual.training.updater import Updater

_TIMED_UPDATES = 3


def seconds_a_step(
    plan: Plan, device: torch.device, *, step: int = 0, batch_size: int | None = None
) -> float:
    """Time one update on blank images, not compiled; data is not counted.

    Args:
        plan: The plan of the run.
        device: Where to compute.
        step: The update, which decides how many stages learn.
        batch_size: Images to time it with; the time is scaled to the batch of the plan. Default: that batch.
    """
    size = min(batch_size or plan.recipe.batch_size, plan.recipe.batch_size)
    recipe = replace(plan.recipe, batch_size=size, micro_batch_size=None) if batch_size else plan.recipe
    # The steps of a shorter batch are others: the length is fixed to what it was.
    recipe = replace(recipe, steps=plan.total_steps, warmup_steps=plan.warmup_steps)
    eager = replace(plan, compiled=False, recipe=recipe)
    network = create(plan.spec).to(device).to(memory_format=torch.channels_last)
    task = task_of(eager)
    updater = Updater(network, eager, SINGLE, task)
    side = plan.train_px
    places = torch.arange(size)
    batch = Batch(
        pixels=torch.zeros(size, side, side, plan.preprocess.num_channels, dtype=torch.uint8),
        targets=task.blank_targets(size),
        positions=torch.stack([torch.zeros_like(places), places, torch.zeros_like(places)], dim=1),
        places=places,
        keys=[""] * size,
        bad=[],
    )
    seconds = math.inf
    for number in range(1 + _TIMED_UPDATES):
        started = time.perf_counter()
        if updater.gradients(batch, step) is not None:
            updater.apply(step, 0.0)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        # The first one fills caches; of the others the quickest was disturbed least.
        seconds = min(seconds, time.perf_counter() - started) if number else seconds
    return seconds * plan.recipe.batch_size / size
