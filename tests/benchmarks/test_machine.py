"""The benchmark of the machine from end to end on small sizes; times themselves are not tested."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deepresidual.benchmarks import machine
from deepresidual.benchmarks.machine import MACHINE_ROWS, MachineSizes, benchmark_machine
from deepresidual.benchmarks.measurement import median_interval
from deepresidual.errors import RunError

SMALL = MachineSizes(spin_batch=2, spin_steps=1, cifar_batch=2, imagenet_batch=1, imagenet_px=32)


def test_names_of_rows_are_distinct() -> None:
    assert len({row.name for row in MACHINE_ROWS}) == len(MACHINE_ROWS)


@pytest.mark.test_all  # starts four processes, each of which imports torch
def test_idle_threads_are_measured_in_processes_of_their_own() -> None:
    (row,) = benchmark_machine(rows=["spin-busy"], repetitions=6, sizes=SMALL).rows
    assert row.ratio is not None
    assert row.ratio.count == 6
    assert row.details["other_programs"] >= 1
    low, high = row.details["median_95"]
    assert row.ratio.lowest <= low <= row.ratio.median <= high <= row.ratio.highest


def test_both_precisions_are_measured_against_the_one_chosen() -> None:
    rows = benchmark_machine(
        rows=["auto-resnet20-fp32", "auto-resnet20-bf16"], repetitions=1, sizes=SMALL
    ).rows
    assert [row.name for row in rows] == ["auto-resnet20-fp32", "auto-resnet20-bf16"]
    for row in rows:
        assert row.ratio is not None
        assert row.ratio.count == row.details["pairs"] == 1
        assert row.details["auto"].startswith(("fp32 (", "bf16 ("))


def test_a_process_that_ends_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nread turn\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with (
        machine._process("1", SMALL) as turn,
        pytest.raises(RunError, match=r"^a process that computes has ended with exit code 3$"),
    ):
        turn()


def test_the_interval_of_a_median_goes_by_rank() -> None:
    assert median_interval([1.0, 2.0, 3.0, 4.0, 5.0]) is None
    assert median_interval([6.0, 1.0, 2.0, 3.0, 4.0, 5.0]) == (1.0, 6.0)
    # Of twenty values the sixth from either end (binomial, P(X ≤ 5) = 0.0207).
    assert median_interval([float(value) for value in range(1, 21)]) == (6.0, 15.0)
