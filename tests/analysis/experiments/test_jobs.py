"""Several runs at a time: the same figures, one Ctrl-C for all, and no run that fails unheard."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deepresidual.analysis.experiments import chosen_arms, experiment, usual_jobs
from deepresidual.analysis.experiments.estimate import ArmEstimate, elapsed_seconds
from deepresidual.analysis.experiments.experiment import FinishedRun, Measurement
from deepresidual.analysis.experiments.jobs import check_jobs, share_of_cores
from deepresidual.analysis.experiments.runner import _Session
from deepresidual.analysis.experiments.trial import Trial
from deepresidual.errors import ConfigurationError, DataError, ResidualError, RunError
from deepresidual.runtime.processes import usable_cores
from tests.analysis.experiments.test_runner import TOY, document, run

ONE_CORE_EACH = max(2, min(64, usable_cores()))  # as many threads as these tests have: the same bits


@pytest.mark.usefixtures("no_report")
def test_several_at_a_time_stop_and_go_on_to_the_same_figures(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deepresidual.analysis.experiments.jobs._NEWS_EVERY_S", 0.0)
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


def refuse(_run: FinishedRun) -> Measurement:
    raise DataError("no figures on Sundays", remedy="come on Monday")


def crash(_run: FinishedRun) -> Measurement:
    raise ZeroDivisionError("a mistake of the program")


def be_killed(_run: FinishedRun) -> Measurement:
    os.kill(os.getpid(), signal.SIGKILL)
    return Measurement()


@pytest.mark.parametrize(
    ("measure", "kind", "message"),
    [
        (refuse, DataError, "no figures on Sundays; come on Monday"),
        (crash, RunError, r"the process of resnet, seed 0 ended with exit code 1; see .*seed-0\.log"),
        (be_killed, RunError, r"resnet, seed 0 was killed by signal 9; .* and fewer --jobs"),
    ],
)
def test_a_run_that_fails_is_heard(
    measure: Callable[[FinishedRun], Measurement],
    kind: type[ResidualError],
    message: str,
    photos: Path,
    tmp_path: Path,
) -> None:
    toy = dataclasses.replace(TOY, measure=measure)
    with pytest.raises(kind, match=message):
        run(photos, tmp_path / "out", toy, num_jobs=2, arms=["resnet"], num_seeds=1)
    assert document(tmp_path / "out")["status"] == "running"
    assert (tmp_path / "out/arms/resnet/seed-0/run.json").is_file()
    if measure is crash:
        assert "a mistake of the program" in (tmp_path / "out/arms/resnet/seed-0.log").read_text("utf-8")


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
    monkeypatch.setattr("deepresidual.analysis.experiments.jobs.usable_cores", lambda: 6)
    assert usual_jobs("laptop", "cpu") == 6
    assert usual_jobs("smoke", "cpu") == usual_jobs("paper", "cpu") == 1
    assert [share_of_cores(num_jobs) for num_jobs in (1, 2, 4, 7)] == [6, 3, 1, 1]
    monkeypatch.setattr("deepresidual.analysis.experiments.jobs.usable_cores", lambda: 32)
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
