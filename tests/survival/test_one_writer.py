"""Two processes cannot write one run."""

from __future__ import annotations

import time

from tests.survival.trials import Trials, Variant, record_of

SHORT = Variant("short", {"epochs": 2.0})


def test_a_run_that_is_running_is_neither_resumed_nor_started_by_another(trials: Trials) -> None:
    (first,) = trials.begin("run", SHORT, plants={"step_seconds": 0.3})
    while not trials.has_begun("run"):
        time.sleep(0.01)
    (second,) = trials.run("run", SHORT, resume=True)
    assert second.code == 2
    assert "another process is writing the run in" in second.said
    (third,) = trials.run("run", SHORT)
    assert third.code == 2
    assert "already holds a run; continue it with --resume" in third.said
    assert first.code is None
    assert trials.runner.wait(first) == [0], first.said
    assert trials.state("run") == trials.whole(SHORT)


def test_of_two_that_start_at_once_one_gets_the_run(trials: Trials) -> None:
    children = [trials.begin("run", SHORT)[0] for _ in range(2)]
    assert sorted(trials.runner.wait(*children)) == [0, 2], [child.said for child in children]
    assert record_of(trials.folder / "run")["status"] == "finished"


def test_a_killed_run_is_free_at_once_although_its_children_live(trials: Trials) -> None:
    (child,) = trials.begin("run", SHORT, plants={"step_seconds": 0.3, "leave_a_child_seconds": 20})
    while not trials.has_begun("run") or not record_of(trials.folder / "run")["step"]:
        time.sleep(0.01)
    trials.runner.kill(child)
    trials.finish("run", SHORT, resume=True)
