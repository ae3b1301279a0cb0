"""The user's cache folder: small results in JSON files, and what other modules keep in folders of their own.

What lies there can be deleted at any time. A cache that cannot be read or written is no error: the result is
found again.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepresidual.errors import ResidualError, RunError, UnknownNameError
from deepresidual.runtime.files import make_folder, remove, write_json

_MOST_BYTES = 1 << 20
_MOST_ENTRIES = 256

CACHE_KINDS = {
    "downloads": "files fetched from elsewhere",
    "models": "released weights, converted",
    "features": "features of images, for probes",
    "pictures": "hashes of image files, to tell copies",
    "precision": "which precision is faster here",
    "engines": "what computes an exported model fastest here",
}
"""What lies in the cache folder, as the name of a folder or of a JSON file; nothing else is ever deleted."""


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


# -- what lies there -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CacheKind:
    """What one part of the cache holds.

    Attributes:
        name: One of :data:`CACHE_KINDS`.
        path: Its folder or file.
        num_files: How many files it has.
        num_bytes: Their size in bytes.
    """

    name: str
    path: Path
    num_files: int
    num_bytes: int


def cache_kinds() -> list[CacheKind]:
    """Return every part of the cache, also where it is empty; nothing where there is no cache folder."""
    folder = cache_folder()
    if folder is None:
        return []
    kinds = []
    for name in CACHE_KINDS:
        path = folder / name
        path = path if path.is_dir() else path.with_suffix(".json")
        sizes = list(_sizes(path))
        kinds.append(CacheKind(name, path if sizes else folder / name, len(sizes), sum(sizes)))
    return kinds


def clear_cache(name: str | None = None) -> list[CacheKind]:
    """Delete what one part of the cache holds, or all parts; return what they held.

    Raises:
        UnknownNameError: There is no such part.
        RunError: Something cannot be deleted.
    """
    if name is not None and name not in CACHE_KINDS:
        raise UnknownNameError("kind of cache", name, CACHE_KINDS)
    held = [kind for kind in cache_kinds() if name in (None, kind.name)]
    for kind in held:
        with contextlib.suppress(OSError):
            # A folder stays: it may be a link to another disk.
            for path in list(kind.path.iterdir()) if kind.path.is_dir() else [kind.path]:
                remove(path)
        if left := list(_sizes(kind.path)):
            raise RunError(
                f"{kind.path} still holds {len(left):,} files that cannot be deleted",
                remedy="see whose they are",
            )
    return held


def _sizes(path: Path) -> Iterator[int]:
    """Yield the size of every file, in bytes; links inside are not followed."""
    with contextlib.suppress(OSError):
        if path.is_dir():
            for folder, _, names in os.walk(path):
                for name in names:
                    with contextlib.suppress(OSError):
                        yield (Path(folder) / name).lstat().st_size
        elif path.exists():
            yield path.stat().st_size
