"""Guard standard output and standard error that are closed, full, or no longer read.

A service manager may start a command with its output closed, ``| head`` stops reading, a disk runs full. Then
messages are dropped, and results that cannot be written end the command.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["OutputLostError", "guard_streams"]


class OutputLostError(Exception):
    """Standard output cannot be written.

    Args:
        reason: What the system says.
    """

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def reader_has_gone(self) -> bool:
        """Whether the reader of the output has closed it (``| head``)."""
        return self.reason.errno == errno.EPIPE


def guard_streams() -> None:
    """Make ``sys.stdout`` and ``sys.stderr`` of this process safe to write to, whatever they are.

    A file name need not be UTF-8, nor need the terminal be: what the encoding lacks becomes an escape.
    """
    _occupy_descriptors()
    sys.stdout = _guarded(sys.stdout, _Output)
    sys.stderr = _guarded(sys.stderr, _Messages)


def _occupy_descriptors() -> None:
    # Else the first file that is opened takes the number of a closed stream, and is written over by messages.
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            os.set_inheritable(descriptor, True)


class _Output(io.FileIO):
    """Raises :class:`OutputLostError` at the first write that fails; drops what comes after it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._is_lost = False

    def write(self, data: ReadableBuffer, /) -> int:
        if self._is_lost:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except OSError as error:
            self._is_lost = True
            raise OutputLostError(error) from error


class _Messages(io.FileIO):
    """Drops what cannot be written."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _guarded(stream: TextIO | None, kind: type[_Output | _Messages]) -> TextIO:
    if stream is None:
        return open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")  # noqa: PTH123  # stays open
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    raw = getattr(stream.buffer, "raw", stream.buffer)
    if type(raw) is not io.FileIO:
        stream.reconfigure(errors="backslashreplace")  # a console of Windows, which takes all of Unicode
        return stream
    stream.flush()
    guarded = kind(raw.fileno())
    is_unbuffered = raw is stream.buffer  # python -u
    return io.TextIOWrapper(
        guarded if is_unbuffered else io.BufferedWriter(guarded),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
