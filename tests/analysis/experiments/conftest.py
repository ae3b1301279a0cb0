"""Fixtures of the tests of experiments."""

from __future__ import annotations

import pytest

from tests.training.parts import SilentJournal


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the report of every run empty, whose figures take longer than training a tiny network."""
    monkeypatch.setattr("deepresidual.training.launch.Journal", SilentJournal)
