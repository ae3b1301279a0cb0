"""A loss that is not finite: the run stops, leaves the step out, or goes back and leaves it out."""

from __future__ import annotations

import re

import pytest

from tests.suites import short
from tests.survival.trials import TOTAL_STEPS, Trials, Variant, record_of

BAD = 6  # steps 4 to 7 are the second epoch; the checkpoint before is of step 4


def variant(reaction: str, num_ranks: int = 1, **changes: object) -> Variant:
    return Variant(reaction, {"non_finite": reaction, **changes}, num_ranks=num_ranks)


def test_stop_names_step_rate_and_samples_and_saves_nothing(trials: Trials) -> None:
    (child,) = trials.run("run", variant("stop"), plants={"not_finite": [BAD]})
    assert child.code == 5
    assert re.search(
        rf"error: loss or gradient is not finite at step {BAD + 1} \(learning rate 0\.\d+\); samples "
        r"train/\w+/[\w-]+\.png, .* and 4 more; start again with a lower --learning-rate",
        child.said,
    ), child.said
    record = record_of(trials.folder / "run")
    assert (record["status"], record["step"]) == ("diverged", BAD)
    assert sorted(path.name for path in (trials.folder / "run" / "checkpoints").iterdir()) == ["step-4"]
    (again,) = trials.run("run", variant("stop"), resume=True)
    assert (again.code, "diverged; start anew in another --out" in again.said) == (2, True)


def skips_for_good(trials: Trials, num_ranks: int, steps: list[int]) -> None:
    """Skip a step on every rank where one has the bad loss, and hold kills before these steps to it."""
    skipping, plants, of = variant("skip", num_ranks), {"not_finite": [BAD]}, num_ranks - 1
    trials.finish("whole", skipping, plants=plants, plants_of=of)
    whole = trials.state("whole")
    assert whole["record"]["not_finite"] == [BAD]
    trials.finish("left-out", skipping, plants={"leave_out_steps": [BAD]})
    assert whole["files"] == trials.state("left-out")["files"]
    for step in steps:
        out = f"parts-{step}"
        trials.run(out, skipping, plants={**plants, "kill_at_step": step}, plants_of=of)
        trials.finish(out, skipping, plants=plants, plants_of=of, resume=True)
        assert trials.state(out) == whole, step


def test_skip_leaves_the_step_out_for_good(trials: Trials) -> None:
    skips_for_good(trials, 1, [BAD + 1])


@pytest.mark.test_all
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_skip_leaves_the_step_out_for_good_on_all_ranks(trials: Trials, num_ranks: int) -> None:
    skips_for_good(trials, num_ranks, [BAD, BAD + 1, TOTAL_STEPS - 1])


@pytest.mark.parametrize(
    "minutes",
    [15.0, pytest.param(1e-6, marks=pytest.mark.test_all)],
    ids=["from-the-epoch", "from-the-step-before"],
)
def test_rollback_leaves_out_the_steps_before_the_bad_one_too(trials: Trials, minutes: float) -> None:
    # Wherever checkpoints happen to lie. Of 100 steps before, as is usual, these runs have not enough.
    rolling, plants = variant("rollback", rollback_steps=2), {"not_finite": [BAD, BAD + 4]}
    trials.finish("rollback", rolling, plants=plants, checkpoint_minutes=minutes)
    left_out = [BAD - 2, BAD - 1, BAD, BAD + 2, BAD + 3, BAD + 4]
    trials.finish("left out", variant("stop"), plants={"leave_out_steps": left_out})
    trials.finish("skip", variant("skip"), plants=plants)
    rollback, without, skip = (trials.state(name) for name in ("rollback", "left out", "skip"))
    assert rollback["record"]["not_finite"] == [BAD, BAD + 4]
    for name in ("files", "metrics", "evaluation"):
        assert rollback[name] == without[name], name
        assert rollback[name] != skip[name], name


@pytest.mark.test_all
def test_rollback_goes_back_to_the_start_where_there_is_less_before(trials: Trials) -> None:
    trials.finish("rollback", variant("rollback"), plants={"not_finite": [BAD]})
    trials.finish("left out", variant("stop"), plants={"leave_out_steps": list(range(BAD + 1))})
    assert trials.state("rollback")["files"] == trials.state("left out")["files"]


@pytest.mark.test_all
def test_rollback_on_two_ranks_goes_on_after_a_kill(trials: Trials) -> None:
    processes = variant("rollback", 2, rollback_steps=2)
    plants = {"not_finite": [1, BAD]}  # step 1 comes before the first evaluation
    trials.finish("whole", processes, plants=plants, plants_of=0)
    assert trials.state("whole")["record"]["not_finite"] == [1, BAD]
    trials.run("parts", processes, plants={**plants, "kill_at_step": BAD + 1}, plants_of=0)
    trials.finish("parts", processes, plants=plants, plants_of=0, resume=True)
    assert trials.state("parts") == trials.state("whole")


@pytest.mark.parametrize("reaction", short(["skip", "rollback"], "skip"))
def test_ten_in_a_row_stop_the_run_all_the_same(trials: Trials, reaction: str) -> None:
    (child,) = trials.run("run", variant(reaction, epochs=4.0), plants={"not_finite": list(range(2, 16))})
    assert child.code == 5, child.said
    assert record_of(trials.folder / "run")["status"] == "diverged"
