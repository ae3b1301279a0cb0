"""What a whole command takes, measured beside a large process; seconds themselves are not tested."""

from __future__ import annotations

import sys

import pytest

from deepresidual.benchmarks.commands import cost_of
from deepresidual.errors import RunError

_CHILD = "import sys; bytearray(int(sys.argv[1]))"


def test_the_memory_of_a_command_is_its_own_and_its_childrens_not_ours() -> None:
    ours = bytearray(300_000_000)
    ours[::4096] = b"x" * len(ours[::4096])
    small = cost_of([sys.executable, "-c", _CHILD, "1"])
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_CHILD!r}, '200000000'])"
    large = cost_of([sys.executable, "-c", nested])
    assert small.peak_bytes < 100_000_000
    assert large.peak_bytes > small.peak_bytes + 150_000_000
    assert small.cpu_s > 0
    assert small.wall_s > 0


def test_a_command_that_fails_says_so_with_its_last_words() -> None:
    program = "import sys; sys.stderr.write('first\\nno such photo\\n'); sys.exit(3)"
    with pytest.raises(RunError, match=r"failed with exit code 3 \(no such photo\)"):
        cost_of([sys.executable, "-c", program])


def test_our_setting_of_idle_threads_is_not_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "2000")
    monkeypatch.setenv("RESIDUAL_SPINCOUNT", "2000")
    program = "import os, sys; sys.exit('GOMP_SPINCOUNT' in os.environ or os.environ['GIVEN'] != 'x')"
    cost_of([sys.executable, "-c", program], {"GIVEN": "x"})
