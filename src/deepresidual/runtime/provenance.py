"""Provenance of a result: versions of everything that can change it, and when it was made."""

from __future__ import annotations

import datetime as dt
import functools
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from deepresidual.errors import DISTRIBUTION

_PACKAGES = ("torch", "numpy", "Pillow", "simplejpeg", "safetensors", "pyarrow", "scikit-learn")


def versions() -> dict[str, Any]:
    """Return the versions of Python, the system and the packages that results depend on."""
    found: dict[str, Any] = {"python": platform.python_version(), "system": platform.system()}
    # Under the product's name, as in documents from before the distribution had one of its own.
    found["residual"] = version_of(DISTRIBUTION)
    return found | {package: version_of(package) for package in _PACKAGES}


@functools.cache  # metadata takes milliseconds to parse, and what is loaded stays
def version_of(package: str) -> str | None:
    """Return the installed version of a package; ``None`` where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def command_line() -> list[str]:
    """Return the command that is running, program name first: ours, or the script that calls us."""
    script = Path(sys.argv[0])
    if script.suffix == ".py" and script.stem != "__main__":
        return ["python", *sys.argv]
    return ["residual", *sys.argv[1:]]


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
