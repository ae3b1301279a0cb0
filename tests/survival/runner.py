"""A process that has imported torch, and forks a child for every run that a test asks for.

Importing torch takes seconds; a fork of a process that has done it takes milliseconds, and can be killed.
Reads a job a line from stdin, as JSON, and says a line on stdout when it has begun one and when one ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import select
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from deepresidual.data.source import SampleSource, open_source
from deepresidual.errors import ResidualError
from deepresidual.runtime.console import stderr
from deepresidual.training import launch
from deepresidual.training.journal import Journal
from deepresidual.training.launch import train
from tests.survival import plants, system_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deepresidual.data.source import EncodedSample, Split


class WithoutReport(Journal):
    """A journal that writes no report."""

    def end(self) -> None:
        """Write nothing."""


class Obstructed:
    """A split that from one of its reads on blocks for a minute each, or sends its process a signal once.

    Args:
        split: The split.
        read: At which read, counted from 1.
        marker: A file that tells the test that it has come to that.
        number: The signal; 0 blocks.
    """

    def __init__(self, split: Split, read: int, marker: Path, number: int) -> None:
        self._split, self._at, self._marker, self._number = split, read, marker, number
        self._num_reads = 0

    @property
    def labels(self) -> list[int]:
        return self._split.labels

    def __len__(self) -> int:
        return len(self._split)

    def key(self, index: int) -> str:
        return self._split.key(index)

    def rows(self) -> Iterator[tuple[str, int, int]]:
        yield from self._split.rows()

    def read(self, index: int) -> EncodedSample:
        self._num_reads += 1
        if self._num_reads == self._at:
            self._marker.touch()
            if self._number:
                os.kill(os.getpid(), self._number)
        if self._num_reads >= self._at and not self._number:
            time.sleep(60)
        return self._split.read(index)


def run(job: dict[str, Any]) -> int:
    """Train as ``residual train`` would, and return its exit code."""
    source: SampleSource | str = job["data"]
    if "obstruct" in job:
        opened = open_source(job["data"])
        obstacle = job["obstruct"]
        split = Obstructed(
            opened.split(obstacle["split"]), obstacle["read"], Path(obstacle["marker"]), obstacle["signal"]
        )
        source = dataclasses.replace(opened, splits={**opened.splits, obstacle["split"]: split})
    plants.plant(job.get("plants", {}), Path(job["out"]))
    try:
        return train(source, out=job["out"], changes=job["changes"], **job["options"]).exit_code
    except ResidualError as error:
        stderr().print(f"error: {error}", markup=False)
        return error.exit_code


KINDS: dict[str, Callable[[dict[str, Any]], int]] = {
    "train": run,
    "kill-saves": system_calls.kill_saves,
    "kill-replacements": system_calls.kill_replacements,
}


def begin(job: dict[str, Any]) -> int:
    """Fork a child that does the job, and return its process id."""
    child = os.fork()
    if child:
        return child
    code = 70  # not one of Residual's
    try:
        os.setsid()  # a group of its own, as under torchrun
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(job.get("environment", {}))
        code = KINDS[job["kind"]](job)
    except BaseException:  # noqa: BLE001  # the child ends here whatever happened, and the log says what
        import traceback

        traceback.print_exc()
    finally:
        # Not os._exit alone: what a run leaves to the end of its process belongs to the run.
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def say(document: dict[str, Any]) -> None:
    """Tell the test."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def warm_up() -> None:
    """Train a little, so that no child pays for what is imported and prepared by a first run."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stderr(nowhere),
    ):
        train("digits", "resnet20", f"{folder}/run", changes={"steps": 1}, image_px=8, num_workers=0)
    gc.collect()
    gc.freeze()  # what no child writes to, none needs a copy of


def main() -> None:
    """Serve until stdin is closed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup would have it ignored
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which closes our stdin
    # The report takes most of the time of a run this small, and is made from the other files alone.
    setattr(launch, "Journal", WithoutReport)  # noqa: B010  # mypy takes it for another class
    warm_up()
    say({"ready": os.getpid()})
    pending = b""
    while True:
        if select.select([0], [], [], 0.01)[0]:
            received = os.read(0, 1 << 20)
            if not received:
                return
            pending += received
            *lines, pending = pending.split(b"\n")
            for line in lines:
                say({"began": begin(json.loads(line))})
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                say({"ended": ended[0], "code": os.waitstatus_to_exitcode(ended[1])})


if __name__ == "__main__":
    main()
