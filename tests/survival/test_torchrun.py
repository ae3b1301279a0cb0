"""Under torchrun a run survives the death of a process, and a signal saves it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fork_server import PATIENCE_SECONDS, ROOT
from tests.survival.trials import (
    CHANGES,
    OPTIONS,
    Trials,
    Variant,
    _free_port,
    record_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Evaluated and saved after steps 16 and 32. After either the first rank draws the report for a second, while
# the other waits for it, so there is time to meet them in the middle.
LONG = Variant("two ranks", {"epochs": 8.0, "evaluate_every": 4.0}, {"model": "resnet20"}, num_ranks=2)
RANKS = Variant("two ranks, short", {"epochs": 2.0}, {"model": "resnet20"}, num_ranks=2)
TINY_RANKS = Variant("two ranks", {"epochs": 2.0, "crop": "random-resized"}, num_ranks=2)
MEETING_SECONDS = 300.0
STOPPING_SECONDS = 10.0

# Runs the command and leaves its exit code where the test finds it; torchrun tells only of its own.
RANK = """
import os, sys, time
from pathlib import Path
from deepresidual.cli import main
out = Path(sys.argv[1])
(out.with_name(f"pid-{os.environ['RANK']}")).write_text(str(os.getpid()))
code = main(sys.argv[2:])
(out.with_name(f"code-{os.environ['RANK']}")).write_text(f"{code} {time.time()}")
sys.exit(code)
"""


def command_line(trials: Trials, out: str, variant: Variant) -> list[str]:
    """Return what to type for the run that the variant describes."""
    settings: dict[str, Any] = {**OPTIONS, **variant.options, **CHANGES, **variant.changes}
    settings["workers"] = settings.pop("num_workers")
    words = ["train", str(trials.data), "--out", str(trials.folder / out)]
    for name, value in settings.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return words


@pytest.fixture
def torchrun(trials: Trials) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a run under torchrun; what is left of it at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(out: str, variant: Variant, *more: str) -> subprocess.Popen[str]:
        script = trials.folder / "rank.py"
        script.write_text(RANK)
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts", "2"]
        launcher += ["--nproc-per-node", str(variant.num_ranks)]
        with (trials.folder / "torchrun.log").open("w") as log:
            process = subprocess.Popen(
                [
                    *launcher,
                    str(script),
                    str(trials.folder / out),
                    *command_line(trials, out, variant),
                    *more,
                ],
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.DEVNULL,
                stderr=log,
                text=True,
            )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def until(happened: Callable[[], bool], process: subprocess.Popen[str], log: Path) -> None:
    end = time.monotonic() + MEETING_SECONDS
    while not happened():
        assert time.monotonic() < end, log.read_text()
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)


def test_a_rank_that_is_started_again_goes_on_although_its_command_does_not_say_so(trials: Trials) -> None:
    # What torchrun does is told to the processes by their environment; tests below use it itself.
    trials.run("parts", TINY_RANKS, plants={"kill_at_step": 5}, plants_of=1)
    trials.finish("parts", TINY_RANKS, environment={"TORCHELASTIC_RESTART_COUNT": "1"})
    assert trials.state("parts") == trials.whole(TINY_RANKS)


@pytest.mark.test_all
@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_of_which_one_process_is_killed_ends_with_the_bits_of_one_that_was_not(
    trials: Trials, torchrun: Callable[[str, Variant], subprocess.Popen[str]], rank: int
) -> None:
    process, log = torchrun("parts", LONG), trials.folder / "torchrun.log"
    until((trials.folder / "parts" / "checkpoints" / "step-16").exists, process, log)
    victim = int((trials.folder / f"pid-{rank}").read_text())
    os.kill(victim, signal.SIGKILL)
    assert process.wait(MEETING_SECONDS) == 0, log.read_text()
    assert int((trials.folder / f"pid-{rank}").read_text()) != victim  # it was started again
    said = log.read_text()
    assert "resuming at step 16 of 32" in said
    assert trials.state("parts") == trials.whole(LONG)


@pytest.mark.test_all
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, "143"), (signal.SIGINT, "130")])
def test_a_signal_to_torchrun_saves_the_run_and_ends_every_process(
    trials: Trials, torchrun: Callable[[str, Variant], subprocess.Popen[str]], number: int, code: str
) -> None:
    process, log = torchrun("parts", LONG), trials.folder / "torchrun.log"
    until((trials.folder / "parts" / "checkpoints" / "step-16").exists, process, log)
    sent = time.time()
    process.send_signal(number)
    process.wait(PATIENCE_SECONDS)
    for rank in (0, 1):
        found, at = (trials.folder / f"code-{rank}").read_text().split()
        assert found == code, log.read_text()
        assert float(at) - sent < STOPPING_SECONDS
    assert record_of(trials.folder / "parts")["status"] == "interrupted"
    trials.finish("parts", LONG, resume=True)
    assert trials.state("parts") == trials.whole(LONG)


@pytest.mark.test_all
def test_several_seeds_are_trained_one_by_one_on_all_processes(
    trials: Trials, torchrun: Callable[..., subprocess.Popen[str]]
) -> None:
    process, log = torchrun("series", RANKS, "--seeds", "2"), trials.folder / "torchrun.log"
    assert process.wait(MEETING_SECONDS) == 0, log.read_text()
    document = json.loads((trials.folder / "series" / "seeds.json").read_text())
    assert (document["status"], document["seeds"]) == ("finished", [0, 1])
    assert trials.state("series/seed-0") == trials.whole(RANKS)


def test_what_the_first_rank_refuses_ends_all_with_its_words_and_its_exit_code(trials: Trials) -> None:
    wrong = Variant("wrong", {"epochs": 1.0}, {"model": "resnt20"}, num_ranks=2)
    children = trials.run("run", wrong)
    assert [child.code for child in children] == [2, 2]
    assert "unknown model 'resnt20' (nearest: resnet20" in children[0].said
    assert "lost the others" not in children[0].said + children[1].said
    (trials.folder / "full").mkdir()
    (trials.folder / "full" / "thesis.txt").touch()
    children = trials.run("full", RANKS)
    assert [child.code for child in children] == [2, 2]
    assert "lost the others" not in children[0].said + children[1].said


def test_what_another_rank_refuses_ends_all_with_its_words_and_its_exit_code(
    trials: Trials, tmp_path: Path
) -> None:
    # Data that one machine lacks.
    children, port = [], str(_free_port())
    for rank, data in enumerate((trials.data, tmp_path / "nowhere")):
        job = trials.job("run", replace(RANKS, data=str(data)))
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
        job["environment"] = {**place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        children.append(trials.runner.begin(job))
    assert trials.runner.wait(*children) == [3, 3], children[0].said
    assert "nowhere does not exist" in children[0].said
    assert not (trials.folder / "run").exists()
