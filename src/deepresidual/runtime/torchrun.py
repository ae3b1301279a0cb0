"""Read and check the environment variables of torchrun; without torch.

Containers and job scripts leave such variables behind. ``RANK=0`` of ``WORLD_SIZE=1`` alone is one process
like any other; what names several processes has to be whole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from deepresidual.errors import ConfigurationError

_REMEDY = "start with torchrun; to train in one process, unset RANK, WORLD_SIZE and LOCAL_RANK"
_MOST_PROCESSES = 1_000_000


@dataclass(frozen=True)
class Place:
    """The place of this process among those that torchrun started.

    Attributes:
        rank: Which of all, from 0.
        size: How many there are, over all machines.
        local_rank: Which of those on this machine.
        num_restarts: How often torchrun has started them again.
        address: Host name or address at which they meet.
        port: Port at that address.
    """

    rank: int
    size: int
    local_rank: int
    num_restarts: int
    address: str
    port: int


def launched_by_torchrun() -> bool:
    """Return whether torchrun, or what sets the same variables, started this process with others."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return True
    rank, size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    return None not in (rank, size) and (rank, size) != ("0", "1")


def place() -> Place:
    """Return the place of this process.

    Raises:
        ConfigurationError: A variable is missing, is no number, or contradicts another.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in names if not os.environ.get(name, "").strip()]
    if missing:
        raise ConfigurationError(
            f"the environment of torchrun is incomplete: {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing",
            remedy=_REMEDY,
        )
    size = _number("WORLD_SIZE", 1, _MOST_PROCESSES)
    return Place(
        rank=_number("RANK", 0, size - 1),
        size=size,
        local_rank=_number("LOCAL_RANK", 0, size - 1),
        num_restarts=_number("TORCHELASTIC_RESTART_COUNT", 0, _MOST_PROCESSES, "0"),
        address=os.environ["MASTER_ADDR"].strip(),
        port=_number("MASTER_PORT", 1, 65535),
    )


def _number(name: str, low: int, high: int, default: str = "") -> int:
    text = os.environ.get(name, default).strip()
    # Not int(): it takes "1_000" and digits of other scripts.
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not low <= int(text) <= high:
        raise ConfigurationError(
            f"the environment of torchrun is wrong: {name} is {text[:80]!r}",
            expected=f"a whole number from {low} to {high}",
            remedy=_REMEDY,
        )
    return int(text)


def speaks() -> bool:
    """Return whether this process tells the user something: of those that torchrun started, one does."""
    # A rank that was left behind in the environment, with nowhere to meet, has no others to speak for it.
    has_others = launched_by_torchrun() and "MASTER_ADDR" in os.environ
    return os.environ.get("RANK", "0") == "0" or not has_others
