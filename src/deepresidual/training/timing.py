"""Time updates on blank images, before a run is started."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from deepresidual.data.loader import Batch
from deepresidual.models import create
from deepresidual.runs.plan import Plan
from deepresidual.runtime.distributed import SINGLE
from deepresidual.runtime.memory import peak_memory
from deepresidual.tasks import task_of
from deepresidual.training.updater import Updater

_TIMED_UPDATES = 3
_FEWEST_IMAGES = 2
# Multiply-adds of the images that a run is estimated from: eight of ResNet-18 at 224 px, a batch of CIFAR.
_MACS = 15e9


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
    update = _update(plan, device, size, step, is_part=batch_size is not None)
    update(size)  # fills caches
    # The quickest was disturbed least.
    seconds = min(update(size) for _ in range(_TIMED_UPDATES))
    return seconds * plan.recipe.batch_size / size


@dataclass(frozen=True)
class Cost:
    """What an update costs.

    Attributes:
        seconds: Time of an update of the whole batch.
        memory_bytes: Most memory of the process, or of the GPU.
    """

    seconds: float
    memory_bytes: int


def cost_of_a_step(plan: Plan, device: torch.device) -> Cost:
    """Estimate an update of the whole batch from one of a few blank images, not compiled; data not counted.

    What the memory grows by from two images to a few is what it is taken to grow by with each further image,
    which is about right for a network whose maps take most of it.
    """
    whole = min(plan.recipe.micro_batch_size or plan.recipe.batch_size, plan.recipe.batch_size)
    few = min(max(_FEWEST_IMAGES, round(_MACS / plan.spec.num_macs(plan.train_px))), whole)
    update = _update(plan, device, few, 0, is_part=True)
    update(min(_FEWEST_IMAGES, few))
    before = peak_memory(device)
    seconds = update(few)
    memory = peak_memory(device)
    if whole > few > _FEWEST_IMAGES:
        memory += round((memory - before) / (few - _FEWEST_IMAGES) * (whole - few))
    return Cost(seconds * plan.recipe.batch_size / few, memory)


def _update(
    plan: Plan, device: torch.device, most: int, step: int, *, is_part: bool
) -> Callable[[int], float]:
    """Return what does an update with so many blank images, at most ``most``, and returns its seconds.

    Args:
        plan: The plan of the run.
        device: Where to compute.
        most: Images of an update.
        step: The update.
        is_part: Whether that is a part of the batch of the plan, done at once.
    """
    recipe = replace(plan.recipe, batch_size=most, micro_batch_size=None) if is_part else plan.recipe
    # The steps of a shorter batch are others: the length is fixed to what it was.
    recipe = replace(recipe, steps=plan.total_steps, warmup_steps=plan.warmup_steps)
    eager = replace(plan, compiled=False, recipe=recipe)
    network = create(plan.spec).to(device).to(memory_format=torch.channels_last)
    task = task_of(eager)
    updater = Updater(network, eager, SINGLE, task)

    def update(size: int) -> float:
        places, side = torch.arange(size), plan.train_px
        batch = Batch(
            pixels=torch.zeros(size, side, side, plan.preprocess.num_channels, dtype=torch.uint8),
            targets=task.blank_targets(size),
            positions=torch.stack([torch.zeros_like(places), places, torch.zeros_like(places)], dim=1),
            places=places,
            keys=[""] * size,
            bad=[],
        )
        started = time.perf_counter()
        if updater.gradients(batch, step) is not None:
            updater.apply(step, 0.0)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    return update
