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
