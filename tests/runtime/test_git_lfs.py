"""Git LFS pointers: recognized by their first line, in small regular files alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepresidual.errors import DataError
from deepresidual.runtime import git_lfs

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 46830571\n"


@pytest.mark.parametrize(
    ("content", "is_pointer"),
    [
        (POINTER, True),
        (POINTER.replace(b"git-lfs.github.com/spec/v1", b"hawser.github.com/spec/v1"), True),
        (POINTER.replace(b"https://git-lfs.github.com/spec/v1", b"http://git-media.io/v/2"), True),
        (b" " + POINTER, False),
        (b"version 1\n", False),
        (POINTER + bytes(2000), False),  # larger than the specification allows: something else
        (b"", False),
    ],
)
def test_a_pointer_is_known_by_its_first_line_and_size(
    tmp_path: Path, content: bytes, is_pointer: bool
) -> None:
    (tmp_path / "x").write_bytes(content)
    assert git_lfs.is_pointer_file(tmp_path / "x") is is_pointer


def test_what_cannot_be_read_is_no_pointer(tmp_path: Path) -> None:
    assert not git_lfs.is_pointer_file(tmp_path)
    assert not git_lfs.is_pointer_file(tmp_path / "nothing")
    assert not git_lfs.is_pointer_file(Path("a\0b"))


def test_a_pointer_is_refused_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(POINTER)
    with pytest.raises(
        DataError, match=r"x\.parquet is a Git LFS pointer instead of the file itself; run 'git lfs pull' in"
    ):
        git_lfs.refuse_pointer(tmp_path / "x.parquet", DataError)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    git_lfs.refuse_pointer(tmp_path / "x.parquet", DataError)
