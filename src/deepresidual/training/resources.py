"""``Resources``: device, threads and processes of a run."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from deepresidual.runtime.distributed import SINGLE, Processes
from deepresidual.runtime.signals import StopRequest


@dataclass(frozen=True)
class Resources:
    """Device, threads and processes of a run, and signals that may end it.

    Attributes:
        device: Where the network computes.
        stop: Signals received so far.
        num_workers: Number of threads that load data.
        processes: The processes that train together.
    """

    device: torch.device
    stop: StopRequest
    num_workers: int = 0
    processes: Processes = SINGLE
