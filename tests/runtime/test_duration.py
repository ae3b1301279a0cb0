"""Lengths of time as people say them: one unit or two, right to a unit of the smaller one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.runtime.duration import duration

UNITS = {"s": 1, "min": 60, "h": 3600, "days": 86400}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (0.31, "0.3 s"),
        (0.96, "1 s"),
        (8.4, "8 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (120, "2 min"),
        (783, "13 min"),
        (5_400, "90 min"),
        (7_200, "2 h"),
        (11_400, "3 h 10 min"),
        (36_000, "10 h"),
        (5_960_700, "69 days"),
        (200_000, "2 days 8 h"),
        (172_800, "2 days"),
        (10_000_000_000, "115,741 days"),
        (-3, "0.0 s"),
        (float("inf"), "–"),
        (float("nan"), "–"),
    ],
)
def test_times_read_as_people_say_them(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@given(st.floats(0, 1e9))
def test_what_is_shown_is_the_time_to_half_of_its_last_unit(seconds: float) -> None:
    shown = duration(seconds)
    parts = re.findall(r"([\d,.]+) (s|min|h|days)", shown)
    assert " ".join(f"{number} {unit}" for number, unit in parts) == shown
    told = sum(float(number.replace(",", "")) * UNITS[unit] for number, unit in parts)
    last = 0.1 if "." in shown else UNITS[parts[-1][1]]
    assert abs(told - seconds) <= last / 2 + 1e-6 * seconds
    assert len(parts) <= 2
