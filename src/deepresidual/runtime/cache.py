"""Small results that are worth keeping between two commands: JSON files in the user's cache folder.

What lies there can be deleted at any time. A cache that cannot be read or written is no error: the result is
found again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepresidual.errors import ResidualError
from deepresidual.runtime.files import make_folder, write_json

_MOST_BYTES = 1 << 20
_MOST_ENTRIES = 256


def cache_folder() -> Path | None:
    """Return ``$RESIDUAL_CACHE``, or ``$XDG_CACHE_HOME/residual``, or ``~/.cache/residual``.

    ``None`` where there is not even a home.
    """
    if os.environ.get("RESIDUAL_CACHE"):
        return Path(os.environ["RESIDUAL_CACHE"])
    given = os.environ.get("XDG_CACHE_HOME", "")
    if Path(given).is_absolute():  # the specification of XDG ignores others
        return Path(given) / "residual"
    with contextlib.suppress(RuntimeError):
        return Path.home() / ".cache" / "residual"
    return None


def read_cache(owner: str, key: str) -> dict[str, Any] | None:
    """Return what was last written as ``key`` by ``owner``; ``None`` where there is nothing to read."""
    entry = _entries(owner).get(key)
    return entry if isinstance(entry, dict) else None


def write_cache(owner: str, key: str, value: Mapping[str, Any]) -> None:
    """Keep ``value``, JSON types, as ``key`` of ``owner``; the oldest make room."""
    folder = cache_folder()
    if folder is None:
        return
    entries = {name: entry for name, entry in _entries(owner).items() if name != key}
    kept = list(entries.items())[-(_MOST_ENTRIES - 1) :]
    with contextlib.suppress(ResidualError, OSError):
        make_folder(folder)
        write_json(folder / f"{owner}.json", {**dict(kept), key: dict(value)})


def _entries(owner: str) -> dict[str, Any]:
    folder = cache_folder()
    if folder is None:
        return {}
    path = folder / f"{owner}.json"
    try:
        if path.stat().st_size > _MOST_BYTES:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
