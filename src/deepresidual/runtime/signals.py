"""Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 as a request to stop at the next safe point."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Self

from deepresidual.errors import ResidualError
from deepresidual.runtime.console import leave_closed_terminal, stderr

# SLURM announces the end of a job's time by SIGUSR1 where it is asked to (--signal=USR1@60). A terminal that
# is closed, or a connection that is lost, sends SIGHUP.
_EXIT_CODES = {
    getattr(signal, name): code
    for name, code in (("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 143), ("SIGUSR1", 143))
    if hasattr(signal, name)
}


# Python hears a signal between two of its own instructions; a backward pass is one of them, and on a CPU it
# can take a minute. So long a stop waits for the usual way; what then remains of ten seconds is for saving.
_PATIENCE_SECONDS = 4.0


class StopRequested(BaseException):  # no error: a signal asked
    """Raised where a run or an evaluation can stop, with nothing half done.

    As ``KeyboardInterrupt`` it is no ``Exception``: it can come in the middle of a decoder, whose errors are
    caught and taken for a damaged file.

    Args:
        exit_code: The exit code that the signal asks for.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def _is_kept_ignored(number: int) -> bool:
    """Return whether a signal stays ignored: under nohup a run outlives its terminal."""
    return number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) is signal.SIG_IGN


class StopRequest:
    """While active, the signals are noted rather than obeyed; a second one stops at once.

    Outside the main thread Python cannot receive signals; there it is inactive.

    Example:
        >>> with StopRequest() as stop:
        ...     while not stop.exit_code:
        ...         break
    """

    def __init__(self) -> None:
        self.exit_code = 0
        """0, or the exit code that the received signal asks for: 130 for SIGINT, 143 for the others."""
        self._previous: dict[int, object] = {}
        self._may_raise = False
        self._save: Callable[[], bool] | None = None
        self._saving = threading.Lock()
        self._told: socket.socket | None = None
        self._previous_told = -1

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _EXIT_CODES:
                if _is_kept_ignored(number):
                    continue
                self._previous[number] = signal.signal(number, self._note)
            told, self._told = socket.socketpair()
            self._told.setblocking(False)
            self._previous_told = signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(told,), name="stop", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._told is not None:
            signal.set_wakeup_fd(self._previous_told)
            self._told.close()  # which ends the watching
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block, which may wait for long, a signal raises :class:`StopRequested`."""
        before, self._may_raise = self._may_raise, True
        try:
            if self.exit_code:
                raise StopRequested(self.exit_code)
            yield
        finally:
            self._may_raise = before

    @contextlib.contextmanager
    def or_else(self, save: Callable[[], bool]) -> Iterator[None]:
        """If the block ignores a signal for 4 s, call ``save`` from a watcher thread and exit.

        Args:
            save: Returns whether it could save; if so, the process exits at once. It may read what the block
                does not write.
        """
        self._save = save
        try:
            yield
        finally:
            with self._saving:  # never left where a save has begun
                self._save = None

    def _watch(self, told: socket.socket) -> None:
        """Wait for a signal, then for the main thread to deal with it, and else save and end the process."""
        with told:
            while number := told.recv(1):
                if number[0] not in _EXIT_CODES:
                    continue
                time.sleep(_PATIENCE_SECONDS)
                with self._saving, contextlib.suppress(ResidualError):  # the main thread will meet it, too
                    if self._save is not None and self._save():
                        stderr().show_cursor()
                        os._exit(_EXIT_CODES[number[0]])

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.exit_code:
            # torchrun repeats SIGTERM; only an impatient person presses Ctrl-C twice.
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.exit_code = _EXIT_CODES[number]
        if number == getattr(signal, "SIGHUP", None):
            leave_closed_terminal()
        if self._may_raise:
            raise StopRequested(self.exit_code)
