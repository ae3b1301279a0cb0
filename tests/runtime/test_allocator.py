"""Freed memory is kept or returned as it was asked, and returned in the end."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from deepresidual.runtime.memory import allocator_policy

_needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")

# A process of its own, so that no memory lies free that others have left.
_PROGRAM = """
import os, sys
from pathlib import Path
from deepresidual.runtime.memory import allocator_policy

def resident_after_blocks():
    # The second is there when the first is freed, so that the end of the heap is in use.
    block, other = touched(24 << 20), touched(16 << 20)
    del block
    return resident()

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

def touched(size):
    block = bytearray(size)
    block[::4096] = b"x" * len(block[::4096])
    return block

before = resident_after_blocks()
with allocator_policy(sys.argv[1]) as taken:
    during = resident_after_blocks()
print(int(taken), during - before, resident() - before)
"""


def _megabytes(policy: str) -> tuple[int, int]:
    """Return by how much more the process holds after a block is freed: under the policy, and after it."""
    command = [sys.executable, "-c", _PROGRAM, policy]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    taken, during, after = (int(word) for word in done.stdout.split())
    assert taken == 1
    return during, after


@_needs_glibc
def test_allocator_policy_is_kept_and_returned_in_the_end() -> None:
    during, after = _megabytes("kept")
    assert during > 12
    assert after < 12


@_needs_glibc
def test_allocator_policy_is_returned_at_once() -> None:
    during, after = _megabytes("returned")
    assert during < 12
    assert after < 12


def test_as_ever_touches_nothing() -> None:
    with allocator_policy("default") as taken:
        assert not taken


def test_nothing_happens_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with allocator_policy("kept") as taken:
        assert not taken
