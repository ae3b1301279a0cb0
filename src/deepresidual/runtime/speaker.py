"""Which of several processes tells the user something."""

from __future__ import annotations

import os

from deepresidual.runtime.torchrun import launched_by_torchrun

__all__ = ["speaks"]


def speaks() -> bool:
    """Return whether this process does: of those that torchrun started, one speaks for all."""
    # A rank that was left behind in the environment, with nowhere to meet, has no others to speak for it.
    has_others = launched_by_torchrun() and "MASTER_ADDR" in os.environ
    return os.environ.get("RANK", "0") == "0" or not has_others
