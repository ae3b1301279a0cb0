"""What an installation without a checkout measures of itself; speeds are not tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepresidual.benchmarks import measurement, peers
from deepresidual.benchmarks.data import benchmark_data
from deepresidual.benchmarks.train import Sizes, benchmark_training
from deepresidual.cli import main
from tests.benchmarks.test_train import SMALLEST


def test_an_update_is_measured_alone() -> None:
    (row,) = benchmark_training(rows=["cpu"], repetitions=1, sizes=SMALLEST).rows
    assert (row.name, row.against, row.target, row.is_met) == ("cpu", "", None, None)
    assert row.ours
    assert row.reason == "measured alone"


@pytest.mark.test_all  # starts a process that trains
def test_memory_is_measured_alone() -> None:
    (row,) = benchmark_training(rows=["memory-checkpointed"], repetitions=1, sizes=SMALLEST).rows
    assert row.ours
    assert row.ours > row.details["before"]


def test_an_epoch_without_photos_is_unmeasured(photos: Path) -> None:
    (row,) = benchmark_training(photos, rows=["epoch"], repetitions=1, sizes=SMALLEST).rows
    assert row.ours
    (row,) = benchmark_training(rows=["epoch"], sizes=Sizes()).rows
    assert row.reason.startswith("unmeasured: no folder of photos was named")


def test_photos_are_decoded_and_loaded_alone(photos: Path) -> None:
    rows = benchmark_data(photos, repetitions=1, image_px=32).rows
    assert [(row.name, row.reason) for row in rows] == [
        ("decode", "measured alone"),
        ("loader", "measured alone"),
    ]
    assert all(row.ours for row in rows)


def test_an_installed_package_says_that_it_is_measured_alone(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peers, "checkout", lambda: None)
    assert main(["benchmark", "data", str(photos), "--rows", "decode", "--repetitions", "1", "--json"]) == 0
    output = capsys.readouterr()
    assert "this installation is measured alone" in output.err
    (row,) = json.loads(output.out)["rows"]
    assert row["target"] is None
    assert main(["benchmark", "data", str(photos), "--rows", "decode", "--repetitions", "1"]) == 0
    assert "images/s, measured alone" in capsys.readouterr().out


def test_a_checkout_has_peers() -> None:
    root = measurement.checkout()
    assert root is not None
    module = peers._peers("data")
    assert Path(module.__file__) == root / "benchmarks" / "data.py"
