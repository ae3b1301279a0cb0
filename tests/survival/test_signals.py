"""A signal saves and ends a run within ten seconds, whatever it is doing, and the run goes on from there."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fork_server import PATIENCE_SECONDS
from tests.suites import short
from tests.survival.trials import EVERYTHING, Trials, Variant, record_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fork_server import Child, ForkServer

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 143, signal.SIGHUP: 143}
MOST_SECONDS = 10.0

# This crop is cut from the file each time; under others small images may stay in memory.
LOADED = {"epochs": 2.0, "crop": "random-resized"}
PLAIN = Variant("plain", LOADED)
WORKERS = Variant("two workers", LOADED, {"num_workers": 2})
RANKS = Variant("two ranks", LOADED, num_ranks=2)
IN_MEMORY = Variant("in memory", {"epochs": 2.0})
EVERY_STATE = Variant("everything", {**EVERYTHING, "epochs": 2.0}, {"validation": 0.25})
PRECISE = Variant("exact statistics", {**EVERYTHING, "precise_bn": 36, "epochs": 1.0}, {"validation": 0.25})


def name_of(number: signal.Signals) -> str:
    return number.name


def until(happened: Callable[[], bool], children: list[Child]) -> None:
    """Wait for children to do something."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < end, children[0].said
        assert _alive(children), children[0].said
        time.sleep(0.01)


def _alive(children: list[Child]) -> bool:
    try:
        for child in children:
            os.kill(child.process, 0)
    except ProcessLookupError:
        return False
    return True


def obstacle(tmp_path: Path, split: str, read: int) -> dict[str, Any]:
    return {"split": split, "read": read, "marker": str(tmp_path / "blocked"), "signal": 0}


def stopped_while_blocked(
    trials: Trials, variant: Variant, blocked: dict[str, Any], number: signal.Signals, *, group: bool = False
) -> None:
    """Send a signal to a run that waits for data, and hold it to its exit code and its time."""
    children = trials.begin("parts", variant, obstruct=blocked)
    until(Path(blocked["marker"]).exists, children)
    time.sleep(0.3)  # from the marker into the sleep
    sent = time.monotonic()
    for child in children:
        (os.killpg if group else os.kill)(child.process, number)
    codes = trials.runner.wait(*children)
    seconds = time.monotonic() - sent
    assert codes == [CODES[number]] * len(children), children[0].said
    assert seconds < MOST_SECONDS
    assert record_of(trials.folder / "parts")["status"] == "interrupted"


def goes_on_to_the_same_bits(trials: Trials, variant: Variant) -> None:
    trials.finish("parts", variant, resume=True)
    assert trials.state("parts") == trials.whole(variant)


@pytest.mark.parametrize("number", short(CODES, signal.SIGTERM), ids=name_of)
def test_a_signal_while_it_waits_for_training_data_saves_and_ends(
    trials: Trials, tmp_path: Path, number: signal.Signals
) -> None:
    stopped_while_blocked(trials, PLAIN, obstacle(tmp_path, "train", 30), number)
    assert record_of(tmp_path / "parts")["step"] == 2  # 12 + 12, and blocked in the third batch
    if number == signal.SIGTERM:
        goes_on_to_the_same_bits(trials, PLAIN)


@pytest.mark.parametrize("number", short(CODES, signal.SIGINT), ids=name_of)
def test_a_signal_while_it_waits_for_validation_data_saves_and_ends(
    trials: Trials, tmp_path: Path, number: signal.Signals
) -> None:
    stopped_while_blocked(trials, PLAIN, obstacle(tmp_path, "test", 8), number)
    assert record_of(tmp_path / "parts")["step"] == 4
    if number == signal.SIGINT:
        goes_on_to_the_same_bits(trials, PLAIN)


@pytest.mark.parametrize("group", short([False, True], True), ids=["alone", "with-its-workers"])
def test_a_signal_while_workers_wait_for_data_saves_and_ends(
    trials: Trials, tmp_path: Path, group: bool
) -> None:
    stopped_while_blocked(trials, WORKERS, obstacle(tmp_path, "train", 20), signal.SIGTERM, group=group)
    goes_on_to_the_same_bits(trials, WORKERS)


def test_a_signal_while_images_are_read_into_memory_saves_and_ends(
    runner: ForkServer, squares: Path, tmp_path: Path
) -> None:
    trials = Trials(runner, squares, tmp_path)
    stopped_while_blocked(trials, IN_MEMORY, obstacle(tmp_path, "train", 30), signal.SIGTERM)
    assert record_of(tmp_path / "parts")["step"] == 0
    goes_on_to_the_same_bits(trials, IN_MEMORY)


@pytest.mark.test_all
def test_a_signal_while_it_measures_exact_statistics_saves_and_ends(trials: Trials, tmp_path: Path) -> None:
    # The first evaluation comes after two steps of 12; the 30th read is in the images to normalize by.
    stopped_while_blocked(trials, PRECISE, obstacle(tmp_path, "train", 30), signal.SIGUSR1)
    assert record_of(tmp_path / "parts")["step"] == 2
    goes_on_to_the_same_bits(trials, PRECISE)


@pytest.mark.test_all
def test_a_signal_to_every_rank_while_they_wait_for_data_saves_and_ends(
    trials: Trials, tmp_path: Path
) -> None:
    stopped_while_blocked(trials, RANKS, obstacle(tmp_path, "train", 15), signal.SIGTERM)
    goes_on_to_the_same_bits(trials, RANKS)


@pytest.mark.parametrize("number", CODES, ids=name_of)
def test_a_signal_in_a_training_step_saves_that_step_and_ends(trials: Trials, number: signal.Signals) -> None:
    (child,) = trials.run("parts", PLAIN, plants={"signal_at_step": [3, number]})
    assert child.code == CODES[number]
    assert record_of(trials.folder / "parts")["step"] == 3


@pytest.mark.parametrize("number", short(CODES, signal.SIGTERM), ids=name_of)
def test_a_step_that_takes_a_minute_does_not_hold_up_a_signal(
    trials: Trials, tmp_path: Path, number: signal.Signals
) -> None:
    marker = tmp_path / "in the step"
    (child,) = trials.begin("parts", EVERY_STATE, plants={"long_step": [3, str(marker)]})
    until(marker.exists, [child])
    sent = time.monotonic()
    os.kill(child.process, number)
    assert trials.runner.wait(child) == [CODES[number]], child.said
    assert time.monotonic() - sent < MOST_SECONDS
    record = record_of(tmp_path / "parts")
    assert (record["status"], record["step"]) == ("interrupted", 3)
    if number == signal.SIGTERM:
        goes_on_to_the_same_bits(trials, EVERY_STATE)


def test_a_signal_to_one_of_two_ranks_stops_both_at_the_same_step(trials: Trials) -> None:
    children = trials.run("parts", RANKS, plants={"signal_at_step": [3, signal.SIGTERM]}, plants_of=1)
    assert [child.code for child in children] == [143, 143]
    assert record_of(trials.folder / "parts")["step"] == 3
    goes_on_to_the_same_bits(trials, RANKS)


def test_a_signal_in_the_middle_of_a_validation_saves_and_ends(trials: Trials, tmp_path: Path) -> None:
    obstruct = {**obstacle(tmp_path, "test", 8), "signal": signal.SIGTERM}
    (child,) = trials.run("parts", PLAIN, obstruct=obstruct)
    assert child.code == 143
    record = record_of(tmp_path / "parts")
    assert (record["status"], record["step"]) == ("interrupted", 4)
    goes_on_to_the_same_bits(trials, PLAIN)


@pytest.mark.test_all
def test_a_terminal_that_is_closed_saves_and_ends(trials: Trials, tmp_path: Path) -> None:
    import pty
    import sys

    words = [
        "train",
        str(trials.data),
        "--out",
        str(tmp_path / "parts"),
        "--recipe",
        "cifar",
        "--epochs",
        "400",
    ]
    words += ["--model", "resnet20", "--image-px", "8", "--batch-size", "12", "--workers", "0"]
    process, terminal = pty.fork()
    if not process:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests that nohup started ignore it, and so would this
        os.execv(sys.executable, [sys.executable, "-m", "deepresidual", *words, "--compile", "no"])  # noqa: S606
    shown = b""
    while not (tmp_path / "parts" / "evaluation.json").exists():
        shown += os.read(terminal, 1 << 16)
    os.close(terminal)
    sent = time.monotonic()
    _, status = os.waitpid(process, 0)
    assert time.monotonic() - sent < PATIENCE_SECONDS  # it ends with a report
    assert os.waitstatus_to_exitcode(status) == 143
    record = record_of(tmp_path / "parts")
    assert record["status"] == "interrupted"
    assert (tmp_path / "parts" / "checkpoints" / f"step-{record['step']}" / "manifest.json").exists()
