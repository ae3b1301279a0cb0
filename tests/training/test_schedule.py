"""The learning rate as a function of the step."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.recipe import Recipe
from deepresidual.recipe.groups import Schedule
from deepresidual.training.schedule import ScheduleState, after_evaluation, after_window, learning_rate


def recipe(schedule: Schedule, **fields: Any) -> Recipe:
    return Recipe(**{"name": "r", "epochs": 1, "learning_rate": 0.1, "schedule": schedule, **fields})


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
    # A warm-up may end a rounding above the top, in bits that runs have been repeated with.
    assert 0 < learning_rate(recipe(schedule), step, total, warmup) <= 0.1 * (1 + 1e-15)


# -- warm-up -------------------------------------------------------------------------------------------


def test_a_constant_warm_up_jumps() -> None:
    # 2016, appendix: 0.01 for the first 400 iterations of 64,000, then 0.1.
    warm = recipe("step", warmup="constant", warmup_learning_rate=0.01)
    rates = [learning_rate(warm, step, 64_000, 400) for step in (0, 399, 400, 31_999, 32_000)]
    assert rates == pytest.approx([0.01, 0.01, 0.1, 0.1, 0.01])


def test_a_linear_warm_up_rises_from_where_it_is_told() -> None:
    # torchvision: from a hundredth of 0.5.
    warm = recipe("cosine", learning_rate=0.5, warmup_learning_rate=0.005)
    rates = [learning_rate(warm, step, 1000, 5) for step in range(5)]
    assert rates == pytest.approx([0.104, 0.203, 0.302, 0.401, 0.5])


def waiting(**fields: Any) -> Recipe:
    return recipe(
        "step",
        warmup="constant",
        warmup_learning_rate=0.01,
        warmup_until_error=0.8,
        warmup_steps=4000,
        **fields,
    )


def test_a_warm_up_ends_where_the_training_error_falls_below_80_percent() -> None:
    # 2015, section 4.2; akamaster's repository never leaves 0.01 again (its issue 21).
    measured = ScheduleState()
    rates = []
    for step, error in ((39, 0.9), (78, 0.85), (117, 0.8), (156, 0.79), (195, 0.95), (234, 0.5)):
        measured = after_window(waiting(), measured, step, error)
        rates.append(learning_rate(waiting(), step, 64_000, 4000, measured))
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.1, 0.1, 0.1])
    assert measured.warmup_ended == 156


def test_a_warm_up_that_waits_ends_at_its_last_step_at_the_latest() -> None:
    rates = [learning_rate(waiting(), step, 64_000, 4000, ScheduleState()) for step in (3999, 4000)]
    assert rates == pytest.approx([0.01, 0.1])


def test_a_warm_up_that_does_not_wait_does_not_end_early() -> None:
    measured = after_window(recipe("step"), ScheduleState(), 10, 0.0)
    assert measured == ScheduleState()


def test_an_early_end_of_the_warm_up_leaves_the_drops_where_they_are() -> None:
    ended = ScheduleState(warmup_ended=400)
    rates = [learning_rate(waiting(), step, 64_000, 4000, ended) for step in (31_999, 32_000, 48_000)]
    assert rates == pytest.approx([0.1, 0.01, 0.001])


def test_a_cosine_begins_where_the_planned_warm_up_ends() -> None:
    cosine = recipe("cosine", warmup="constant", warmup_learning_rate=0.01, warmup_until_error=0.8)
    rates = [
        learning_rate(cosine, step, 100, 20, ScheduleState(warmup_ended=5)) for step in (4, 5, 19, 20, 60)
    ]
    assert rates == pytest.approx([0.01, 0.1, 0.1, 0.1, 0.05])


# -- cosine, plateau, early stopping -------------------------------------------------------------------


def test_a_cosine_ends_above_its_final_rate() -> None:
    cosine = recipe("cosine", final_learning_rate=0.02)
    assert learning_rate(cosine, 0, 1000, 0) == pytest.approx(0.1)
    assert learning_rate(cosine, 500, 1000, 0) == pytest.approx(0.06)
    assert 0.02 < learning_rate(cosine, 999, 1000, 0) < 0.0201


def evaluated(subject: Recipe, errors: list[float]) -> list[ScheduleState]:
    measured, history = ScheduleState(), []
    for error in errors:
        measured = after_evaluation(subject, measured, error)
        history.append(measured)
    return history


def test_a_plateau_drops_after_so_many_evaluations_without_a_gain() -> None:
    subject = recipe("plateau", patience=2)
    errors = [0.9, 0.8, 0.8, 0.85, 0.8, 0.7, 0.7, 0.7]
    history = evaluated(subject, errors)
    rates = [learning_rate(subject, 50, 1000, 0, measured) for measured in history]
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01, 0.001])


def test_after_a_drop_the_patience_begins_anew() -> None:
    history = evaluated(recipe("plateau", patience=3), [0.5] * 8)
    assert [measured.num_drops for measured in history] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_a_plateau_drops_by_the_recipes_factor() -> None:
    subject = recipe("plateau", patience=1, step_decay=0.5)
    measured = evaluated(subject, [0.5, 0.5, 0.5])[-1]
    assert learning_rate(subject, 0, 10, 0, measured) == pytest.approx(0.025)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_other_schedules_do_not_drop_at_a_plateau(schedule: Schedule) -> None:
    assert evaluated(recipe(schedule, patience=1), [0.5] * 5)[-1].num_drops == 0


def test_evaluations_since_the_best_are_counted_through_drops() -> None:
    history = evaluated(recipe("plateau", patience=2), [0.9, 0.5, 0.6, 0.7, 0.5, 0.4, 0.4])
    assert [measured.num_since_best for measured in history] == [0, 0, 1, 2, 3, 0, 1]
    assert [measured.best_error for measured in history] == [0.9, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4]


# -- properties ----------------------------------------------------------------------------------------


@st.composite
def schedules(draw: st.DrawFn) -> tuple[Recipe, int, int]:
    """Draw a recipe with its number of steps, and of steps of the warm-up."""
    high = draw(st.floats(1e-4, 10))
    total = draw(st.integers(1, 400))
    subject = recipe(
        draw(st.sampled_from(["constant", "step", "cosine", "plateau"])),
        learning_rate=high,
        warmup=draw(st.sampled_from(["linear", "constant"])),
        warmup_learning_rate=draw(st.floats(0, high)),
        final_learning_rate=draw(st.floats(0, high)),
        step_decay=draw(st.floats(0.01, 1)),
        milestones=tuple(sorted(draw(st.lists(st.floats(0.01, 0.99), max_size=4)))),
    )
    return subject, total, draw(st.integers(0, total))


@given(schedules(), st.integers(0, 5))
def test_the_rate_is_between_its_ends(case: tuple[Recipe, int, int], num_drops: int) -> None:
    subject, total, warmup = case
    rates = [
        learning_rate(subject, step, total, warmup, ScheduleState(num_drops=num_drops))
        for step in range(total)
    ]
    assert min(rates) >= 0
    assert max(rates) <= subject.learning_rate * (1 + 1e-12)


@given(schedules())
def test_the_rate_rises_to_the_end_of_the_warm_up_and_falls_after_it(case: tuple[Recipe, int, int]) -> None:
    subject, total, warmup = case
    rates = [learning_rate(subject, step, total, warmup) for step in range(total)]
    slack = 1e-12 * subject.learning_rate
    assert all(after >= before - slack for before, after in pairwise(rates[:warmup]))
    assert all(after <= before + slack for before, after in pairwise(rates[warmup:]))


@given(schedules())
def test_the_first_step_after_the_warm_up_has_the_full_rate(case: tuple[Recipe, int, int]) -> None:
    subject, total, warmup = case
    if warmup < total and (subject.schedule != "step" or warmup < total * min([*subject.milestones, 1])):
        assert learning_rate(subject, warmup, total, warmup) == pytest.approx(subject.learning_rate)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(1, 8))
def test_a_plateau_drops_no_more_often_than_its_patience_allows(errors: list[float], patience: int) -> None:
    subject = recipe("plateau", patience=patience)
    history = evaluated(subject, errors)
    assert history[-1].num_drops <= (len(errors) - 1) // patience
    assert history[-1].best_error == min(errors)
    assert all(measured.num_without_gain < patience for measured in history)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_evaluations_since_the_best_are_those_after_the_first_lowest_error(errors: list[float]) -> None:
    since = evaluated(recipe("constant"), errors)[-1].num_since_best
    assert since == len(errors) - 1 - errors.index(min(errors))
