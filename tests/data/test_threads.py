"""Work ahead: in order, only so far ahead, errors at their place, and nobody left behind."""

from __future__ import annotations

import threading
import time

import pytest

from deepresidual.data.threads import in_order


def _slow_square(number: int) -> int:
    time.sleep(0.02 if number % 3 == 0 else 0)  # so that later tasks are done before earlier ones
    return number**2


def _threads() -> int:
    """Return how many threads are left once those that were told to end have had the time to."""
    for thread in threading.enumerate():
        if thread.name.startswith("residual-data"):
            thread.join(timeout=10)
    return sum(thread.name.startswith("residual-data") for thread in threading.enumerate())


@pytest.mark.parametrize("num_threads", [0, 1, 2, 7])
def test_results_come_in_the_order_of_their_tasks(num_threads: int) -> None:
    groups = [list(range(first, first + 5)) for first in range(0, 40, 5)]
    results = in_order(_slow_square, groups, num_threads=num_threads, groups_ahead=3)
    assert list(results) == [[number**2 for number in group] for group in groups]
    assert _threads() == 0


@pytest.mark.parametrize("num_threads", [0, 2])
def test_no_groups_give_no_results(num_threads: int) -> None:
    empty: list[list[int]] = []
    assert list(in_order(_slow_square, empty, num_threads=num_threads, groups_ahead=3)) == []
    assert list(in_order(_slow_square, [[], [1]], num_threads=num_threads, groups_ahead=3)) == [[], [1]]


def test_groups_are_read_only_so_far_ahead() -> None:
    read: list[int] = []

    def groups() -> object:
        for number in range(100):
            read.append(number)
            yield [number]

    results = in_order(_slow_square, groups(), num_threads=2, groups_ahead=3)  # type: ignore[arg-type]
    assert read == []
    next(results)
    assert read == [0, 1, 2]
    next(results)
    assert read == [0, 1, 2, 3]
    results.close()
    assert _threads() == 0


@pytest.mark.parametrize("num_threads", [0, 2])
def test_an_error_is_raised_behind_the_results_before_it(num_threads: int) -> None:
    def invert(number: int) -> float:
        return 1 / number

    results = in_order(invert, [[1], [2], [4, 0], [8]], num_threads=num_threads, groups_ahead=4)
    assert [next(results), next(results)] == [[1], [0.5]]
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        next(results)
    assert _threads() == 0
    assert list(results) == []


def test_an_error_of_the_groups_is_raised_and_ends_the_threads() -> None:
    def groups() -> object:
        yield [1]
        raise ValueError("no more groups")

    results = in_order(_slow_square, groups(), num_threads=2, groups_ahead=1)  # type: ignore[arg-type]
    assert next(results) == [1]
    with pytest.raises(ValueError, match=r"^no more groups$"):
        next(results)
    assert _threads() == 0


def test_an_error_drops_what_nobody_has_begun_of_its_own_group() -> None:
    begun: list[int] = []

    def work(number: int) -> float:
        begun.append(number)
        time.sleep(0.02)
        return 1 / number

    results = in_order(work, [range(100)], num_threads=2, groups_ahead=1)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        next(results)
    assert _threads() == 0
    assert len(begun) < 20


def test_closing_drops_what_nobody_has_begun() -> None:
    begun: list[int] = []
    ended: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        time.sleep(0.05)
        ended.append(number)
        return number

    results = in_order(work, [list(range(2)), list(range(2, 100))], num_threads=2, groups_ahead=2)
    assert next(results) == [0, 1]
    results.close()
    assert _threads() == 0
    assert sorted(begun) == sorted(ended)
    assert len(begun) < 20


def test_closing_does_not_wait_for_a_read_that_is_stuck() -> None:
    stuck = threading.Event()

    def work(number: int) -> int:
        if number:
            stuck.wait(timeout=60)
        return number

    results = in_order(work, [[0], [1]], num_threads=1, groups_ahead=2)
    assert next(results) == [0]
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 5
    stuck.set()
    assert _threads() == 0
