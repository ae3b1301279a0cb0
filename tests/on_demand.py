"""Other libraries in tests: collecting a test must not take the seconds that importing them takes."""

from __future__ import annotations

import importlib
from typing import Any


class OnDemand:
    """A module that is imported when something of it is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("_", "pytest")):  # What pytest asks of everything in a file that it collects.
            raise AttributeError(name)
        return getattr(importlib.import_module(self._name), name)
