"""A process that has trained once and forks a child for every job that a test asks for.

Importing torch takes seconds; a fork of a process that has done it takes milliseconds, and can be killed.
A job is a JSON object and arrives as one packet of a Unix socket, with the standard streams of its child; the
server tells the process id of every child that it has begun, and what ended with which code.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from unittest import mock

import torch
from PIL import Image

from deepresidual import cli
from deepresidual.cli import COMMANDS
from tests import cpu

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 90.0  # a busy machine is no defect; what must be quick is timed by its test

_PACKET_BYTES = 1 << 17
_FAILED = 70  # not one of Residual's exit codes


# -- the test's end ----------------------------------------------------------------------------------


@dataclass
class Child:
    """A forked process.

    Attributes:
        process: Its process id, which is its group's, too.
        log: The file with what it said, unless its job came with streams.
        code: Its exit code, negative for a signal; ``None`` while it runs.
    """

    process: int
    log: Path
    code: int | None = None

    @property
    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


class ForkServer:
    """Starts the process, and has it fork.

    Args:
        folder: Where logs are written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: dict[int, Child] = {}
        self._num_jobs = 0
        self._counted_seconds = 0.0
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, (folder / "server.log").open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "OMP_NUM_THREADS": "1"},  # its threads would not survive a fork
            )
        self.next_message(PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for child in self._children.values():
            if child.code is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.process, signal.SIGKILL)
        self._channel.close()
        self._process.wait(PATIENCE_SECONDS)
        cpu.count(-self._counted_seconds)  # now the system counts them, for the server has ended

    def begin(self, job: dict[str, Any], streams: Sequence[int] = ()) -> Child:
        """Fork a child that does a job.

        Args:
            job: Its ``act``, ``module:function``, is called with the job and returns the exit code.
            streams: Descriptors of its standard streams. Default: no input, and a log for both others.
        """
        self._num_jobs += 1
        log = self._folder / f"job-{self._num_jobs}.log"
        with Path(os.devnull).open() as nothing, log.open("a") as said:
            usual = (nothing.fileno(), said.fileno(), said.fileno())
            socket.send_fds(self._channel, [json.dumps(job).encode()], list(streams or usual))
        while "began" not in (message := self.next_message(PATIENCE_SECONDS)):
            pass
        child = Child(message["began"], log)
        self._children[child.process] = child
        return child

    def wait(self, *children: Child, seconds: float = PATIENCE_SECONDS) -> list[int]:
        """Return the exit codes of children."""
        until = time.monotonic() + seconds
        while any(child.code is None for child in children):
            left = until - time.monotonic()
            if left <= 0 or not self.next_message(left):
                said = "\n".join(child.said for child in children)
                raise TimeoutError(f"still running after {seconds:.0f} s:\n{said}")
        return [code for child in children if (code := child.code) is not None]

    def kill(self, *children: Child) -> None:
        """SIGKILL, to the processes alone and not to what they have started."""
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.process, signal.SIGKILL)
        self.wait(*children)

    def do(self, job: dict[str, Any]) -> Child:
        """Do a job to its end."""
        child = self.begin(job)
        self.wait(child)
        return child

    def next_message(self, seconds: float) -> dict[str, Any]:
        """Return the server's next message, after noting it; an empty one if none comes in time."""
        if not select.select([self._channel], [], [], seconds)[0]:
            return {}
        received = self._channel.recv(_PACKET_BYTES)
        assert received, (self._folder / "server.log").read_text()
        message: dict[str, Any] = json.loads(received)
        if seconds_used := message.get("cpu_seconds"):
            self._counted_seconds += seconds_used
            cpu.count(seconds_used)
        if "ended" in message and message["ended"] in self._children:
            self._children[message["ended"]].code = message["code"]
        return message


# -- the server's end --------------------------------------------------------------------------------


def main() -> None:
    """Fork for jobs until the test closes its end."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup would have it ignored
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest, which closes its end
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    _warm_up()
    gc.collect()
    gc.freeze()  # what no child writes to, none needs a copy of
    _say(channel, ready=os.getpid(), cpu_seconds=time.process_time())
    num_running = 0
    while True:
        if select.select([channel], [], [], 0.01 if num_running else None)[0]:
            received, streams, _, _ = socket.recv_fds(channel, _PACKET_BYTES, 3)
            if not received:
                return
            _say(channel, began=_fork(json.loads(received), streams))
            num_running += 1
            for descriptor in streams:
                os.close(descriptor)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.wait4(-1, os.WNOHANG))[0]:
                process, status, usage = ended
                code = os.waitstatus_to_exitcode(status)
                _say(channel, ended=process, code=code, cpu_seconds=_seconds(usage))
                num_running -= 1


def _warm_up() -> None:
    """Import and prepare what no child shall pay for: the commands, and what a first run loads."""
    for name in COMMANDS:
        importlib.import_module(f"deepresidual.cli.{name}")
    with tempfile.TemporaryDirectory() as folder, mock.patch("deepresidual.training.journal.write_report"):
        for place in (Path(folder, "data", part, name) for part in ("train", "val") for name in "ab"):
            place.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(place / "black.png")
        options = f"--model resnet20 --batch-size 2 --steps 1 --precision fp32 --workers 0 --out {folder}/run"
        cli.main(["train", f"{folder}/data", *options.split()])


def called(name: str) -> Callable[..., Any]:
    """Import the function called ``module:function``."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def _fork(job: dict[str, Any], streams: Sequence[int]) -> int:
    """Fork a child that does the job, and return its process id."""
    child = os.fork()
    if child:
        return child
    code = _FAILED
    try:
        os.setsid()  # a group of its own, as under torchrun
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.environ.update(job.get("environment", {}))
        code = called(job["act"])(job)
    except BaseException:  # noqa: BLE001  # the child ends here whatever happened, and the log says what
        import traceback

        traceback.print_exc()
    finally:
        # Not os._exit alone: what a run leaves to the end of its process belongs to the run.
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _say(channel: socket.socket, **message: Any) -> None:
    with contextlib.suppress(BrokenPipeError):  # the test has ended, and the next read says so
        channel.send(json.dumps(message).encode())


def _seconds(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
