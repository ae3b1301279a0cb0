"""Recognize the pointers that a clone without Git LFS holds in place of large files.

A pointer is a text of three lines, smaller than 1024 bytes
(https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md):

    version https://git-lfs.github.com/spec/v1
    oid sha256:4d7a2146…
    size 46830571
"""

from __future__ import annotations

from pathlib import Path

from deepresidual.errors import ResidualError

FOUND = "a Git LFS pointer instead of the file itself"
"""Says what a pointer is, to follow "… is "."""

REMEDY = "run 'git lfs pull' in its repository"

_MAX_POINTER_BYTES = 1024
# The current address and those of the first releases, which the specification still lists.
_STARTS = (
    b"version https://git-lfs.github.com/spec/",
    b"version https://hawser.github.com/spec/",
    b"version http://git-media.io/v/",
)


def is_pointer(content: bytes) -> bool:
    """Return whether ``content``, a file's bytes or the first 64 and more of them, is a Git LFS pointer."""
    return content.startswith(_STARTS)


def is_pointer_file(path: Path) -> bool:
    """Return whether the file at ``path`` is a Git LFS pointer; ``False`` where it cannot be read.

    Only regular files of a pointer's size are opened.
    """
    try:
        if not path.is_file() or path.stat().st_size > _MAX_POINTER_BYTES:
            return False
        with path.open("rb") as file:
            return is_pointer(file.read(_MAX_POINTER_BYTES))
    except (OSError, ValueError):
        return False


def refuse_pointer(path: Path, kind: type[ResidualError]) -> None:
    """Raise an error of class ``kind`` where the file at ``path`` is a Git LFS pointer."""
    if is_pointer_file(path):
        raise kind(f"{path} is {FOUND}", remedy=REMEDY)
