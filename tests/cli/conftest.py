"""What the tests of commands leave out: drawing the report of a run takes longer than the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepresidual.training import journal


@pytest.fixture(autouse=True)
def _no_report_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no report at the end of a run; commands that tests fork write theirs, and so does ``report``."""

    def nothing(run: Path) -> Path:
        return run / "report.html"

    monkeypatch.setattr(journal, "write_report", nothing)
