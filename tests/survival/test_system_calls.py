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
def test_t(runner: Runner, tmp_path: Path, step: int, exchange: bool) -> None:
    found = killed(runner, tmp_path, kind="kill-saves", step=step, exchange=exchange)
    print(len(found["calls"]), found["num_states"], found["traced"])
    assert found["faults"] == []
