"""Fixtures of the tests of tasks."""

from __future__ import annotations

from tests.training.conftest import no_report

__all__ = ["no_report"]
