"""Reading in the test's own process, or in a forked child: starting Python and torch takes three seconds."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deepresidual.conversion.readers import sandbox


def read_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by the same functions, but in no child process."""
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
    """Read in this process, except where the test is marked ``child``: one a reader, and one a limit.

    ``child(fresh=True)`` starts Python as users' readings do.
    """
    mark = request.node.get_closest_marker("child")
    if mark is None:
        read_in_this_process(monkeypatch)
    elif not mark.kwargs.get("fresh"):
        stand_in = SimpleNamespace(
            run=_forked, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
        )
        monkeypatch.setattr(sandbox, "subprocess", stand_in)


def _forked(_: list[str], *, input: bytes, cwd: str, env: dict[str, str], **__: Any) -> SimpleNamespace:  # noqa: A002
    process = os.fork()
    if process == 0:
        try:
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update(env)
            sandbox.child(json.loads(input))
        finally:
            os._exit(1)
    status = os.waitpid(process, 0)[1]
    return SimpleNamespace(returncode=os.waitstatus_to_exitcode(status))
