"""A kill before any system call of a save leaves a whole checkpoint, the old one or the new one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.survival.trials import Runner


def killed(runner: Runner, tmp_path: Path, **job: Any) -> dict[str, Any]:
    """Return what the trials found."""
    whole: dict[str, Any] = {"work": str(tmp_path / "work"), "result": str(tmp_path / "result.json")}
    whole |= {"trace": True, "exchange": True, "first": 1, "every": 1, **job}
    child = runner.do(whole)
    assert child.code == 0, child.said
    found: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
    return found


@pytest.mark.parametrize("exchange", [True, False], ids=["swapped", "renamed-twice"])
@pytest.mark.parametrize("step", [3, 2], ids=["new-step", "same-step"])
def test_a_kill_before_any_call_of_a_save_leaves_a_whole_checkpoint(
    runner: Runner, tmp_path: Path, step: int, exchange: bool
) -> None:
    found = killed(runner, tmp_path, kind="kill-saves", step=step, exchange=exchange)
    # Without ptrace Python's own hooks tell of fewer calls.
    assert len(found["calls"]) > 10
    assert found["faults"] == []
