"""Training a detector survives what training a classifier does: kills, signals, bad losses and samples."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.detectors import TINY_DETECTOR, TINY_MASKS, TINY_PYRAMID, write_masks, write_shapes
from tests.fork_server import ForkServer
from tests.suites import short
from tests.survival.test_kill import live_and_die
from tests.survival.trials import Trials, Undisturbed, Variant, metrics_of, record_of, samples_of

STEPS = 9  # 36 pictures in batches of 12, for three epochs
CHANGES: dict[str, Any] = {
    "micro_batch_size": 3,
    "ema_decay": 0.9,
    "evaluate_every": 1.0,
    "learning_rate": 0.02,
    "min_scale": 0.5,
    "max_scale": 1.5,
}
OPTIONS: dict[str, Any] = {"model": TINY_DETECTOR.to_dict(), "recipe": "detect", "image_px": 32}


def variant(num_ranks: int = 1, **changes: Any) -> Variant:
    return Variant("detector", {**CHANGES, **changes}, OPTIONS, num_ranks)


def pyramid(num_ranks: int = 1, **changes: Any) -> Variant:
    options = {**OPTIONS, "model": TINY_PYRAMID.to_dict()}
    return Variant("pyramid", {**CHANGES, **changes}, options, num_ranks)


def masks(num_ranks: int = 1, **changes: Any) -> Variant:
    options = {**OPTIONS, "model": TINY_MASKS.to_dict()}
    return Variant("masks", {**CHANGES, **changes}, options, num_ranks)


@pytest.fixture(scope="module")
def runs(runner: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Runs of 36 pictures with boxes that nothing happened to."""
    folder = tmp_path_factory.mktemp("boxes")
    return Undisturbed(Trials(runner, write_shapes(folder / "shapes", 36), folder))


@pytest.fixture
def boxes(runs: Undisturbed, tmp_path: Path) -> Trials:
    """Runs of the same pictures below a folder of the test's own."""
    return Trials(runs.trials.runner, runs.trials.data, tmp_path, runs)


@pytest.fixture(scope="module")
def masked_runs(runner: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Runs of as many pictures with masks."""
    folder = tmp_path_factory.mktemp("masks")
    return Undisturbed(Trials(runner, write_masks(folder / "shapes", 36), folder))


@pytest.fixture
def masked(masked_runs: Undisturbed, tmp_path: Path) -> Trials:
    """Runs of the same pictures with masks below a folder of the test's own."""
    return Trials(masked_runs.trials.runner, masked_runs.trials.data, tmp_path, masked_runs)


# -- kills -----------------------------------------------------------------------------------------------


def ends_with_the_same_bits(trials: Trials, of: Variant, point: dict[str, Any], num_threads: int = 0) -> None:
    threads = Variant(of.name, of.changes, {**of.options, "num_workers": num_threads}, of.num_ranks)
    live_and_die(trials, "parts", threads, {"minutes": 15.0, **point})
    trials.finish("parts", threads, resume=trials.has_begun("parts"))
    assert trials.state("parts") == trials.whole(of), point


@pytest.mark.parametrize("step", short(range(STEPS), 4))
def test_a_run_killed_at_a_step_ends_with_the_same_bits(boxes: Trials, step: int) -> None:
    # Saved after every step, so that most go on in the middle of an epoch; three threads change nothing.
    ends_with_the_same_bits(boxes, variant(), {"kill_at_step": step, "minutes": 1e-6}, num_threads=3)


@pytest.mark.parametrize("step", short(range(STEPS), 5))
def test_a_run_with_masks_killed_at_a_step_ends_with_the_same_bits(masked: Trials, step: int) -> None:
    ends_with_the_same_bits(masked, masks(), {"kill_at_step": step, "minutes": 1e-6}, num_threads=3)


@pytest.mark.test_all
@pytest.mark.parametrize("part", range(6))
def test_a_run_with_masks_killed_at_an_operation_ends_with_the_same_bits(masked: Trials, part: int) -> None:
    operations = masked.undisturbed.of(masks()).num_operations
    ends_with_the_same_bits(masked, masks(), {"kill_at_operation": 1 + part * operations // 6})


@pytest.mark.test_all
def test_two_ranks_with_masks_have_the_same_curve(masked: Trials) -> None:
    slow: dict[str, Any] = {"learning_rate": 1e-4, "warmup_epochs": 0.0}
    for num_ranks in (1, 2):
        masked.finish(f"{num_ranks}", masks(num_ranks, **slow))
    one, two = (masked.folder / f"{num_ranks}" for num_ranks in (1, 2))
    assert samples_of(one) == samples_of(two)
    curves = [[row["loss_mask"] for row in metrics_of(run) if row["event"] == "train"] for run in (one, two)]
    assert len(curves[0]) == STEPS
    assert curves[1] == pytest.approx(curves[0], rel=2e-5)


@pytest.mark.test_all
@pytest.mark.parametrize("part", range(12))
def test_a_run_killed_at_an_operation_on_its_files_ends_with_the_same_bits(boxes: Trials, part: int) -> None:
    operations = boxes.undisturbed.of(pyramid()).num_operations
    ends_with_the_same_bits(boxes, pyramid(), {"kill_at_operation": 1 + part * operations // 12})


@pytest.mark.test_all
@pytest.mark.parametrize("step", [1, 5])
def test_two_ranks_killed_end_with_the_same_bits(boxes: Trials, step: int) -> None:
    ends_with_the_same_bits(boxes, variant(2), {"kill_at_step": step, "rank": 1})


# -- ranks -----------------------------------------------------------------------------------------------


@pytest.mark.test_all
@pytest.mark.parametrize("batch_norm", ["train", "frozen"])
@pytest.mark.parametrize("of", [variant, pyramid], ids=["c4", "fpn"])
def test_two_ranks_see_the_same_samples_and_have_the_same_curve(
    boxes: Trials, of: Any, batch_norm: str, tmp_path: Path
) -> None:
    # A proposal that one rounding more lifts over another is a jump, so short steps.
    slow: dict[str, Any] = {"learning_rate": 1e-4, "warmup_epochs": 0.0}
    if batch_norm == "frozen":
        # Whole images of several sizes, which then go through the network one size after the other.
        slow |= {"batch_norm": "frozen", "crop": "multi-scale", "min_side_px": 16, "max_side_px": 32}
        boxes.finish("start", of(epochs=1.0))
    weights = {"weights": str(tmp_path / "start")} if batch_norm == "frozen" else {}
    for num_ranks in (1, 2):
        boxes.finish(f"{num_ranks}", of(num_ranks, **slow), **weights)
    one, two = (boxes.folder / f"{num_ranks}" for num_ranks in (1, 2))
    assert samples_of(one) == samples_of(two)
    assert len(set(samples_of(one))) == STEPS
    for ours, theirs in zip(metrics_of(one), metrics_of(two), strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=2e-5)


@pytest.mark.test_all
@pytest.mark.parametrize("of", [variant, pyramid], ids=["c4", "fpn"])
@pytest.mark.parametrize("synchronized", [False, True])
def test_ranks_without_any_object_or_image_do_not_wait_for_ever(
    runner: ForkServer, tmp_path: Path, of: Any, synchronized: bool
) -> None:
    # One image a micro-batch: every third shows no object, and one cannot be read.
    data = write_shapes(tmp_path / "shapes", 120)
    (damaged,) = (data / "JPEGImages").glob("0007.png")
    damaged.write_bytes(damaged.read_bytes()[:-40])
    trials = Trials(runner, data, tmp_path)
    # Synchronized statistics need one micro-batch a rank, and a batch of nothing ends a run.
    size, of_micro_batch = (4, None) if synchronized else (12, 1)
    changes = {"sync_batch_norm": synchronized, "batch_size": size, "micro_batch_size": of_micro_batch}
    children = trials.finish("run", of(2, epochs=1.0, **changes), bad_samples="skip")
    assert not [child.said for child in children if "Warning" in child.said]  # of DistributedDataParallel
    assert [*record_of(tmp_path / "run")["bad_samples"]] == ["JPEGImages/0007.png"]


# -- bad samples and losses ------------------------------------------------------------------------------


@pytest.mark.test_all
def test_bad_samples_are_left_out_and_the_rest_has_the_same_bits_after_a_kill(
    runner: ForkServer, tmp_path: Path
) -> None:
    data = write_shapes(tmp_path / "shapes", 120)
    for name in ("0007", "0122"):  # one to learn from, one to be measured on
        file = data / "JPEGImages" / f"{name}.png"
        file.write_bytes(file.read_bytes()[:-40])
    trials = Trials(runner, data, tmp_path)
    (child,) = trials.run("stopped", variant(epochs=1.0))
    assert (child.code, "damaged PNG" in child.said) == (3, True), child.said
    skipping = Variant("skipping", {**CHANGES, "epochs": 1.0}, {**OPTIONS, "bad_samples": "skip"})
    trials.finish("whole", skipping)
    assert "JPEGImages/0007.png" in record_of(tmp_path / "whole")["bad_samples"]
    assert trials.state("whole")["evaluation"]["count"] == 7
    live_and_die(trials, "parts", skipping, {"minutes": 1e-6, "kill_at_step": 7})
    trials.finish("parts", skipping, resume=True)
    assert trials.state("parts") == trials.state("whole")


@pytest.mark.test_all
@pytest.mark.parametrize("reaction", ["skip", "rollback"])
def test_a_loss_that_is_not_finite_is_left_out(boxes: Trials, reaction: str) -> None:
    of = variant(non_finite=reaction, rollback_steps=2)
    boxes.finish("whole", of, plants={"not_finite": [5]})
    assert record_of(boxes.folder / "whole")["not_finite"] == [5]
    left_out = [5] if reaction == "skip" else [3, 4, 5]
    boxes.finish("left-out", variant(non_finite="skip"), plants={"leave_out_steps": left_out})
    assert boxes.state("whole")["files"] == boxes.state("left-out")["files"]
    boxes.run("parts", of, plants={"not_finite": [5], "kill_at_step": 6})
    boxes.finish("parts", of, plants={"not_finite": [5]}, resume=True)
    assert boxes.state("parts") == boxes.state("whole")


@pytest.mark.test_all
def test_a_loss_that_is_not_finite_names_the_samples(boxes: Trials) -> None:
    (child,) = boxes.run("run", variant(non_finite="stop"), plants={"not_finite": [5]})
    assert child.code == 5
    assert "loss or gradient is not finite at step 6" in child.said
    assert ".png" in child.said


# -- signals ---------------------------------------------------------------------------------------------


@pytest.mark.test_all
def test_a_signal_in_the_middle_of_an_evaluation_saves_and_ends(boxes: Trials) -> None:
    marker = boxes.folder / "read"
    obstacle = {"split": "test", "read": 5, "marker": str(marker), "signal": signal.SIGTERM}
    (child,) = boxes.run("parts", variant(), obstruct=obstacle)
    assert child.code == 143, child.said
    record = record_of(boxes.folder / "parts")
    assert (record["status"], record["step"]) == ("interrupted", 3)
    boxes.finish("parts", variant(), resume=True)
    assert boxes.state("parts") == boxes.whole(variant())
