"""Freed memory is kept while it should be, and given back afterwards."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from residual.runtime.allocator import freed_memory_kept

_GLIBC = platform.libc_ver()[0] == "glibc"
_BLOCK = 64 << 20


def _resident_after_a_block() -> int:
    """Allocate, touch and free 64 MiB, and return the bytes that the process holds then."""
    block = bytearray(_BLOCK)
    block[::4096] = b"x" * len(block[::4096])
    del block
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not _GLIBC, reason="only glibc has mallopt")
def test_freed_memory_is_kept_and_then_given_back() -> None:
    before = _resident_after_a_block()
    with freed_memory_kept() as taken:
        assert taken
        assert _resident_after_a_block() - before > _BLOCK // 2
    assert _resident_after_a_block() - before < _BLOCK // 2


def test_not_wanted_means_not_done() -> None:
    with freed_memory_kept(enabled=False) as kept:
        assert not kept


def test_nothing_happens_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with freed_memory_kept() as kept:
        assert not kept
