"""Run trials one after the other in this process, or several at a time in a process each.

A small network on a CPU gains little from a second thread: two trials at a time, a core each, take about half
the time of two in turn on both cores. Every process gets its share of the cores and as many threads, which
decide a run's bits, so the same ``num_jobs`` on the same machine gives the same results.

No pool of workers: a trial needs a process of its own, which is asked to save and to end, has cores and a
log, and whose death is told with the name of the trial.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TypeAlias

import torch

from deepresidual.analysis.experiments.experiment import Measurement, Scale
from deepresidual.analysis.experiments.trial import Trial
from deepresidual.errors import ConfigurationError, ResidualError, RunError
from deepresidual.fields import is_whole
from deepresidual.runtime.console import note
from deepresidual.runtime.device import resolve_device
from deepresidual.runtime.files import make_folder, write_bytes
from deepresidual.runtime.printable import printable
from deepresidual.runtime.processes import usable_cores
from deepresidual.runtime.signals import StopRequest

Report: TypeAlias = "Callable[[Trial, Measurement], None]"

# Each holds its own torch and its own images: at `laptop` up to 1.0 GB was measured.
_MOST_USUAL_JOBS = 8
_MOST_JOBS = 64
_HEARD_WITHIN_S = 0.1
_NEWS_EVERY_S = 30.0


def usual_jobs(scale: Scale, device: str) -> int:
    """Return the default number of trials at a time: one a core, up to 8, at ``laptop`` on a CPU; else 1.

    At ``smoke`` a process takes longer to begin than to train; at ``paper`` a network fills a machine.
    """
    if scale != "laptop" or resolve_device(device).type != "cpu":
        return 1
    return min(usable_cores(), _MOST_USUAL_JOBS)


def check_jobs(num_jobs: int) -> None:
    """Check how many trials are to run at a time.

    Raises:
        ConfigurationError: It is not from 1 to 64.
    """
    if not is_whole(num_jobs, 1, _MOST_JOBS):
        raise ConfigurationError(f"jobs is {num_jobs}", expected=f"1 to {_MOST_JOBS}")


def share_of_cores(num_jobs: int) -> int:
    """Return how many cores, and threads, each of so many processes has."""
    return max(1, usable_cores() // num_jobs)


def complete_trials(trials: Sequence[Trial], num_jobs: int, stop: StopRequest, report: Report) -> int:
    """Train and measure what is missing of an experiment.

    Args:
        trials: All trials, in the order to begin them.
        num_jobs: Number of trials at a time; one alone runs in this process.
        stop: Hears signals.
        report: Called with each trial that is complete and what was measured of it; those that were complete
            before come first.

    Returns:
        0, or the exit code that a signal asks for.

    Raises:
        ResidualError: A trial failed; the others that were running have saved their state.
    """
    missing = [trial for trial in trials if not _reported(trial, report)]
    if num_jobs == 1:
        return _complete_in_turn(missing, stop, report)
    with tempfile.TemporaryDirectory(prefix="residual-") as folder:
        # In a file, not through multiprocessing's pipe: a process that is killed before it has read all of a
        # large message leaves its parent waiting for ever. The images are in it once.
        file = Path(folder) / "trials.pickle"
        write_bytes(file, pickle.dumps(missing))
        return _complete_at_once(missing, file, num_jobs, stop, report)


def _complete_in_turn(trials: Sequence[Trial], stop: StopRequest, report: Report) -> int:
    for trial in trials:
        if exit_code := stop.exit_code or trial.complete(stop):
            return exit_code
        _reported(trial, report)
    return stop.exit_code


def _reported(trial: Trial, report: Report) -> bool:
    """Report what was measured of a trial; return whether anything was."""
    measured = trial.measurement()
    if measured is not None:
        report(trial, measured)
    return measured is not None


# -- several at a time -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Job:
    """A trial that runs in its own process."""

    trial: Trial
    place: int
    process: SpawnProcess
    outcome: connection.Connection
    started: float

    def result(self) -> int:
        """Return the exit code of the process, which has ended, or raise what ended it."""
        self.process.join()
        with contextlib.suppress(EOFError, OSError):
            if self.outcome.poll():
                raise self.outcome.recv()
        code = self.process.exitcode or 0
        if code in (0, 130, 143):
            return code
        if -code in (signal.SIGTERM, getattr(signal, "SIGHUP", 0)):  # before the process could listen
            return 143
        ended = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise RunError(
            f"the process of {self.trial.label} {ended}",
            remedy=f"see {self.trial.log_path}, and go on with --resume"
            + (" and fewer --jobs if memory ran out" if code < 0 else ""),
        )


def _complete_at_once(
    trials: Sequence[Trial], file: Path, num_jobs: int, stop: StopRequest, report: Report
) -> int:
    """Complete the trials, which ``file`` holds as well, in up to ``num_jobs`` processes."""
    waiting, total, exit_code = deque(enumerate(trials)), len(trials), 0
    running: list[_Job] = []
    last_news = time.monotonic()
    try:
        while running or (waiting and not exit_code):
            while waiting and not exit_code and len(running) < num_jobs:
                place = min(set(range(num_jobs)) - {job.place for job in running})
                running.append(_begin(*waiting.popleft(), file, place, num_jobs))
            ready = connection.wait([job.process.sentinel for job in running], timeout=_HEARD_WITHIN_S)
            stopped_with = stop.exit_code
            for job in [job for job in running if job.process.sentinel in ready]:
                running.remove(job)
                stopped_with = job.result() or stopped_with  # a process can be sent a signal by itself
                if _reported(job.trial, report):
                    minutes, done = (time.monotonic() - job.started) / 60, total - len(waiting) - len(running)
                    note(f"{job.trial.label}: done in {minutes:.1f} min, {done} of {total}")
            if stopped_with and not exit_code:
                exit_code = stopped_with
                _ask_to_end(running)
            if time.monotonic() - last_news >= _NEWS_EVERY_S:
                last_news = time.monotonic()
                _tell_progress(running)
    except ResidualError:
        _ask_to_end(running)
        for job in running:
            job.process.join()
        raise
    finally:
        for job in running:  # an impatient person's second Ctrl-C
            job.process.kill()
            job.process.join()
    return exit_code


def _begin(number: int, trial: Trial, file: Path, place: int, num_jobs: int) -> _Job:
    """Start the process of a trial, the one of that number in ``file``."""
    make_folder(trial.log_path.parent)
    receiver, sender = multiprocessing.Pipe(duplex=False)
    cores = _cores(place, num_jobs)
    process = SpawnProcess(target=_run, args=(file, number, sender, cores, share_of_cores(num_jobs)))
    with _without_interrupts():
        process.start()
    sender.close()
    note(f"{trial.progress} begins; log in {trial.log_path}")
    return _Job(trial, place, process, receiver, time.monotonic())


def _ask_to_end(jobs: Sequence[_Job]) -> None:
    """Ask the processes to save and end."""
    for job in jobs:
        job.process.terminate()


def _tell_progress(jobs: Sequence[_Job]) -> None:
    """Print the last line of every log."""
    for job in jobs:
        line = _last_line(job.trial.log_path)
        if line and not line.startswith(job.trial.label):  # which says no more than that it began
            note(f"{job.trial.label}: {line}")


def _cores(place: int, num_jobs: int) -> list[int]:
    """Return the cores of one of so many processes; none where the system cannot tie a process to cores."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores, share = sorted(os.sched_getaffinity(0)), share_of_cores(num_jobs)
    return [cores[(place * share + number) % len(cores)] for number in range(share)]


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block Ctrl-C for a process that starts in the block, until the process can ignore it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _last_line(path: Path) -> str:
    """Return the last line of a log; empty: there is none yet."""
    try:
        with path.open("rb") as file:
            file.seek(-min(500, path.stat().st_size), os.SEEK_END)
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return printable(lines[-1]) if lines else ""


# -- in the process --------------------------------------------------------------------------------------


def _run(file: Path, number: int, outcome: connection.Connection, cores: list[int], threads: int) -> None:
    """Complete a trial in this process and leave with its exit code."""
    _listen_to_parent_alone()
    with file.open("rb") as stream:
        trial: Trial = pickle.load(stream)[number]  # noqa: S301  # the parent wrote it
    with trial.log_path.open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if cores:
        os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)
    try:
        with StopRequest() as stop:
            exit_code = trial.complete(stop)
    except ResidualError as error:
        outcome.send(error)
        exit_code = 1
    except Exception:  # noqa: BLE001  # for the log: the parent says where it lies
        traceback.print_exc()
        exit_code = 1
    sys.exit(exit_code)


def _listen_to_parent_alone() -> None:
    """Leave Ctrl-C to the parent, which passes it on as SIGTERM; take its death for that, too."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # forget what came until now
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.default_int_handler)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
