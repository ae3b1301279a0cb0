"""Find how many images fit into memory at a time (``--batch-size auto``), and choose the allocator policy."""

from __future__ import annotations

import gc
from typing import Any

import torch

from deepresidual.errors import RunError
from deepresidual.models import create
from deepresidual.runs.plan import Plan
from deepresidual.runtime.console import note
from deepresidual.runtime.device import autocast
from deepresidual.runtime.memory import AllocatorPolicy
from deepresidual.tasks import task_of


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory could not be had, on a GPU or for the process."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # On the CPU torch raises a plain RuntimeError with the first text, and oneDNN, whose buffers come on top,
    # one with the second.
    return any(text in str(error) for text in ("can't allocate memory", "could not create a primitive"))


def allocator_policy_of(plan: Plan, device: torch.device) -> AllocatorPolicy:
    """Return the allocator policy of a run: on the CPU freed memory is kept for the next step.

    With activation checkpointing, which saves memory at the price of time, it is returned.
    """
    if device.type != "cpu":
        return "default"
    return "returned" if plan.backbone.activation_checkpointing else "kept"


def fitting_micro_batch(plan: Plan, device: torch.device, most: int) -> int:
    """Return the largest of ``most``, ``most / 2``, … images that one update has memory for.

    Tries updates of a copy of the network with blank images, the largest first.

    Args:
        plan: The plan: network, size of images, precision.
        device: Where the network computes.
        most: Images of a batch that one rank has.

    Raises:
        RunError: Not even one fits, or an odd number does not.
    """
    size = most
    while True:
        try:
            _try_update(plan, device, size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if size % 2:
                raise RunError(
                    f"there is no memory for {size} images of {plan.train_px} px at a time",
                    remedy="choose a smaller --image-px, a smaller model, or --activation-checkpointing",
                ) from error
        else:
            if size < most:
                note(f"memory     {size} images at a time instead of {most}; the batch stays as it is")
            return size
        size //= 2
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _try_update(plan: Plan, device: torch.device, size: int) -> None:
    network = create(plan.spec).to(device).to(memory_format=torch.channels_last).train()
    task, side, channels = task_of(plan), plan.train_px, plan.preprocess.num_channels
    images = torch.zeros(size, channels, side, side, device=device).to(memory_format=torch.channels_last)
    devices = [device] if device.type == "cuda" else []

    def outputs(images: torch.Tensor, *others: Any) -> Any:
        # Dropout and stochastic depth draw from torch's global state, which stays as it was.
        with torch.random.fork_rng(devices), autocast(device, plan.precision):
            return network(images, *others)

    sums = task.loss(outputs, images, task.blank_targets(size).to(device), step=0)
    sums.loss.backward()  # type: ignore[no-untyped-call]
    # The optimizer will keep as much again for every weight.
    _ = [torch.empty_like(parameter) for parameter in network.parameters()]
