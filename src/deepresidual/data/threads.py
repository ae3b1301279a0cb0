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
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from typing import TypeAlias, TypeVar

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")
_PATIENCE_SECONDS = 0.5
_Queue: TypeAlias = "queue.SimpleQueue[tuple[_Task, Future[_Result]] | None]"


def in_order(
    work: Callable[[_Task], _Result],
    groups: Iterable[Sequence[_Task]],
    *,
    num_threads: int,
    groups_ahead: int,
) -> Generator[list[_Result]]:
    """Yield the results of one group of tasks after the other, while threads work on the next ones.

    What ``work`` raises is raised where its result would have come, behind all groups before it. When the
    generator ends, by itself, by an exception or by ``close()``, tasks that nobody has begun are dropped, and
    a thread ends with the task that it has begun. That is waited for no longer than a moment: a read from a
    disk that has gone may never end, and should not keep a program that was asked to stop.

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
    tasks: _Queue[_Task, _Result] = queue.SimpleQueue()
    # ThreadPoolExecutor would do, but that the interpreter waits for its threads before it ends.
    threads = [
        threading.Thread(target=_work_off, args=(work, tasks), name=f"residual-data-{number}", daemon=True)
        for number in range(num_threads)
    ]
    for thread in threads:
        thread.start()
    running: deque[list[Future[_Result]]] = deque()
    try:
        upcoming = iter(groups)
        while True:
            for group in itertools.islice(upcoming, groups_ahead - len(running)):
                futures: list[Future[_Result]] = [Future() for _ in group]
                running.append(futures)
                for task, future in zip(group, futures, strict=True):
                    tasks.put((task, future))
            if not running:
                return
            # Taken off the list with its last result: until then its tasks, too, can be dropped.
            results = [future.result() for future in running[0]]
            running.popleft()
            yield results
    finally:
        for futures in running:
            for future in futures:
                future.cancel()
        for _ in threads:
            tasks.put(None)
        # Idle threads end at once; one that the interpreter's end finds in the middle of that can abort it.
        deadline = time.monotonic() + _PATIENCE_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _work_off(work: Callable[[_Task], _Result], tasks: _Queue[_Task, _Result]) -> None:
    while (item := tasks.get()) is not None:
        task, future = item
        if not future.set_running_or_notify_cancel():
            continue
        try:
            future.set_result(work(task))
        except BaseException as error:  # noqa: BLE001  # raised again where the result is taken
            future.set_exception(error)
