"""Updates that fit into minutes, planned twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from deepresidual.errors import ConfigurationError
from deepresidual.recipe import Recipe
from deepresidual.recipe.recipes import named_recipe
from deepresidual.runs.plan import Plan
from deepresidual.training.length import Length, length_in_words, minutes_of, plan_again, plan_length
from deepresidual.training.options import TrainOptions
from deepresidual.training.schedule import learning_rate, num_frozen_stages
from tests.conftest import TINY
from tests.training.parts import CPU, a_plan


def planned(**fields: Any) -> Plan:
    """Return a plan of 100 epochs of 4 steps, evaluated after each on 15 images."""
    return a_plan(epochs=100.0, **fields)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an update take 1 s in the warm-up and 3 s after it."""
    monkeypatch.setattr(
        "deepresidual.training.length.seconds_a_step",
        lambda *_args, step, **_options: 3.0 if step else 1.0,
    )


@pytest.mark.usefixtures("timed")
def test_the_first_plan_fills_the_minutes() -> None:
    plan, length = plan_length(planned(), 10.0, CPU)
    # 15 images of 12 a step, for a third of the time, every fourth step.
    a_step = 3.0 + 15 / 12 * 3.0 / 3 / 4
    assert plan.total_steps * a_step == pytest.approx(600, rel=0.07)
    assert plan.warmup_steps == pytest.approx(plan.total_steps / 10, abs=1)
    assert (length.warmup_seconds, length.seconds, length.is_settled) == (1.0, 3.0, False)


@pytest.mark.usefixtures("timed")
def test_a_run_is_no_longer_than_its_recipe() -> None:
    assert plan_length(planned(), 1e5, CPU)[0].total_steps == 400
    assert plan_length(planned(), 1e-3, CPU)[0].total_steps == 10


@pytest.mark.parametrize("slower", [0.5, 1.0, 4.0])
def test_the_second_plan_follows_the_time_that_the_warm_up_took(slower: float) -> None:
    first = replace(planned(), recipe=replace(planned().recipe, steps=200, warmup_steps=20))
    plan, length = plan_again(first, Length(10.0, 1.0, 3.0, 400), 20, 20 * slower, slower)
    spent = 20 * slower + (plan.total_steps - 20) * (3.0 * slower + slower / 4) + 2 * slower
    assert spent == pytest.approx(600, rel=0.07) or plan.total_steps == 400
    assert plan.warmup_steps == 20
    assert (length.is_settled, length.seconds) == (True, 3.0 * slower)


def test_a_warm_up_that_was_not_timed_leaves_the_plan() -> None:
    first = replace(planned(), recipe=replace(planned().recipe, steps=200, warmup_steps=20))
    plan, length = plan_again(first, Length(10.0, 1.0, 3.0, 400), 0, 0.0, None)
    assert (plan, length.is_settled) == (first, True)


def test_nothing_in_a_warm_up_depends_on_the_length() -> None:
    recipe = Recipe(name="tiny", unfreeze_share=0.2)
    for step in range(20):
        rates = {learning_rate(recipe, step, total, 20) for total in (40, 200, 4000)}
        frozen = {num_frozen_stages(recipe, 5, step, total, 20) for total in (40, 200, 4000)}
        assert (len(rates), frozen) == (1, {4})


@pytest.mark.parametrize(
    ("options", "recipe", "minutes"),
    [
        (TrainOptions(), "finetune", 10.0),
        (TrainOptions(), "detect", 15.0),
        (TrainOptions(), "detect_1x", 0.0),
        (TrainOptions(), "photos", 0.0),
        (TrainOptions(changes={"epochs": 3}), "detect", 0.0),
        (TrainOptions(changes={"epochs": 3}), "finetune", 0.0),
        (TrainOptions(recipe=Recipe(name="finetune")), "finetune", 0.0),
        (TrainOptions(minutes=2.0), "photos", 2.0),
        (TrainOptions(minutes=2.0), "probe", 0.0),  # which has no updates to bound
    ],
)
def test_recipes_for_photos_take_minutes_unless_told(
    options: TrainOptions, recipe: str, minutes: float
) -> None:
    assert minutes_of(options, named_recipe(recipe, TINY), CPU, 1) == minutes


@pytest.mark.parametrize(
    ("options", "num_processes", "message"),
    [
        (TrainOptions(minutes=0.0), 1, "minutes is 0; expected a number above 0"),
        (TrainOptions(minutes=float("nan")), 1, "minutes is nan; expected a number above 0"),
        (TrainOptions(minutes=1.0, changes={"steps": 5}), 1, "minutes and steps are given together"),
        (TrainOptions(minutes=1.0), 2, "minutes is given for 2 processes; say how long with --epochs"),
    ],
)
def test_minutes_that_cannot_be_kept_are_refused(
    options: TrainOptions, num_processes: int, message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        minutes_of(options, named_recipe("finetune", TINY), CPU, num_processes)


@pytest.mark.parametrize(
    ("steps", "minutes", "words"),
    [
        (4, 1.0, "4 steps for 1 minute at 0.2 s each"),
        (1, 0.5, "1 step for 0.5 minutes at 0.2 s each"),
        (1_200, 10.0, "1,200 steps for 10 minutes at 0.2 s each"),
    ],
)
def test_one_of_a_thing_is_singular(steps: int, minutes: float, words: str) -> None:
    assert length_in_words(steps, Length(minutes, 0.1, 0.2, 5_000)) == words
