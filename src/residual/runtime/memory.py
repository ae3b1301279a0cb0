"""How much memory this process has taken at most."""

from __future__ import annotations

import sys

import torch

__all__ = ["peak_memory"]


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that were taken: on the GPU by tensors, on the CPU by the process; 0: unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes, Linux kilobytes
