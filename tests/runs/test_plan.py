"""The plan as a value: its steps, its sizes, what differs, and the way through JSON."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from deepresidual.errors import ConfigurationError
from deepresidual.preprocess import MeanImage
from deepresidual.runs.plan import Plan
from tests.conftest import SMALL_INPUT
from tests.training.parts import a_plan

# -- lengths -------------------------------------------------------------------------------------------


def test_epochs_are_counted_in_steps() -> None:
    plan = a_plan(epochs=2.5, batch_size=10, warmup_epochs=0.5)
    assert (plan.total_steps, plan.warmup_steps) == (12, 3)  # 120 and 24 of 48 images, by ten


def test_steps_take_the_place_of_epochs() -> None:
    plan = a_plan(epochs=2.5, steps=7, warmup_epochs=3.0, warmup_steps=2)
    assert (plan.total_steps, plan.warmup_steps) == (7, 2)


def test_a_warm_up_is_not_longer_than_the_run() -> None:
    assert a_plan(steps=3, warmup_steps=10).warmup_steps == 3


@pytest.mark.parametrize(
    ("every", "steps"),
    [
        (1.0, [5, 10, 12]),
        (2.0, [10, 12]),
        (0.5, [3, 5, 8, 10, 12]),
        (100.0, [12]),
        (0.01, list(range(1, 13))),
    ],
)
def test_evaluations_come_every_so_many_epochs_and_at_the_end(every: float, steps: list[int]) -> None:
    plan = a_plan(epochs=2.5, batch_size=10, evaluate_every=every)
    assert plan.evaluation_steps() == steps


# -- sizes of images -----------------------------------------------------------------------------------


def test_the_side_grows_on_a_line_and_then_stays() -> None:
    plan = a_plan(steps=100, start_px=8, train_px=24, growth_share=0.8)
    sides = [plan.side_px(step) for step in range(100)]
    assert sides[0] == 8
    assert sides[80:] == [24] * 20
    assert sides == sorted(sides)
    assert set(sides) == {8, 12, 16, 20, 24}


def test_without_a_start_the_side_stays() -> None:
    plan = a_plan(steps=10, train_px=12)
    assert {plan.side_px(step) for step in range(10)} == {12}


# -- JSON and differences ------------------------------------------------------------------------------


def test_differences_name_every_field_that_differs() -> None:
    first, second = a_plan(seed=1), a_plan(seed=2, learning_rate=0.2, flip=True)
    assert first.differences(second) == [
        "recipe.learning_rate: 0.1 → 0.2",
        "recipe.augment.flip: False → True",
        "seed: 1 → 2",
    ]


def with_a_mean_image() -> Plan:
    pixels = np.random.default_rng(0).random((8, 8, 3), dtype=np.float32)
    image = MeanImage.from_array(pixels)
    return a_plan(preprocess=dataclasses.replace(SMALL_INPUT, mean=image.average(), mean_image=image))


def test_a_difference_of_mean_images_is_not_a_page_long() -> None:
    first, second = a_plan(), with_a_mean_image()
    assert max(len(line) for line in first.differences(second)) < 200


def test_a_damaged_plan_is_refused() -> None:
    fields = a_plan().to_dict()
    del fields["spec"]
    with pytest.raises(ConfigurationError, match="the plan cannot be read .'spec'"):
        Plan.from_dict(fields)


def test_a_plan_with_a_mean_image_survives_json() -> None:
    plan = with_a_mean_image()
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_a_reason_is_no_difference_between_plans() -> None:
    plan = a_plan(precision="fp32")
    assert plan.differences(dataclasses.replace(plan, precision_reason="something else")) == []
    assert plan.differences(dataclasses.replace(plan, precision="bf16")) == ["precision: fp32 → bf16"]
