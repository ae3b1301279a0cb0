"""Fixtures of the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import write_splits
from tests.training.parts import SilentJournal, a_run


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the report empty, whose figures take longer than training a tiny network."""
    monkeypatch.setattr("deepresidual.training.launch.Journal", SilentJournal)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``a_run``, which no test changes."""
    root = tmp_path_factory.mktemp("whole")
    photos = write_splits(root / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepresidual.training.launch.Journal", SilentJournal)
        a_run(photos, root / "run")
    return root / "run"
