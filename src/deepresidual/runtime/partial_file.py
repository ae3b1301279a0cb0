"""A file that arrives over several lives of a process: kept when one is killed, continued by the next.

While it is written it has a name of its own, is locked, and has beside it a note by which its source can tell
whether the rest still belongs to it. Where a file system has no locks, nobody could tell whether two write at
once; there each process writes a file of its own, and none is continued.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from deepresidual.runtime.files import CANNOT_LOCK, LOCK_HELD, cannot_write, flush

_LOOK_SECONDS = 0.1
_MAX_NOTE_BYTES = 4096
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)  # Windows changes line ends else


class PartialFile:
    """The file while it is written, as a context manager; locked until the block ends.

    An exception leaves what has been written, for the next process, if the file system has locks. A process
    that comes second waits, and finds :attr:`is_there` where the first has finished.

    Args:
        path: Where the file will be when it is whole.
        partial: Where it is until then, on the same file system.
        on_wait: Called once where another process is writing it.

    Raises:
        RunError: It cannot be written there.
    """

    def __init__(self, path: Path, partial: Path, on_wait: Callable[[], None] | None = None) -> None:
        self.path = path
        self.is_there = False
        """Whether ``path`` exists, so that nothing is left to do."""
        self.size = 0
        """Bytes that are written."""
        self._partial, self._on_wait = partial, on_wait
        self._descriptor = -1
        self._is_shared = True  # with later processes

    def __enter__(self) -> Self:
        try:
            self._partial.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_open = self._descriptor >= 0
        self._close()
        if is_open and not self._is_shared:
            self._partial.unlink(missing_ok=True)

    @property
    def is_kept(self) -> bool:
        """Whether what is written stays for the next process where this one fails."""
        return self._is_shared

    @property
    def note(self) -> str:
        """What was last noted; empty where nothing was, or nothing of the file has been written."""
        with contextlib.suppress(OSError, ValueError):
            content = self._note_path.read_bytes()
            if self.size and len(content) <= _MAX_NOTE_BYTES:
                return content.decode()
        return ""

    @note.setter
    def note(self, text: str) -> None:
        with contextlib.suppress(OSError):  # without it the next process begins anew
            if text:
                self._note_path.write_text(text)
            else:
                self._note_path.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        """Append ``content``.

        Raises:
            RunError: The disk is full, or broken; what was written is removed where it is full.
        """
        view = memoryview(content)
        try:
            while view:
                written = os.write(self._descriptor, view)
                self.size += written
                view = view[written:]
        except OSError as error:
            # Whatever else writes on a full disk needs the room more than a part of a file does.
            self.discard()
            raise cannot_write(self.path, error) from error

    def clear(self) -> None:
        """Begin anew."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self.size, self.note = 0, ""

    def discard(self) -> None:
        """Remove what has been written; nothing more can be."""
        self.note = ""
        if not self._is_shared:
            self._close()
        self._partial.unlink(missing_ok=True)
        self._close()

    def read_path(self) -> Path:
        """Return where its content can be read while it is written."""
        return self._partial

    def finish(self) -> None:
        """Give the file its name, for good.

        Raises:
            RunError: The disk is full or broken.
        """
        try:
            flush(self._descriptor, self._partial)
            self.note = ""
            if not self._is_shared:
                self._close()  # Windows does not rename what is open
            self._partial.replace(self.path)
        except OSError as error:
            raise cannot_write(self.path, error, self.size) from error
        self.is_there = True
        self._close()

    # -- one at a time -----------------------------------------------------------------------------------

    @property
    def _note_path(self) -> Path:
        return self._partial.with_name(f"{self._partial.name}.note")

    def _open(self) -> None:
        has_waited = False
        while True:
            descriptor = os.open(self._partial, _FLAGS, 0o666)
            try:
                is_locked = _lock(descriptor)
            except BlockingIOError:
                os.close(descriptor)
                if not has_waited and self._on_wait is not None:
                    self._on_wait()
                has_waited = True
                time.sleep(_LOOK_SECONDS)
                continue
            except OSError:
                os.close(descriptor)
                raise
            if not is_locked:
                os.close(descriptor)
                self._open_own()
                return
            self._descriptor = descriptor
            if not _is_at(descriptor, self._partial):
                self._close()  # the one that held it has moved or removed it
                continue
            if self.path.exists():
                self.is_there = True
                self.discard()
                return
            self.size = os.lseek(descriptor, 0, os.SEEK_END)
            return

    def _open_own(self) -> None:
        """Open a file of this process alone."""
        self._is_shared = False
        with contextlib.suppress(OSError):
            self._partial.unlink()
        self._partial = self._partial.with_name(f"{uuid.uuid4().hex[:8]}-{self._partial.name}")
        if self.path.exists():
            self.is_there = True
            return
        self._descriptor = os.open(self._partial, _FLAGS | os.O_EXCL, 0o666)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether the open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; return whether its file system has locks.

    Raises:
        BlockingIOError: Another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in LOCK_HELD:
            raise BlockingIOError(error.errno, error.strerror) from error
        if error.errno not in CANNOT_LOCK:
            raise
        return False
    return True
