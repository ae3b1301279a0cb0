"""Work that threads do ahead of the one who takes the results, in order.

Reading and decoding release Python's lock, so threads decode side by side. Unlike processes they start at
once, hand over results without copying, share one copy of the data set, receive no signals, and cannot
outlive the program.

Example:
    >>> results = in_order(str.upper, [["a", "b"], ["c"]], num_threads=2, groups_ahead=2)
    >>> list(results)
    [['A', 'B'], ['C']]
"""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from concurrent.futures import Future

__all__ = ["in_order"]

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


def in_order(
    work: Callable[[_Task], _Result],
    groups: Iterable[Sequence[_Task]],
    *,
    num_threads: int,
    groups_ahead: int,
) -> Generator[list[_Result]]:
    """Yield the results of one group of tasks after the other, while threads work on the next ones.

    What ``work`` raises is raised where its result would have come, behind all groups before it. When the
    generator ends, by itself, by an exception or by ``close()``, tasks that nobody has begun are dropped and
    those that somebody has are waited for, so no thread is left behind.

    Args:
        work: What to do with a task; called by several threads at once.
        groups: Tasks; read only as far ahead as needed, by the thread that takes the results.
        num_threads: How many threads work; 0: the one that takes the results does, a group at a time.
        groups_ahead: How many groups may be begun or done and not yet taken.
    """
    if not num_threads:
        for group in groups:
            yield [work(task) for task in group]
        return
    pool = ThreadPoolExecutor(num_threads, thread_name_prefix="residual-data")
    try:
        upcoming = iter(groups)
        running: deque[list[Future[_Result]]] = deque()
        while True:
            for group in itertools.islice(upcoming, groups_ahead - len(running)):
                running.append([pool.submit(work, task) for task in group])
            if not running:
                return
            yield [future.result() for future in running.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)
