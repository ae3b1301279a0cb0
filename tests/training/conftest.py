"""Fixtures of the tests of training."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the report empty, whose figures take longer than training a tiny network."""
    for module in ("loop", "launch"):
        monkeypatch.setattr(
            f"deepresidual.training.{module}.write_report", lambda run: (run / "report.html").write_bytes(b"")
        )
