"""Ctrl-C and SIGTERM as a request to stop at the next safe point."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ["StopRequest"]


class StopRequest:
    """While active, SIGINT and SIGTERM are noted rather than obeyed; a second one stops at once.

    Outside the main thread Python cannot receive signals; there it is inactive.

    Example:
        >>> with StopRequest() as stop:
        ...     while not stop.exit_code:
        ...         break
    """

    def __init__(self) -> None:
        self.exit_code = 0
        """0, or the exit code that the received signal asks for: 130 for SIGINT, 143 for SIGTERM."""
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.exit_code:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self.exit_code = 128 + number
