"""Ctrl-C, SIGTERM and SIGUSR1 as a request to stop at the next safe point."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType, TracebackType

__all__ = ["StopRequest", "StopRequested"]

# SLURM announces the end of a job's time by SIGUSR1 where it is asked to (--signal=USR1@60).
_EXIT_CODES = {
    getattr(signal, name): code
    for name, code in (("SIGINT", 130), ("SIGTERM", 143), ("SIGUSR1", 143))
    if hasattr(signal, name)
}


class StopRequested(Exception):  # noqa: N818  # no error: somebody asked
    """Raised where a run can stop at once, with nothing half done."""


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

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _EXIT_CODES:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Within the block, which may wait for long, a signal raises :class:`StopRequested`."""
        self._may_raise = True
        try:
            if self.exit_code:
                raise StopRequested
            yield
        finally:
            self._may_raise = False

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.exit_code:
            # torchrun repeats SIGTERM; only an impatient person presses Ctrl-C twice.
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.exit_code = _EXIT_CODES[number]
        if self._may_raise:
            raise StopRequested
