"""Writing files and folders so that a reader sees the old one or the new one, never half of one.

Everything is written beside its destination under a hidden temporary name, flushed to the disk, and
renamed. A crash leaves the old content and perhaps a ``.tmp`` that the next write replaces.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from residual.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch

__all__ = [
    "append_text",
    "atomic_file",
    "atomic_folder",
    "expanded",
    "make_folder",
    "put_back",
    "remove",
    "write_bytes",
    "write_json",
    "write_tensors",
    "write_text",
]


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
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise _cannot_write(path, error, len(content)) from error


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
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _cannot_write(path, error) from error
        raise


def append_text(path: Path, text: str) -> None:
    """Add ``text`` to the end of ``path``; what has been added of it is taken away again where that fails.

    Raises:
        RunError: It cannot be written; the message says why and how much space is left.
    """
    content = text.encode("utf-8", "backslashreplace")
    before = path.stat().st_size if path.exists() else 0
    try:
        with path.open("ab") as file:
            file.write(content)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.truncate(path, before)
        raise _cannot_write(path, error, len(content)) from error


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path`` atomically; see :func:`write_bytes`.

    File names need not be UTF-8; of those that are not, the odd bytes become escapes that JSON reads back.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, document: Any) -> None:
    """Write ``document`` as indented JSON to ``path`` atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


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
        path.chmod(permissions)
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
        raise _cannot_write(path, error) from error


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
        _sync_folder(path.parent)
        remove(retired)
        remove(temporary)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        # What could not be written within it is named as the folder, with all that was to go there.
        cause = error.__cause__ if isinstance(error, RunError) else error
        if isinstance(cause, OSError):
            raise _cannot_write(path, cause, num_bytes) from cause
        raise


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


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    # Windows cannot open folders; there the rename alone has to do.
    with contextlib.suppress(PermissionError):
        _sync(path)


def _cannot_write(path: Path, error: OSError, num_bytes: int = 0) -> RunError:
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
