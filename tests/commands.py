"""``residual …`` as a process of its own, forked from one that has imported the command line and torch.

What a start of Python itself may get wrong (unbuffered streams, ``-m``, the end of the interpreter) a forked
process does not show.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from deepresidual.cli import entry_point
from tests.fork_server import Child, ForkServer, called

CLOSED = -1
"""As a stream: the process has none."""


@dataclass(frozen=True)
class Done:
    """A command that has ended.

    Attributes:
        code: Its exit code.
        out: What it wrote to stdout, unless that was given.
        err: Likewise.
    """

    code: int
    out: str
    err: str


class Commands:
    """Runs commands in processes of their own."""

    def __init__(self, server: ForkServer) -> None:
        self._server = server

    def begin(
        self, *words: str, stdout: int, stderr: int, stdin: int | None = None, plant: str = ""
    ) -> Child:
        """Begin a command in the folder and the environment of this process.

        Args:
            words: Command and options.
            stdout: Descriptor, or ``CLOSED``.
            stderr: Likewise.
            stdin: Likewise. Default: no input.
            plant: Name of a function, ``module:name``, that the process calls first.
        """
        with Path(os.devnull).open("r+") as nothing:
            wanted = [nothing.fileno() if stdin is None else stdin, stdout, stderr]
            job = {
                "act": "tests.commands:act",
                "words": words,
                "folder": str(Path.cwd()),
                "variables": dict(os.environ),
                "closed": [number for number, stream in enumerate(wanted) if stream == CLOSED],
                "plant": plant,
            }
            streams = [nothing.fileno() if stream == CLOSED else stream for stream in wanted]
            return self._server.begin(job, streams)

    def run(
        self,
        *words: str,
        stdout: int | None = None,
        stderr: int | None = None,
        stdin: int | None = None,
        plant: str = "",
    ) -> Done:
        """Run a command to its end; what streams are not given is returned."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = self.begin(
                *words,
                stdin=stdin,
                stdout=out.fileno() if stdout is None else stdout,
                stderr=err.fileno() if stderr is None else stderr,
                plant=plant,
            )
            (code,) = self._server.wait(child)
            out.seek(0)
            err.seek(0)
            return Done(code, out.read().decode(), err.read().decode())

    def wait(self, child: Child) -> int:
        """Return the exit code of a command that was begun."""
        return self._server.wait(child)[0]


def act(job: dict[str, Any]) -> int:
    """Do in a forked process what Python does at its start, then run the command line."""
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["variables"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in job["closed"]:
        os.close(number)
    sys.stdin, sys.stdout, sys.stderr = (_opened(number) for number in range(3))
    sys.argv = ["residual", *job["words"]]
    if job["plant"]:
        called(job["plant"])()
    try:
        entry_point()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError:
            return 120  # as Python's own end
    return code


def _opened(number: int) -> TextIO | None:
    """Open a standard stream as Python does at its start."""
    try:
        os.fstat(number)
    except OSError:
        return None
    errors = "backslashreplace" if number == 2 else "strict"
    return open(number, "w" if number else "r", encoding="utf-8", errors=errors, closefd=False)
