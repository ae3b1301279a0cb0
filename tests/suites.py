"""What only ``make test-all`` runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def short(values: Iterable[Any], *kept: Any) -> list[Any]:
    """Return parameters of which ``make test`` runs those that are kept, and ``make test-all`` the others."""
    return [value if value in kept else pytest.param(value, marks=pytest.mark.test_all) for value in values]
