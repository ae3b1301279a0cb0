"""The progress bar in terminals of several widths: steps and remaining time stay, figures give way."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from deepresidual.runtime import console
from deepresidual.runtime.console import ProgressBar


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_steps_and_remaining_time_stay_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=columns, color_system=None)
    monkeypatch.setattr(console, "stderr", lambda: terminal)
    with ProgressBar(23_000, label="training") as bar:
        bar.update(7_123, "epoch 0.9  loss 1.757  top-1 35.9%  630 images/s  waiting 1%  0.9 GB")
        (line,) = terminal.render_lines(bar._bar.get_renderable())
    shown = "".join(segment.text for segment in line)
    assert len(shown) <= columns
    assert shown.startswith("training")
    assert "7123/23000" in shown
    assert "-:--" in shown  # the remaining time, which is not known yet
    assert "epoch 0.9" in shown


@pytest.mark.parametrize(
    ("status", "shown"), [("", "training 1/11 40 s left"), ("loss 0.7", "training 1/11 loss 0.7, 40 s left")]
)
def test_a_plain_line_has_no_comma_before_its_first_figure(
    monkeypatch: pytest.MonkeyPatch, status: str, shown: str
) -> None:
    log = Console(file=io.StringIO(), width=200, color_system=None)
    monkeypatch.setattr(console, "stderr", lambda: log)
    monkeypatch.setattr(console, "_PLAIN_SECONDS", -1.0)
    monkeypatch.setattr(ProgressBar, "seconds_left", lambda _bar: 40.0)
    with ProgressBar(11, label="training") as bar:
        bar.update(1, status)
    assert isinstance(log.file, io.StringIO)
    assert log.file.getvalue().splitlines() == [shown]


def test_a_plain_line_without_status_and_time_ends_with_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Console(file=io.StringIO(), width=200, color_system=None)
    monkeypatch.setattr(console, "stderr", lambda: log)
    monkeypatch.setattr(console, "_PLAIN_SECONDS", -1.0)
    monkeypatch.setattr(ProgressBar, "seconds_left", lambda _bar: None)
    with ProgressBar(11, label="training") as bar:
        bar.update(1, "")
    assert isinstance(log.file, io.StringIO)
    assert log.file.getvalue() == "training 1/11\n"
