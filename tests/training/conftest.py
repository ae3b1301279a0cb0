"""Fixtures of the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import write_photos
from tests.training.parts import SilentJournal, a_run


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the report empty, whose figures take longer than training a tiny network."""
    monkeypatch.setattr("deepresidual.training.launch.Journal", SilentJournal)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of ``a_run``, which no test changes."""
    root = tmp_path_factory.mktemp("whole")
    write_photos(root / "photos" / "train", 16)
    write_photos(root / "photos" / "test", 5, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepresidual.training.launch.Journal", SilentJournal)
        a_run(root / "photos", root / "run")
    return root / "run"
