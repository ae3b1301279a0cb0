"""Worker processes for work that is not torch's: checking images, indexing tars."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["can_fork", "process_pool"]


def can_fork() -> bool:
    """Return whether a worker can begin as a copy of this process, which costs next to nothing."""
    # macOS has fork, and system libraries that do not survive it.
    return "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"


def process_pool(num_workers: int, begin: Callable[..., None], *arguments: object) -> ProcessPoolExecutor:
    """Return a pool of processes that leave Ctrl-C to this one, which stops them when it stops.

    Args:
        num_workers: How many processes.
        begin: Called first in each.
        arguments: What ``begin`` gets; where processes are forked, without being copied.
    """
    context = multiprocessing.get_context("fork" if can_fork() else "spawn")
    return ProcessPoolExecutor(num_workers, context, initializer=_begin, initargs=(begin, arguments))


def _begin(begin: Callable[..., None], arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    begin(*arguments)
