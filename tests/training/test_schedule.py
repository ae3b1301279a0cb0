"""The learning rate as a function of the step."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residual.recipe import Recipe
from residual.recipe.recipe import Schedule
from residual.training.schedule import learning_rate


def recipe(schedule: Schedule) -> Recipe:
    return Recipe(name="r", epochs=1, batch_size=1, learning_rate=0.1, schedule=schedule)


def test_the_papers_steps() -> None:
    # 2015, section 4.2: 0.1, divided by ten at 32,000 and 48,000 of 64,000 iterations.
    rates = [
        learning_rate(recipe("step"), step, 64_000, 0) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)
    ]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_cosine_falls_from_the_top_to_nearly_nothing() -> None:
    rates = [learning_rate(recipe("cosine"), step, 100, 10) for step in range(10, 100)]
    assert rates[0] == 0.1
    assert rates == sorted(rates, reverse=True)
    assert learning_rate(recipe("cosine"), 55, 100, 10) == pytest.approx(0.05)
    assert rates[-1] == pytest.approx(0.05 * (1 + math.cos(math.pi * 89 / 90)))


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_warmup_rises_in_equal_parts_to_the_top(schedule: Schedule) -> None:
    rates = [learning_rate(recipe(schedule), step, 1000, 4) for step in range(4)]
    assert rates == pytest.approx([0.025, 0.05, 0.075, 0.1])


@given(st.integers(1, 500), st.data(), st.sampled_from(["constant", "step", "cosine"]))
def test_the_rate_stays_between_nothing_and_the_top(
    total: int, data: st.DataObject, schedule: Schedule
) -> None:
    warmup = data.draw(st.integers(0, total))
    step = data.draw(st.integers(0, total - 1))
    assert 0 < learning_rate(recipe(schedule), step, total, warmup) <= 0.1
