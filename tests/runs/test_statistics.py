"""Intervals over seeds are those of SciPy."""

from __future__ import annotations

import math
import statistics

import pytest
from scipy import stats

from deepresidual.runs.statistics import difference, summarize

FIRST = (0.31, 0.35, 0.30, 0.33)
SECOND = (0.21, 0.29, 0.25)


@pytest.mark.parametrize("values", [FIRST, SECOND, (0.1, 0.1), (0.2, 0.4)])
def test_a_mean_has_student_s_interval(values: tuple[float, ...]) -> None:
    found = summarize(values)
    assert found.count == len(values)
    assert found.mean == pytest.approx(statistics.fmean(values))
    assert found.std == pytest.approx(statistics.stdev(values))
    if found.std:
        error = found.std / math.sqrt(len(values))
        expected = stats.t.interval(0.95, len(values) - 1, loc=found.mean, scale=error)
        assert (found.low, found.high) == pytest.approx(expected)
    else:
        assert (found.low, found.high) == (0.1, 0.1)


@pytest.mark.parametrize(("first", "second"), [(FIRST, SECOND), (SECOND, FIRST), (FIRST, FIRST)])
def test_a_difference_has_welch_s_interval(first: tuple[float, ...], second: tuple[float, ...]) -> None:
    found = difference(first, second)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert found.low == pytest.approx(expected.low)
    assert found.high == pytest.approx(expected.high)
    assert found.mean == pytest.approx(statistics.fmean(first) - statistics.fmean(second))
    assert found.median == pytest.approx(statistics.median(first) - statistics.median(second))


def test_one_seed_leaves_the_interval_open() -> None:
    assert summarize([0.3]).to_dict() == {
        "count": 1,
        "mean": 0.3,
        "std": None,
        "median": 0.3,
        "low": None,
        "high": None,
    }
    found = difference([0.3, 0.4], [0.1])
    assert (found.count, found.low, found.high) == (1, None, None)
    assert found.mean == pytest.approx(0.25)


def test_seeds_that_agree_to_the_last_digit_have_an_interval_of_no_width() -> None:
    found = difference([0.3, 0.3], [0.1, 0.1])
    assert (found.low, found.high) == (found.mean, found.mean)
