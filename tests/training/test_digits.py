"""The promise of the demo: the bundled digits are learned, whatever the seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepresidual.training.launch import train


@pytest.mark.test_all
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_held_out_digits_are_recognized(tmp_path: Path, seed: int) -> None:
    result = train("digits", "resnet20", tmp_path / "run", seed=seed)
    assert result.evaluation is not None
    assert result.evaluation.summary()["count"] == 351
    assert result.evaluation.summary()["top1"] >= 0.98
