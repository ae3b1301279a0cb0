"""Freed memory is kept while it should be, and given back afterwards."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from residual.runtime.allocator import freed_memory_kept

# A process of its own, so that no memory lies free that others have left.
_PROGRAM = """
import os
from pathlib import Path
from residual.runtime.allocator import freed_memory_kept

def resident_after_a_block():
    block = bytearray(64 << 20)
    block[::4096] = b"x" * len(block[::4096])
    del block
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

before = resident_after_a_block()
with freed_memory_kept() as taken:
    during = resident_after_a_block()
print(int(taken), during - before, resident_after_a_block() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_memory_is_kept_and_then_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    taken, during, after = (int(word) for word in done.stdout.split())
    assert taken == 1
    assert during > 32
    assert after < 32


def test_not_wanted_means_not_done() -> None:
    with freed_memory_kept(enabled=False) as kept:
        assert not kept


def test_nothing_happens_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with freed_memory_kept() as kept:
        assert not kept
