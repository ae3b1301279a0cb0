"""The peak of a process is its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from deepresidual.runtime.memory import peak_memory

CPU = torch.device("cpu")
# What a process of its own holds at most, with and without 200 MB more.
CODE = """
import sys, torch
from deepresidual.runtime.memory import peak_memory
more = torch.ones(int(sys.argv[1]), dtype=torch.uint8)
print(peak_memory(torch.device("cpu")))
"""


def of_a_process(num_bytes: int) -> int:
    command = [sys.executable, "-c", CODE, str(num_bytes)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells no peak of memory")
def test_the_peak_is_that_of_the_process_whatever_started_it() -> None:
    without = of_a_process(1)
    assert 190e6 < of_a_process(200_000_000) - without < 230e6
    large = torch.ones(
        2 * without, dtype=torch.uint8
    )  # more than the process takes that is started beside it
    assert peak_memory(CPU) > large.nbytes
    assert of_a_process(1) < 1.2 * without
