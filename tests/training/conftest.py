"""Fixtures of the tests of training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import write_splits
from tests.training.parts import SilentJournal, a_run


@pytest.fixture(scope="module", autouse=True)
def few_findings(request: pytest.FixtureRequest) -> Iterator[None]:
    """Look for no wrong labels at a run's end but where that is tested: it takes twice a tiny training."""
    with pytest.MonkeyPatch.context() as patch:
        if request.module.__name__ != "tests.training.test_findings":
            patch.setattr("deepresidual.training.loop.record_findings", lambda *_: None)
        yield


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
        patch.setattr("deepresidual.training.loop.record_findings", lambda *_: None)
        a_run(photos, root / "run")
    return root / "run"
