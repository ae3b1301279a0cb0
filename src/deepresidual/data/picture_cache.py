"""Hashes of image files that were computed before, in the user's cache folder.

Two kinds of rows: the content of a file by its *stamp* (where it lies, size, times: what changes when the
file does, had without reading it), and what was computed from a content by that content. What lies here can
be deleted at any time, and a cache that cannot be read or written is no error: the hashes are computed again.
SQLite keeps it whole when a process is killed and lets several write.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from deepresidual.errors import ResidualError
from deepresidual.runtime.cache import cache_folder
from deepresidual.runtime.files import make_folder

MAX_BYTES = 500_000_000
"""Size of the file in bytes from which it is begun anew; a row takes about a hundred."""

T = TypeVar("T")

_FILE = "hashes.sqlite"
_PATIENCE_SECONDS = 2.0


class PictureCache:
    """Rows of bytes by key, of several kinds.

    Args:
        folder: The folder. Default: ``pictures`` in the user's cache folder; without one nothing is kept.
    """

    def __init__(self, folder: Path | None = None) -> None:
        home = cache_folder()
        self.folder = folder or (home and home / "pictures")

    def find(self, kind: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the rows of a kind that there are, by key."""

        def look_up(rows: sqlite3.Connection) -> dict[bytes, bytes]:
            found: dict[bytes, bytes] = {}
            for key in keys:
                row = rows.execute("SELECT value FROM hashes WHERE kind = ? AND key = ?", (kind, key))
                found.update((key, value) for (value,) in row)
            return found

        if not keys or self.folder is None or not (self.folder / _FILE).exists():
            return {}
        return self._with_rows(look_up) or {}

    def add(self, kind: str, values: Mapping[bytes, bytes]) -> None:
        """Keep rows of a kind."""
        if values:
            self._make_room()
            new = [(kind, key, value) for key, value in values.items()]
            self._with_rows(
                lambda rows: rows.executemany("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?)", new)
            )

    def _make_room(self) -> None:
        with contextlib.suppress(OSError):
            if self.folder is not None and (self.folder / _FILE).stat().st_size > MAX_BYTES:
                (self.folder / _FILE).unlink()

    def _with_rows(self, act: Callable[[sqlite3.Connection], T]) -> T | None:
        """Return what ``act`` returns, once its changes are kept; ``None`` where that fails."""
        if self.folder is None:
            return None
        path = self.folder / _FILE
        try:
            make_folder(self.folder)
            with contextlib.closing(sqlite3.connect(path, timeout=_PATIENCE_SECONDS)) as rows, rows:
                rows.execute(
                    "CREATE TABLE IF NOT EXISTS hashes "
                    "(kind TEXT, key BLOB, value BLOB, PRIMARY KEY (kind, key)) WITHOUT ROWID"
                )
                return act(rows)
        except sqlite3.OperationalError:  # locked for long, full, or not ours to write
            return None
        except sqlite3.DatabaseError:  # damaged
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        except (OSError, ResidualError):
            return None
