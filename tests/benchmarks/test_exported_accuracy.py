"""The accuracy of exported models: what is counted, and every side on a few images."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import exported_accuracy
from benchmarks.exported_accuracy import measured
from deepresidual.benchmarks.tables import accuracy_table
from deepresidual.models import load


def test_sides_are_held_against_pytorch_on_the_same_images() -> None:
    labels = np.array([0, 1, 2, 0])
    reference = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]]  # the last is wrong
    other = np.eye(3, dtype=np.float32)[[0, 1, 0, 0]]
    row = measured(other, reference, labels)
    assert (row["count"], row["right"], row["top1"], row["difference"]) == (4, 3, 0.75, 0.0)
    assert row["agreement"] == 0.5
    assert row["rms_of_deviation"] == pytest.approx(np.sqrt(4 / 12) / reference.std())
    low, high = row["difference_interval"]
    assert low == pytest.approx(-high)
    assert low < 0 < high
    same = measured(reference, reference, labels)
    assert (same["right"], same["agreement"], same["rms_of_deviation"]) == (3, 1.0, 0.0)


@pytest.mark.test_all  # three exports
def test_every_engine_and_precision_has_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in load("resnet20-cifar10").label_names:
        for number in range(2):
            pixels = np.random.default_rng([number, len(name)]).integers(0, 255, (32, 32, 3), np.uint8)
            path = tmp_path / "photos" / ("train", "test")[number] / name / "noise.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(pixels).save(path)
    out = tmp_path / "accuracy.json"
    words = [str(tmp_path / "photos"), "--models", "resnet20-cifar10", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["exported_accuracy.py", *words])
    monkeypatch.setattr(exported_accuracy, "int8_sides", lambda *_: ())  # noise is no image to be judged by
    exported_accuracy.main()
    document = json.loads(out.read_text())
    sides = [(row["engine"], row["precision"]) for row in document["rows"]]
    assert len(set(sides)) == len(sides) == 7
    assert sides[0] == ("PyTorch", "fp32")
    assert all(row["count"] == 10 for row in document["rows"])
    assert all(row["rms_of_deviation"] < 0.1 for row in document["rows"])
    assert all(row["rms_of_deviation"] < 1e-4 for row in document["rows"] if row["precision"] == "fp32")
    assert document["command"] == ["python", "benchmarks/exported_accuracy.py", "photos"]
    assert "| `resnet20-cifar10` | openvino, bf16 | " in accuracy_table(document)
