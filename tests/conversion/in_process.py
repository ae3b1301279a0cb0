"""Reading in the test's own process, where the child that the readers run in is not what is tested."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from deepresidual.conversion.readers import sandbox


def read_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by the same functions, but not in a child process, which takes three seconds to begin.

    Tests marked ``child`` have one: one a reader, and one a limit.
    """
    in_child = sandbox.run

    def run(kind: str, path: Path, size: int, state_dict: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
        if kind == "tensorflow":  # which does not live well with torch
            return in_child(kind, path, size)
        with tempfile.TemporaryDirectory() as folder:
            request = {"kind": kind, "path": str(path.absolute()), "shown": str(path), "folder": folder}
            options = {"state_dict": state_dict} if state_dict else {}
            limits = {"size": size, "seconds": 0.0, "allowance_bytes": 0}
            sandbox._answer({**request, **limits, "options": options})
            return sandbox._collect(Path(folder), path, 0, 0.0)

    monkeypatch.setattr(sandbox, "_limit", lambda *_: None)
    monkeypatch.setattr(sandbox, "run", run)


def in_a_child_where_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in this process, except where the test is marked ``child``."""
    if request.node.get_closest_marker("child") is None:
        read_in_this_process(monkeypatch)
