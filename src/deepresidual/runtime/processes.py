"""Worker processes for work that is not torch's, such as checking images; without torch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any, Self, TypeVar

from deepresidual.errors import ConfigurationError
from deepresidual.fields import is_whole

Item = TypeVar("Item")
Result = TypeVar("Result")

_HEARD_WITHIN_S = 0.1


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


def can_fork() -> bool:
    """Return whether a worker can begin as a copy of this process, which costs next to nothing."""
    # macOS has fork, and system libraries that do not survive it.
    return "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"


class WorkerPool:
    """A pool of processes that Ctrl-C stops cleanly; use it in a ``with`` block.

    Python raises ``KeyboardInterrupt`` between any two instructions, and inside of ``ProcessPoolExecutor``
    there are many after which it neither ends nor lets the program end. So the pool holds the interrupt back
    and raises it where it waits for results; the workers never hear of it.

    Args:
        num_workers: How many processes.
        begin: Called first in each.
        arguments: What ``begin`` gets; where processes are forked, without being copied.
    """

    def __init__(self, num_workers: int, begin: Callable[..., None], *arguments: object) -> None:
        context = multiprocessing.get_context("fork" if can_fork() else "spawn")
        self._executor = ProcessPoolExecutor(
            num_workers, context, initializer=_begin, initargs=(begin, arguments)
        )
        self._interrupted = False
        self._holds_back = False

    def __enter__(self) -> Self:
        """Begin to hold interrupts back, where they would be raised in this thread."""
        self._holds_back = (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        )
        if self._holds_back:
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the processes after the work they have begun, and raise an interrupt that came meanwhile."""
        self._executor.shutdown(cancel_futures=True)
        if self._holds_back:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if kind is None:
            self._raise_interrupt()

    def submit(self, function: Callable[[Item], Result], item: Item) -> Future[Result]:
        """Give the pool one more call to make."""
        return self._executor.submit(function, item)

    def first_done(self, running: Iterable[Future[Result]]) -> set[Future[Result]]:
        """Wait until one of these calls or more are done, and return those."""
        futures = list(running)
        while True:
            self._raise_interrupt()
            if done := wait(futures, timeout=_HEARD_WITHIN_S, return_when=FIRST_COMPLETED).done:
                return done

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the result for every item, in order."""
        waiting = deque(self.submit(function, item) for item in items)
        while waiting:
            self.first_done([waiting[0]])
            yield waiting.popleft().result()

    def _note(self, *_: Any) -> None:
        self._interrupted = True

    def _raise_interrupt(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt


def _begin(begin: Callable[..., None], arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    begin(*arguments)
