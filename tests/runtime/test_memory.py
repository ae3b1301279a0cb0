"""The peak of a process is its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from deepresidual.runtime.memory import peak_memory

CPU = torch.device("cpu")
# What a process of its own holds at most, and after it held 200 MB more. Without torch, which takes seconds.
CODE = """
from types import SimpleNamespace
from deepresidual.runtime.memory import peak_memory
without = peak_memory(SimpleNamespace(type="cpu"))
more = b"x" * 200_000_000
del more
print(without, peak_memory(SimpleNamespace(type="cpu")))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells no peak of memory")
def test_the_peak_is_that_of_the_process_whatever_started_it() -> None:
    large = torch.ones(
        500_000_000, dtype=torch.uint8
    )  # more than the process takes that is started beside it
    assert peak_memory(CPU) > large.nbytes
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    without, at_most = (int(word) for word in done.stdout.split())
    assert without < 200e6
    assert 180e6 < at_most - without < 230e6
