"""Progress in a notebook: one output that changes, instead of one for every line."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from deepresidual.runtime import notebook
from deepresidual.runtime.console import ProgressBar, note
from deepresidual.runtime.notebook import in_notebook


class Outputs(list[str]):
    """The outputs of a cell: each as it looks now."""

    def __init__(self) -> None:
        super().__init__()
        self.num_updates = 0

    def display(self, page: str, *, display_id: bool) -> Any:
        assert display_id
        self.append(page)
        place = len(self) - 1

        def update(changed: str) -> None:
            self[place] = changed
            self.num_updates += 1

        return SimpleNamespace(update=update)


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> Outputs:
    """Let this process be the kernel of a notebook."""
    found = Outputs()
    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.__dict__["get_ipython"] = lambda: SimpleNamespace(kernel=object())
    display.__dict__.update(HTML=str, display=found.display)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr(notebook, "_SECONDS", 0.0)
    return found


def test_a_run_has_one_output(outputs: Outputs, capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(20, label="training") as bar:
        bar.before("features", 3, 9)
        for done in range(1, 21):
            bar.update(done, "loss <0.5>")
            if done % 10 == 0:
                bar.line(f"epoch {done // 10}/2  training top-1 50.0%, val top-1 40.0%")
        assert "<progress" in outputs[0]
        assert "training 20/20  loss &lt;0.5&gt;" in outputs[0]
    assert len(outputs) == 1
    assert outputs.num_updates > 20
    assert "<progress" not in outputs[0]
    assert outputs[0].count("<tr>") == 2
    assert outputs[0].count("<td") == 6
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_bar_that_says_nothing_leaves_no_output(outputs: Outputs) -> None:
    with ProgressBar(20, label="training"):
        pass
    assert outputs == []


def test_changes_are_not_more_frequent_than_a_line_carries(
    outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "_SECONDS", 3600.0)
    with ProgressBar(1000, label="training") as bar:
        for done in range(1000):
            bar.update(done, "")
        assert outputs.num_updates <= 1


def test_a_note_is_a_line_of_stderr(outputs: Outputs, capsys: pytest.CaptureFixture[str]) -> None:
    note("photos      244")
    assert capsys.readouterr().err == "photos      244\n"
    assert outputs == []


def test_ipython_in_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not in_notebook()
    ipython = ModuleType("IPython")
    ipython.__dict__["get_ipython"] = lambda: SimpleNamespace()
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert not in_notebook()
