"""A kill before any system call of a save leaves a whole checkpoint, the old one or the new one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fork_server import ForkServer

# A kill before one call is a kill after the one before it, so these are all states that a kill can leave. The
# short form takes every eighth call, the long one each, on systems that can swap two names and that cannot.
SHORT = 8


def killed(runner: ForkServer, tmp_path: Path, **job: Any) -> dict[str, Any]:
    """Return what the trials found."""
    whole: dict[str, Any] = {"work": str(tmp_path / "work"), "result": str(tmp_path / "result.json")}
    whole |= {"trace": True, "exchange": True, "first": 1, "every": 1, **job}
    whole["act"] = f"tests.survival.system_calls:{job['act']}"
    child = runner.do(whole)
    assert child.code == 0, child.said
    found: dict[str, Any] = json.loads((tmp_path / "result.json").read_text())
    return found


def test_a_kill_in_a_save_leaves_a_whole_checkpoint(runner: ForkServer, tmp_path: Path) -> None:
    found = killed(runner, tmp_path, act="kill_saves", step=3, first=2, every=SHORT)
    assert found["faults"] == []
    assert found["num_states"] > 5


def test_a_kill_in_a_replacement_leaves_the_old_folder_or_the_new_one(
    runner: ForkServer, tmp_path: Path
) -> None:
    found = killed(runner, tmp_path, act="kill_replacements", first=3, every=SHORT)
    assert found["faults"] == []
    assert found["num_states"] > 3


@pytest.mark.test_all
def test_where_nothing_may_be_traced_hooks_kill_instead(runner: ForkServer, tmp_path: Path) -> None:
    found = killed(runner, tmp_path, act="kill_saves", step=3, first=2, every=SHORT, trace=False)
    assert found["faults"] == []
    assert (found["traced"], found["num_states"] > 5) == (False, True)


def test_a_save_that_is_not_atomic_is_noticed(runner: ForkServer, tmp_path: Path) -> None:
    found = killed(runner, tmp_path, act="kill_saves", step=2, every=SHORT, careless=True)
    assert any("the newest checkpoint is step-1" in fault for fault in found["faults"])
    assert any("cannot be used" in fault for fault in found["faults"])


@pytest.mark.test_all
@pytest.mark.parametrize("trace", [True, False], ids=["traced", "hooked"])
@pytest.mark.parametrize("exchange", [True, False], ids=["swapped", "renamed-twice"])
@pytest.mark.parametrize("step", [3, 2], ids=["new-step", "same-step"])
def test_a_kill_before_any_call_of_a_save_leaves_a_whole_checkpoint(
    runner: ForkServer, tmp_path: Path, step: int, exchange: bool, trace: bool
) -> None:
    found = killed(runner, tmp_path, act="kill_saves", step=step, exchange=exchange, trace=trace)
    assert found["faults"] == []
    assert found["num_states"] > (20 if trace else 8)  # the hook sees no single writes


@pytest.mark.test_all
@pytest.mark.parametrize("trace", [True, False], ids=["traced", "hooked"])
@pytest.mark.parametrize("exchange", [True, False], ids=["swapped", "renamed-twice"])
def test_a_kill_before_any_call_of_a_replacement_leaves_the_old_folder_or_the_new_one(
    runner: ForkServer, tmp_path: Path, exchange: bool, trace: bool
) -> None:
    found = killed(runner, tmp_path, act="kill_replacements", exchange=exchange, trace=trace)
    assert found["faults"] == []
    assert found["num_states"] > (10 if trace else 5)
