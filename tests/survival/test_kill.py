"""A run that is killed and resumed ends with the bits of one that was not."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from tests.suites import short
from tests.survival.trials import CHANGES, EVERYTHING, TOTAL_STEPS, Trials, Undisturbed, Variant, samples_of

SEED = 2015
"""Of every random point here; a failure names the point, too."""

SAVES_ALWAYS = 1e-6  # minutes: a checkpoint after every step
HELD_OUT = {"validation": 0.25}  # leaves 36 samples: three steps an epoch, nine in all

PLAIN = Variant("plain")
PLAIN_TWO_WORKERS = Variant("plain, two workers", options={"num_workers": 2})
ALL = Variant("everything", EVERYTHING, HELD_OUT)
ALL_TWO_WORKERS = Variant("everything, two workers", EVERYTHING, {**HELD_OUT, "num_workers": 2})
ALL_TWO_RANKS = Variant("everything, two ranks", EVERYTHING, HELD_OUT, num_ranks=2)
MIXED = Variant("mixup and cutmix", {"mixup": 0.2, "cutmix": 1.0})
ACCUMULATED = Variant("micro-batches", {"micro_batch_size": 4})
AVERAGED = Variant("moving average", {"ema_decay": 0.9, "ema_every": 2})
PLATEAU = Variant("plateau", {"schedule": "plateau", "patience": 1}, HELD_OUT)
UNTIL_ERROR = Variant(
    "warm-up until error",
    {
        "warmup": "constant",
        "warmup_epochs": 3.0,
        "warmup_learning_rate": 0.01,
        "warmup_until_error": 0.5,
        "schedule": "step",
    },
)
ADAMW = Variant(
    "adamw, bce, repeats",
    {"optimizer": "adamw", "learning_rate": 1e-3, "loss": "bce", "repeated_augmentation": 2},
)
IN_MEMORY = Variant("in memory", {"steps": 10}, data="digits")
TWO_RANKS = Variant("two ranks", num_ranks=2)
TWO_RANKS_TWO_WORKERS = Variant("two ranks, two workers", options={"num_workers": 2}, num_ranks=2)
FOUR_RANKS = Variant("four ranks", num_ranks=4)
# A classifier that is fitted first, stages that open one after the other, and an average at the end.
FINETUNED = Variant("fine-tuned", {"learning_rate": 0.005}, {"recipe": "finetune"})
FINETUNED_CHOSEN = Variant("fine-tuned, chosen", {"learning_rate": 0.005}, {"recipe": "finetune", **HELD_OUT})
FINETUNED_TWO_RANKS = Variant(
    "fine-tuned, two ranks", {"learning_rate": 0.005}, {"recipe": "finetune"}, num_ranks=2
)


def named(variant: Variant) -> str:
    return variant.name.replace(", ", "-").replace(" ", "-")


def live_and_die(trials: Trials, out: str, variant: Variant, point: dict[str, Any]) -> None:
    """Start or go on with a run, and kill it at a point."""
    arguments: dict[str, Any] = {"resume": trials.has_begun(out), "checkpoint_minutes": point["minutes"]}
    if "seconds" in point:
        children = trials.begin(out, variant, **arguments)
        time.sleep(point["seconds"])
        trials.runner.kill(*children)
    else:
        plants = {name: point[name] for name in point if name.startswith("kill")}
        children = trials.run(out, variant, plants=plants, plants_of=point.get("rank", 0), **arguments)
    # A point may lie behind the end. A rank may notice the death of another before it is killed itself.
    codes = [child.code for child in children]
    assert {-9, 0} & {*codes}, (point, children[0].said)
    assert {*codes} <= {-9, 0, 1 if len(codes) > 1 else 0}, (point, children[0].said)


def point_of(
    dice: random.Random, variant: Variant, operations: int, seconds: float, steps: int
) -> dict[str, Any]:
    """Return a random moment: an operation on a file, the beginning of a step, or a time by the clock."""
    point: dict[str, Any] = {"minutes": dice.choice([SAVES_ALWAYS, 15.0])}
    kind = dice.choice(["operation", "operation", "step", "clock"])
    if kind == "operation":
        return {**point, "kill_at_operation": dice.randint(1, operations)}
    if kind == "step":
        return {**point, "kill_at_step": dice.randrange(steps), "rank": dice.randrange(variant.num_ranks)}
    return {**point, "seconds": dice.uniform(0, seconds)}


@pytest.mark.test_all
@pytest.mark.parametrize("variant", [ALL_TWO_WORKERS, TWO_RANKS], ids=named)
def test_a_run_killed_again_and_again_ends_with_the_bits_of_one_that_was_not(
    trials: Trials, undisturbed: Undisturbed, variant: Variant
) -> None:
    whole = undisturbed.of(variant).state
    dice = random.Random(SEED)  # noqa: S311  # chooses where to kill
    points = []
    for _ in range(20 if variant.num_ranks == 1 else 6):
        # Near points, so that it lives long enough for many deaths.
        points.append(point_of(dice, variant, 90, 1.0, whole["record"]["step"]))
        live_and_die(trials, "parts", variant, points[-1])
    trials.finish("parts", variant, resume=trials.has_begun("parts"))
    assert trials.state("parts") == whole, points


@pytest.mark.test_all
@pytest.mark.parametrize(
    "variant",
    [
        PLAIN, PLAIN_TWO_WORKERS, ALL, ALL_TWO_WORKERS, ALL_TWO_RANKS, MIXED, ACCUMULATED, AVERAGED, PLATEAU,
        UNTIL_ERROR, ADAMW, IN_MEMORY, TWO_RANKS, TWO_RANKS_TWO_WORKERS, FOUR_RANKS, FINETUNED,
        FINETUNED_CHOSEN, FINETUNED_TWO_RANKS,
    ],
    ids=named,
)  # fmt: skip
def test_a_run_killed_once_anywhere_ends_with_the_bits_of_one_that_was_not(
    trials: Trials, undisturbed: Undisturbed, variant: Variant
) -> None:
    whole = undisturbed.of(variant)
    dice = random.Random(SEED)  # noqa: S311  # chooses where to kill
    for number in range(24):
        point = point_of(dice, variant, whole.num_operations, whole.seconds, whole.state["record"]["step"])
        out = f"parts-{number}"
        live_and_die(trials, out, variant, point)
        trials.finish(out, variant, resume=trials.has_begun(out))
        assert trials.state(out) == whole.state, point


# The first and last steps of epochs and of the run.
@pytest.mark.parametrize("step", short([0, 3, 4, TOTAL_STEPS - 1], 4))
def test_a_run_killed_at_the_turn_of_an_epoch_ends_with_the_same_bits(
    trials: Trials, undisturbed: Undisturbed, step: int
) -> None:
    whole = undisturbed.of(PLAIN).state
    live_and_die(trials, "parts", PLAIN, {"minutes": 15.0, "kill_at_step": step})
    trials.finish("parts", PLAIN, resume=True)
    assert trials.state("parts") == whole


def test_a_run_killed_in_its_final_evaluation_ends_with_the_same_bits(
    trials: Trials, undisturbed: Undisturbed
) -> None:
    whole = undisturbed.of(ALL)
    point = {"minutes": 15.0, "kill_at_operation": whole.num_operations - 20}
    live_and_die(trials, "parts", ALL, point)
    trials.finish("parts", ALL, resume=True)
    assert trials.state("parts") == whole.state


@pytest.mark.parametrize("step", short([0, 1, 4, TOTAL_STEPS - 1], 4))
def test_a_fine_tuning_killed_at_its_beginning_turn_or_end_ends_with_the_same_bits(
    trials: Trials, undisturbed: Undisturbed, step: int
) -> None:
    whole = undisturbed.of(FINETUNED_CHOSEN).state
    live_and_die(trials, "parts", FINETUNED_CHOSEN, {"minutes": 15.0, "kill_at_step": step})
    trials.finish("parts", FINETUNED_CHOSEN, resume=True)
    assert trials.state("parts") == whole


def start_and_die_anywhere(trials: Trials, every: int) -> None:
    variant = Variant("one step", {"steps": 1})
    whole = trials.undisturbed.of(variant)
    for number in range(1, whole.num_operations + 1, every):
        out = f"parts-{number}"
        live_and_die(trials, out, variant, {"minutes": 15.0, "kill_at_operation": number})
        trials.finish(out, variant, resume=trials.has_begun(out))
        assert trials.state(out) == whole.state, number


def test_a_run_killed_while_it_begins_can_be_begun_again_or_resumed(trials: Trials) -> None:
    start_and_die_anywhere(trials, every=61)


@pytest.mark.test_all
def test_a_run_killed_at_any_operation_of_its_beginning_can_be_begun_again_or_resumed(trials: Trials) -> None:
    start_and_die_anywhere(trials, every=1)


# -- what shows that the comparison would notice -----------------------------------------------------------


def test_another_seed_gives_other_bits_and_other_samples(trials: Trials, undisturbed: Undisturbed) -> None:
    whole = undisturbed.of(PLAIN).state
    trials.finish("other", PLAIN, seed=1)
    other = trials.state("other")
    assert all(
        other["files"][name] != whole["files"][name] for name in whole["files"] if "safetensors" in name
    )
    digests = [row["samples"] for row in whole["metrics"] if row["event"] == "train"]
    assert not set(samples_of(trials.folder / "other")) & set(digests)


def test_a_resumed_run_that_leaves_out_a_step_gives_other_bits_and_another_list_of_samples(
    trials: Trials, undisturbed: Undisturbed
) -> None:
    whole = undisturbed.of(PLAIN).state
    live_and_die(trials, "parts", PLAIN, {"minutes": 15.0, "kill_at_step": 6})
    trials.finish("parts", PLAIN, resume=True, plants={"leave_out_steps": [6]})
    parts = trials.state("parts")
    assert parts["files"]["model/model.safetensors"] != whole["files"]["model/model.safetensors"]
    ours, theirs = ([row.get("samples") for row in state["metrics"]] for state in (parts, whole))
    assert ours != theirs
    assert CHANGES["batch_size"] == 12
