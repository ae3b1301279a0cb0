"""Fixtures of the tests of experiments."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the report of every run, whose figures take longer than training a tiny network."""
    for module in ("loop", "launch"):
        monkeypatch.setattr(f"deepresidual.training.{module}.write_report", lambda _: None)
