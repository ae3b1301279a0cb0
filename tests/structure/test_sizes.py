"""The trainer is told in one file that a reader finishes in a sitting."""

from __future__ import annotations

from pathlib import Path

import deepresidual


def test_the_training_loop_has_at_most_300_lines() -> None:
    loop = Path(deepresidual.__file__).parent / "training" / "loop.py"
    assert len(loop.read_text("utf-8").splitlines()) <= 300
