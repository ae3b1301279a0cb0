"""Measure whole commands, each in a process of its own: what a user waits for, its start included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from deepresidual.errors import RunError

# Between this process and the command stands a small one: Linux counts the memory of the process that starts
# a command among the command's own in ru_maxrss, and this one may hold torch and networks.
_LAUNCHER = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
done = subprocess.run(sys.argv[1:], **streams)
wall = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps({
    "code": done.returncode,
    "messages": done.stderr.decode("utf-8", "replace"),
    "measured": {
        "wall_s": wall, "cpu_s": used.ru_utime + used.ru_stime, "peak_bytes": unit * used.ru_maxrss
    },
}))
"""
_SPINNING = ("GOMP_SPINCOUNT", "RESIDUAL_SPINCOUNT")


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        wall_s: Seconds from its start to its end.
        cpu_s: CPU seconds of it and of the processes that it started and waited for.
        peak_bytes: Most memory of the largest of these processes.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types, rounded."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


def cost_of(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command to its end and return what it took.

    Args:
        command: Program and arguments.
        environment: Variables beside those of this process. Of the latter our setting of idle threads is left
            out: a command of ours makes it again, and that of others should not have it.

    Raises:
        RunError: It ended with an exit code other than 0.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in _SPINNING}
    done = subprocess.run(
        [sys.executable, "-c", _LAUNCHER, *command],
        env={**inherited, **(environment or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    report = json.loads(done.stdout)
    if report["code"]:
        lines = report["messages"].strip().splitlines() or ["without a word"]
        raise RunError(f"{' '.join(command[:4])} … failed with exit code {report['code']} ({lines[-1]})")
    return Cost(**report["measured"])


def residual_command(*words: str) -> list[str]:
    """Return the command ``residual WORD …`` of this installation."""
    return [sys.executable, "-m", "deepresidual", *words]
