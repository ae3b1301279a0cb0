"""Keep single measurements of a long benchmark, so that one that was stopped goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepresidual.errors import ConfigurationError
from deepresidual.runtime.files import append_text, make_folder


class Progress:
    """Measurements by name, in a file of JSON lines beside the result; in memory alone without a result.

    Args:
        result: The file of the result; ``NAME.json`` has its measurements in ``NAME.json.parts``.
        settings: What was measured, as JSON types: measurements of other settings are refused.

    Raises:
        ConfigurationError: The file holds measurements of other settings.
        RunError: It cannot be written.
    """

    def __init__(self, result: Path | None, settings: Mapping[str, Any]) -> None:
        self._path = result.with_name(f"{result.name}.parts") if result is not None else None
        self._found: dict[str, dict[str, Any]] = {}
        if self._path is None:
            return
        make_folder(self._path.parent)
        text = self._path.read_text("utf-8") if self._path.exists() else ""
        if text and not text.endswith("\n"):
            append_text(self._path, "\n")  # behind what was cut off
        lines = text.splitlines()
        rows = [row for line in lines if (row := _row(line)) is not None]
        if not rows:
            self._append("settings", dict(settings))
        elif rows[0] != ("settings", dict(settings)):
            raise ConfigurationError(
                f"{self._path} holds measurements of other data, other weights or another commit",
                remedy="choose another --out, or remove that file to measure anew",
            )
        self._found = dict(rows[1:])

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a measurement; ``None``: it has not been made."""
        return self._found.get(name)

    def write(self, name: str, value: dict[str, Any]) -> None:
        """Keep a measurement."""
        self._found[name] = value
        self._append(name, value)

    def _append(self, name: str, value: dict[str, Any]) -> None:
        if self._path is not None:
            append_text(self._path, json.dumps({"name": name, "value": value}) + "\n")


def _row(line: str) -> tuple[str, dict[str, Any]] | None:
    """Return name and value of a line; ``None`` of one that was cut off."""
    try:
        row = json.loads(line)
        return row["name"], row["value"]
    except (ValueError, KeyError, TypeError):
        return None
