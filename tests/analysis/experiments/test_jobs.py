"""Several runs at a time: the same figures, one Ctrl-C for all, and no run that fails unheard."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import cast

import pytest

from deepresidual.analysis.experiments import chosen_arms, experiment, jobs, usual_jobs
from deepresidual.analysis.experiments.estimate import ArmEstimate, elapsed_seconds
from deepresidual.analysis.experiments.experiment import Measurement
from deepresidual.analysis.experiments.jobs import check_jobs, complete_trials, share_of_cores
from deepresidual.analysis.experiments.runner import _Session
from deepresidual.analysis.experiments.trial import Trial
from deepresidual.errors import ConfigurationError, DataError, ResidualError, RunError
from deepresidual.runtime.processes import usable_cores
from deepresidual.runtime.signals import StopRequest
from tests.analysis.experiments.quick import ENDLESS, Quick, be_killed, be_terminated, crash, nothing, refuse
from tests.analysis.experiments.test_runner import document, run

ONE_CORE_EACH = max(2, min(64, usable_cores()))  # as many threads as these tests have: the same bits


class Forked(ForkProcess):
    """A copy of this process, which has torch already, with its streams at their usual places."""

    def run(self) -> None:
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not as the parent hears it
        super().run()
        sys.stderr.flush()


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork processes, which takes seconds less than to start them."""
    monkeypatch.setattr(jobs, "SpawnProcess", Forked)


@pytest.mark.usefixtures("no_report", "forked")
def test_several_at_a_time_stop_and_go_on_to_the_same_figures(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jobs, "_NEWS_EVERY_S", 0.0)
    whole = run(photos, tmp_path / "whole")
    take, done = _Session._add, []

    def stopping(self: _Session, trial: Trial, measured: Measurement) -> None:
        take(self, trial, measured)
        done.append(trial.label)
        if len(done) == 1:
            signal.raise_signal(signal.SIGINT)

    out = tmp_path / "apart/out"  # apart from the whole one, whose runs it would take over
    with monkeypatch.context() as patched:
        patched.setattr(_Session, "_add", stopping)
        stopped = run(photos, out, num_jobs=ONE_CORE_EACH)
    assert (stopped.exit_code, stopped.document["status"]) == (130, "interrupted")
    assert 1 <= len(done) <= 4
    finished = run(photos, out, num_jobs=ONE_CORE_EACH, resume=True)
    assert (finished.exit_code, finished.document["status"]) == (0, "finished")
    assert finished.document["arms"] == whole.document["arms"]
    assert [one["seed"] for one in finished.document["arms"][1]["runs"]] == [0, 1]
    told = capsys.readouterr().err
    assert "(2 of 2) begins; log in" in told
    assert "resnet, seed 1: done in" in told
    log = (out / "arms/resnet/seed-1.log").read_text("utf-8")
    assert "training" in log or "epoch" in log
    hardware = json.loads((out / "arms/resnet/seed-1/run.json").read_text("utf-8"))["hardware"]
    assert hardware["threads"] == 1


# -- processes, with what takes no time in place of training ---------------------------------------------


def complete(trials: list[Quick], num_jobs: int = 2) -> tuple[int, dict[str, Measurement]]:
    """Complete trials and return the exit code and what was reported of each."""
    found: dict[str, Measurement] = {}
    with StopRequest() as stop:
        code = complete_trials(
            cast("list[Trial]", trials),
            num_jobs,
            stop,
            lambda one, measured: found.update({one.label: measured}),
        )
    return code, found


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(
    ("act", "kind", "message"),
    [
        (refuse, DataError, "no figures on Sundays; come on Monday"),
        (crash, RunError, r"the process of quick, seed 0 ended with exit code 1; see .*seed-0\.log"),
        (be_killed, RunError, r"quick, seed 0 was killed by signal 9; .* and fewer --jobs"),
    ],
)
def test_a_run_that_fails_is_heard_and_the_others_end(
    act: Callable[[], None], kind: type[ResidualError], message: str, tmp_path: Path
) -> None:
    begin = time.monotonic()
    with pytest.raises(kind, match=message):
        complete([Quick(tmp_path, 0, act), Quick(tmp_path, ENDLESS, nothing)])
    assert time.monotonic() - begin < 60
    if act is crash:
        assert "a mistake of the program" in (tmp_path / "seed-0.log").read_text("utf-8")


@pytest.mark.usefixtures("forked")
def test_a_process_that_is_asked_to_end_ends_all(tmp_path: Path) -> None:
    code, found = complete([Quick(tmp_path, 0, be_terminated), Quick(tmp_path, ENDLESS, nothing)])
    assert (code, found) == (143, {})


def test_processes_start_anew_with_their_share_of_cores_and_threads(tmp_path: Path) -> None:
    """The one that takes seconds: a process that inherits nothing, as those of an experiment."""
    code, found = complete([Quick(tmp_path, 0, nothing)])
    share = share_of_cores(2)
    assert code == 0
    assert found["quick, seed 0"].metrics["threads"] == share
    if hasattr(os, "sched_getaffinity"):
        assert found["quick, seed 0"].metrics["cores"] == share


@pytest.mark.test_all
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left(number: signal.Signals, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "deepresidual", "reproduce", "degradation", "--scale", "smoke"]
    command += ["--jobs", "2", "--out", str(out), "--device", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as parent:
        deadline = time.monotonic() + 120
        while not list(out.glob("arms/*/*/run.json")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = [int(line) for line in _children(parent.pid)]
        assert len(children) >= 2
        # As a terminal does: to all in the foreground.
        os.killpg(parent.pid, number)
        told = parent.stderr.read().decode() if parent.stderr and number != signal.SIGKILL else ""
        assert parent.wait(60) == {signal.SIGINT: 130, signal.SIGTERM: 143}.get(number, -number)
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "Traceback" not in told
    again = subprocess.run([*command, "--resume"], capture_output=True, check=False, timeout=300)
    assert again.returncode == 0, again.stderr.decode()
    assert document(out)["status"] == "finished"


def _children(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text("utf-8").split()


def test_how_many_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "usable_cores", lambda: 6)
    assert usual_jobs("laptop", "cpu") == 6
    assert usual_jobs("smoke", "cpu") == usual_jobs("paper", "cpu") == 1
    assert [share_of_cores(num_jobs) for num_jobs in (1, 2, 4, 7)] == [6, 3, 1, 1]
    monkeypatch.setattr(jobs, "usable_cores", lambda: 32)
    assert usual_jobs("laptop", "cpu") == 8
    for num_jobs in (0, 65, True):
        with pytest.raises(ConfigurationError, match="expected 1 to 64"):
            check_jobs(num_jobs)


def test_time_in_all_is_an_equal_share_or_the_longest_run() -> None:
    short, long = chosen_arms(experiment("degradation"), "smoke", ["plain-8", "plain-14"], 2)
    rows = [ArmEstimate(short, 10, 8.0), ArmEstimate(long, 10, 20.0)]
    assert [elapsed_seconds(rows, num_jobs) for num_jobs in (1, 2, 4)] == [28, 14, 10]
    assert elapsed_seconds([*rows, ArmEstimate(long, None, None)], 2) is None
    assert elapsed_seconds([], 2) is None
