"""Readers read in the test's own process, except where a test is about the child."""

from __future__ import annotations

import pytest

from tests.conversion.in_process import in_a_child_where_marked


@pytest.fixture(autouse=True)
def _in_a_child_where_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_child_where_marked(request, monkeypatch)
