"""How many processor cores and loading threads to use; without torch, which some commands do not need."""

from __future__ import annotations

import os

from deepresidual.errors import ConfigurationError
from deepresidual.fields import is_whole

__all__ = ["resolve_num_workers", "usable_cores"]


def usable_cores() -> int:
    """Return the number of cores that the operating system lets this process run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve_num_workers(choice: int | None, device_type: str, image_px: int) -> int:
    """Return how many threads load data: ``choice``, or as many as make training faster.

    Args:
        choice: 0 to 256, or ``None``.
        device_type: What computes the network: ``cpu``, ``cuda``, ``mps``.
        image_px: Side of its input in pixels.

    Raises:
        ConfigurationError: The choice is out of range.
    """
    if choice is not None:
        if not is_whole(choice, 0, 256):
            raise ConfigurationError(f"num_workers is {choice}", expected="0 to 256")
        return choice
    if device_type != "cpu":
        return min(usable_cores(), 16)
    # On the CPU the network uses every core, and workers only fill the gaps between its steps. Two cores,
    # two workers against none: ResNet-18 on photos at 224 px 57 against 48 images/s, ResNet-20 at 32 px
    # 1,254 against 1,310 (medians of 3 and 2; docs/results.md).
    return usable_cores() if image_px >= 96 else 0
