"""Fixtures of the tests of run folders."""

from __future__ import annotations

from tests.training.conftest import no_report

__all__ = ["no_report"]
