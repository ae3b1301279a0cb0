"""Messages and progress, always on stderr.

In a terminal there is a live bar, in a notebook one output that changes; elsewhere, as in a pipe or a log of
continuous integration, a plain line every few seconds. Results go to stdout and are not of this module.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO, cast

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column

from deepresidual.runtime.duration import duration
from deepresidual.runtime.notebook import NotebookProgress, in_notebook
from deepresidual.runtime.printable import shortened, wrapped
from deepresidual.runtime.torchrun import speaks

_PLAIN_SECONDS = 10.0

_is_quiet: ContextVar[bool] = ContextVar("_is_quiet", default=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Say nothing within the block, for callers that report in another way."""
    token = _is_quiet.set(True)
    try:
        yield
    finally:
        _is_quiet.reset(token)


def stderr() -> Console:
    """Return a console on the current stderr; made anew so that redirection is respected."""
    if _is_quiet.get() or not speaks() or sys.stderr is None:
        return Console(file=io.StringIO(), highlight=False)
    # While there is a bar, rich stands in front of stderr.
    stream = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
    # A name such as a:bug:.jpg is no emoji.
    # In a notebook rich would make an output of every line.
    return Console(
        file=cast("TextIO", _Unheard(stream)),
        highlight=False,
        soft_wrap=True,
        emoji=False,
        force_jupyter=False,
    )


class _Unheard:
    """A stream whose output goes nowhere: its terminal is closed, its reader gone, its disk full.

    What is said while a run saves must not keep it from saving.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._unheard():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._unheard():
            self._stream.flush()

    @contextlib.contextmanager
    def _unheard(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EIO, errno.EPIPE):
                # Gone for good. What waits in the buffer would fail again when the process ends.
                with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
                    os.dup2(nowhere.fileno(), self._stream.fileno())


def leave_closed_terminal() -> None:
    """Let stdout and stderr lead nowhere where their terminal is closed; writing to them goes on."""
    try:
        import termios
    except ImportError:  # Windows
        return
    for descriptor in (1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            if error.args[0] == errno.EIO:  # else it is no terminal
                with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
                    os.dup2(nowhere.fileno(), descriptor)


def note(message: str) -> None:
    """Tell the user something on stderr."""
    console = stderr()
    console.print(escape(_fitted(console, shortened(message))))


def warn(message: str) -> None:
    """Warn the user on stderr."""
    console = stderr()
    text = _fitted(console, f"warning: {shortened(message)}")
    console.print(f"[yellow]warning:[/]{escape(text.removeprefix('warning:'))}")


def _fitted(console: Console, line: str) -> str:
    """Return a line broken between words where it is too wide for the terminal; elsewhere as it is."""
    return "\n".join(wrapped(line, console.width)) if console.is_terminal else line


def warn_each(subjects: Sequence[object], most: int = 8) -> None:
    """Warn of every subject by its ``str``; beyond ``most`` of them, say how many more there are."""
    for subject in subjects[:most]:
        warn(str(subject))
    if len(subjects) > most:
        warn(f"and {len(subjects) - most:,} more like these")


class ProgressBar:
    """Progress of a loop with a known number of steps.

    Args:
        total: Number of steps.
        done: Steps that are done already, when a run is resumed.
        label: First word of the bar.
    """

    def __init__(self, total: int, *, done: int = 0, label: str) -> None:
        self._console = stderr()
        self._notebook = NotebookProgress() if in_notebook() and speaks() else None
        # The stderr of a notebook's kernel says that it is a terminal.
        self._live = self._console.is_terminal and self._notebook is None
        self._total, self._done, self._label = total, done, label
        self._started, self._first, self._printed = time.monotonic(), done, time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=16, table_column=Column(no_wrap=True, min_width=16)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(compact=True, table_column=Column(no_wrap=True)),
            # The last and the only one that gives way where the terminal is narrow.
            TextColumn(
                "{task.fields[status]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
            ),
            expand=True,
            console=self._console,
            disable=not self._live,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bar.start()
        self._task = self._bar.add_task(
            escape(self._label), total=self._total, completed=self._done, status=""
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if self._notebook is not None:
            self._notebook.end()

    def before(self, label: str, done: int, total: int) -> None:
        """Show how far something is that comes before the steps; their time begins after it."""
        if self._notebook is not None:
            self._notebook.update(label, done, total, "")
        elif self._live and self._task is not None:
            self._bar.update(self._task, description=escape(label), completed=done, total=total, status="")
        elif time.monotonic() - self._printed > _PLAIN_SECONDS:
            self._printed = time.monotonic()
            self.line(f"{label} {done:,}/{total:,}")
        self._started = time.monotonic()

    def update(self, done: int, status: str) -> None:
        """Show that ``done`` steps are done, with ``status`` behind the bar."""
        self._done = done
        if self._notebook is not None:
            self._notebook.update(self._label, done, self._total, self._told(status))
        elif self._live and self._task is not None:
            self._bar.update(
                self._task,
                description=escape(self._label),
                completed=done,
                total=self._total,
                status=escape(status),
            )
        elif time.monotonic() - self._printed > _PLAIN_SECONDS:
            self._printed = time.monotonic()
            self.line(f"{self._label} {done}/{self._total} {self._told(status)}".rstrip())

    def line(self, message: str) -> None:
        """Print a line above the bar that stays."""
        if self._notebook is not None:
            self._notebook.line(shortened(message))
        else:
            self._bar.console.print(escape(_fitted(self._console, shortened(message))))

    def seconds_left(self) -> float | None:
        """Return the time that the other steps will take; ``None``: not known yet."""
        steps = self._done - self._first
        if steps <= 0:
            return None
        return (time.monotonic() - self._started) / steps * (self._total - self._done)

    def _told(self, status: str) -> str:
        """Return the status and the time left, as far as there are such."""
        seconds = self.seconds_left()
        left = "" if seconds is None else f"{duration(seconds)} left"
        return ", ".join(part for part in (status, left) if part)
