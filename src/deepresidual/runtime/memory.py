"""How much memory this process has taken at most."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch

__all__ = ["peak_memory"]


def peak_memory(device: torch.device) -> int:
    """Return the most bytes that were taken: on the GPU by tensors, on the CPU by the process; 0: unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Linux counts the parent's memory in ru_maxrss of a process that it has started, but not in VmHWM.
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE)):
        return 1024 * int(found[1])
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes, Linux kilobytes
