"""Set how long OpenMP's idle threads spin before they sleep, before torch is loaded; without torch.

Between two parallel regions GNU's OpenMP (libgomp), which the Linux wheels of torch compute with, keeps idle
threads spinning for 300,000 turns (``GOMP_SPINCOUNT``). Alone on a machine that saves the time of waking
them. Beside other programs a spinning thread takes a core from one that works, and training falls to a half
with one other program and to a tenth with several. A short spin loses little when quiet and much less when
busy (figures: docs/results.md). libgomp reads its setting once, when it is loaded, so it has to be in the
environment before torch is imported; processes that are started from here inherit it. The computed bits do
not depend on it. A setting of the user's own, ``GOMP_SPINCOUNT`` or ``OMP_WAIT_POLICY``, is left as it is.
"""

from __future__ import annotations

import os
import sys
from typing import Literal, TypeAlias

SPIN_COUNT = 2000
"""Turns for which an idle thread spins."""

SpinSource: TypeAlias = Literal["residual", "environment", "torch imported first"]

_SPIN = "GOMP_SPINCOUNT"
_POLICY = "OMP_WAIT_POLICY"
# Says to processes started from here that the value in their environment is ours, not the user's.
_OURS = "RESIDUAL_SPINCOUNT"

_source: SpinSource | None = None


def limit_spinning() -> None:
    """Put a short spin into the environment, unless the user has set one or torch is loaded already."""
    global _source  # decided once a process, as libgomp reads it once
    if _source is not None:
        return
    if os.environ.get(_OURS) is not None and os.environ.get(_SPIN) == os.environ[_OURS]:
        _source = "residual"
    elif _SPIN in os.environ or _POLICY in os.environ:
        _source = "environment"
    elif "torch" in sys.modules:
        _source = "torch imported first"
    else:
        os.environ[_SPIN] = os.environ[_OURS] = str(SPIN_COUNT)
        _source = "residual"


def spin_source() -> SpinSource | None:
    """Return who has set the spin of this process; ``None`` before :func:`limit_spinning`."""
    return _source


def describe_spinning() -> str:
    """Return what is set and by whom, for records and messages."""
    if _source == "residual":
        return f"{_SPIN}={os.environ.get(_SPIN, SPIN_COUNT)}"
    if _source == "environment":
        given = [f"{name}={os.environ[name]}" for name in (_SPIN, _POLICY) if name in os.environ]
        return f"{', '.join(given)} from the environment"
    return "OpenMP's default; torch was imported before deepresidual"
