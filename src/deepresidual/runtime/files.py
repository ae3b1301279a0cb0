"""Writing files and folders so that a reader sees the old one or the new one, never half of one.

Everything is written beside its destination under a hidden temporary name, flushed to the disk, and
renamed. A crash leaves the old content and perhaps a ``.tmp`` that the next write replaces.

Network file systems and many of FUSE lack locks, permissions, or a way to flush a folder. What they lack is
said once a process, and the work goes on without it; a disk that is full or broken stays an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from deepresidual.errors import ConfigurationError, RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch

__all__ = [
    "CANNOT_LOCK",
    "LOCK_HELD",
    "FolderLock",
    "append_text",
    "atomic_file",
    "atomic_folder",
    "cannot_write",
    "expanded",
    "flush",
    "flush_folder",
    "make_folder",
    "put_back",
    "refuse_filled",
    "remove",
    "require_space",
    "sha256_of",
    "write_bytes",
    "write_json",
    "write_tensors",
    "write_text",
]

# Answers of a file system that does not have a call: NFS, SMB, exFAT, Lustre, VirtualBox, FUSE. A full disk
# (ENOSPC, EDQUOT) and a broken one (EIO) are not among them.
_LACKING = frozenset(
    (errno.EINVAL, errno.EBADF, errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY)
)
_CANNOT_FLUSH = _LACKING | {errno.EACCES, errno.EISDIR, errno.EROFS}
CANNOT_LOCK = _LACKING | {errno.ENOLCK, errno.EISDIR}
_CANNOT_CHANGE_MODE = _LACKING | {errno.EACCES}
# POSIX lets a system say either of a lock that another process holds.
LOCK_HELD = frozenset((errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES))

_SAID: set[str] = set()
"""What has been said in this process of file systems that lack something."""


def expanded(path: str | Path) -> Path:
    """Expand a leading ``~`` or ``~user``.

    A name of that very spelling that exists, or an unknown user, stays as it is.
    """
    path = Path(path)
    if not str(path).startswith("~") or path.exists():
        return path
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically and durably.

    Raises:
        RunError: The file cannot be written; the message says why and how much space is left.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            flush(file.fileno(), path)
        temporary.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise cannot_write(path, error, len(content)) from error


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write as long as it takes; when the block ends well, it takes the place of ``path``.

    An exception inside the block removes what was written and leaves ``path`` as it was.

    Raises:
        RunError: The file cannot be written; the message says why and how much space is left.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            flush(file.fileno(), path)
        temporary.replace(path)
        flush_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


def append_text(path: Path, text: str) -> None:
    """Add ``text`` to the end of ``path``; what has been added of it is taken away again where that fails.

    Raises:
        RunError: It cannot be written; the message says why and how much space is left.
    """
    content = text.encode("utf-8", "backslashreplace")
    before = 0
    try:
        before = path.stat().st_size if path.exists() else 0
        with path.open("ab") as file:
            file.write(content)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.truncate(path, before)
        raise cannot_write(path, error, len(content)) from error


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path`` atomically; see :func:`write_bytes`.

    File names need not be UTF-8; of those that are not, the odd bytes become escapes that JSON reads back.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, document: Any) -> None:
    """Write ``document`` as indented JSON to ``path`` atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256_of(*paths: Path) -> str:
    """Return the SHA-256 of one file, or of several after each other, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors as a safetensors file; for use within :func:`atomic_folder`.

    Raises:
        OSError: The file cannot be written; the folder's context manager says it to the user.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    on_host = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # The library's file is for its owner alone (0600); ours is for whom any new file of this user is.
    path.touch()
    permissions = stat.S_IMODE(path.stat().st_mode)
    try:
        save_file(on_host, path, metadata={"format": "pt"})
        _change_mode(path, permissions)
    except SafetensorError as error:
        # The library wraps the system's error into a text of its own, with the number in it.
        text = " ".join(str(error).split())
        number = re.search(r"os error (\d+)", text)
        code = int(number.group(1)) if number else errno.EIO
        raise OSError(code, os.strerror(code) if number else text) from error


def make_folder(path: Path) -> None:
    """Create ``path`` and its parents, and make sure that files can be written there.

    Raises:
        RunError: The folder cannot be created or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise cannot_write(path, error) from error


@contextlib.contextmanager
def atomic_folder(path: Path, *, num_bytes: int = 0) -> Iterator[Path]:
    """Yield an empty folder to fill; when the block ends well, it takes the place of ``path`` whole.

    An exception inside the block removes what was written and leaves ``path`` as it was.

    Args:
        path: The folder.
        num_bytes: What is going to be written, to be named where there is no room for it; 0: not known.

    Raises:
        RunError: Something cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    retired = _retired(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put_back(path)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        _sync(temporary)
        if not path.exists():
            temporary.rename(path)
        elif not _exchange(temporary, path):
            # A non-empty folder cannot be renamed over: the old one steps aside first, and a kill
            # between the two renames leaves it whole beside the new one.
            remove(retired)
            path.rename(retired)
            temporary.rename(path)
        flush_folder(path.parent)
        remove(retired)
        remove(temporary)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        # What could not be written within it is named as the folder, with all that was to go there.
        cause = error.__cause__ if isinstance(error, RunError) else error
        if isinstance(cause, OSError):
            raise cannot_write(path, cause, num_bytes) from cause
        raise


def refuse_filled(destination: Path) -> None:
    """Refuse to write a folder where there is something.

    Raises:
        ConfigurationError: The destination is a file, or a folder that is not empty.
    """
    if destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
        raise ConfigurationError(
            f"{destination} is not empty" if destination.is_dir() else f"{destination} is a file",
            expected="a new or an empty folder",
        )


def put_back(path: Path) -> None:
    """Give a folder its name back where a kill came between the two renames of :func:`atomic_folder`."""
    if not path.exists() and _retired(path).exists():
        _retired(path).rename(path)


def _retired(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def remove(path: Path) -> None:
    """Remove whatever is at ``path``; of a link the link, not what it leads to."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two folders in one system call where the system has it, and return whether it does."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False  # not Linux, or an old C library
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of <fcntl.h> and <linux/fs.h>
    return bool(rename(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0)


# -- what some file systems lack -------------------------------------------------------------------------


def flush(descriptor: int, path: Path) -> None:
    """Flush an open file or folder to the disk, where its file system can.

    Args:
        descriptor: The open file or folder.
        path: Its name, for the warning where it cannot.

    Raises:
        OSError: The disk is full or broken.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
        _say_lacking("flush", path, error)


def _sync(path: Path) -> None:
    """Flush a file or folder that is closed."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
        _say_lacking("flush", path, error)
        return
    try:
        flush(descriptor, path)
    finally:
        os.close(descriptor)


def flush_folder(path: Path) -> None:
    """Flush the names in a folder, where its file system can."""
    if os.name != "nt":  # Windows cannot open folders; there the rename alone has to do
        _sync(path)


def _change_mode(path: Path, permissions: int) -> None:
    try:
        path.chmod(permissions)
    except OSError as error:
        if error.errno not in _CANNOT_CHANGE_MODE:
            raise
        if stat.S_IMODE(path.stat().st_mode) != permissions:
            _say_lacking("mode", path, error)


class FolderLock:
    """Hold a folder for this process, until :meth:`release` or its death.

    The folder itself is locked; where its file system cannot (NFS locks only what is open for writing), a
    file ``.lock`` in it; where it has no locks at all, that is said once, and nothing is held.

    Args:
        folder: The folder, which exists.

    Raises:
        BlockingIOError: Another process holds it.
        RunError: It cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor: int | None = None
        try:
            import fcntl
        except ImportError:  # Windows
            return
        lacking: OSError | None = None
        for path, flags in ((folder, os.O_RDONLY), (folder / ".lock", os.O_RDWR | os.O_CREAT)):
            try:
                descriptor = os.open(path, flags, 0o666)
            except OSError as error:
                raise cannot_write(path, error) from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if error.errno in LOCK_HELD:
                    raise BlockingIOError(error.errno, error.strerror, str(folder)) from error
                if error.errno not in CANNOT_LOCK:
                    raise cannot_write(path, error) from error
                lacking = error
            else:
                self._descriptor = descriptor
                _LOCKS.add(descriptor)
                return
        if lacking is not None:
            (folder / ".lock").unlink(missing_ok=True)
            _say_lacking("lock", folder, lacking)

    def release(self) -> None:
        """Let other processes have the folder."""
        if self._descriptor in _LOCKS:
            _LOCKS.remove(self._descriptor)
            os.close(self._descriptor)
        self._descriptor = None


_LOCKS: set[int] = set()


def _release_in_child() -> None:
    """Let go of the locks that a fork has copied: a worker that outlives its killed run must not keep it."""
    while _LOCKS:
        os.close(_LOCKS.pop())


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks either
    os.register_at_fork(after_in_child=_release_in_child)


def _say_lacking(what: str, path: Path, error: OSError) -> None:
    """Warn once a process that the file system of ``path`` lacks something."""
    if what in _SAID:
        return
    _SAID.add(what)
    from deepresidual.runtime.console import warn

    reason = error.strerror or str(error)
    match what:
        case "flush":
            text = f"cannot flush {path} to the disk ({reason}); a power failure may cost the newest files"
        case "lock":
            text = f"has no locks ({path}: {reason}); see that no other process writes there"
        case _:
            text = f"cannot set permissions ({path}: {reason}); they are what it gives to every file"
    warn(f"the file system {text}")


def require_space(path: Path, num_bytes: int) -> None:
    """Refuse to begin with a file for which there is no room.

    Args:
        path: The file that is going to be written.
        num_bytes: What it needs.

    Raises:
        RunError: There is less than that.
    """
    folder = next((parent for parent in path.parents if parent.is_dir()), Path())
    with contextlib.suppress(OSError):  # not known: the disk itself will say
        if shutil.disk_usage(folder).free < num_bytes:
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise cannot_write(path, full, num_bytes) from full


def cannot_write(path: Path, error: OSError, num_bytes: int = 0) -> RunError:
    """Return the error for what the system answered to writing ``path``, with the space that is left."""
    reason = error.strerror or str(error)
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return RunError(f"cannot write {path} ({reason})", remedy="choose another folder")
    folder = next((parent for parent in (path, *path.parents) if parent.is_dir()), Path())
    try:
        free = shutil.disk_usage(folder).free
        space = f"{free:,} bytes are free there"
    except OSError:
        space = "the free space there is unknown"
    if num_bytes:
        space = f"it needs {num_bytes:,} bytes, {space}"
    return RunError(
        f"cannot write {path} ({reason}; {space})", remedy="choose another folder or free some space"
    )
