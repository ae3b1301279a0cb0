"""``FileList``: the files that a folder of shards is about, frozen with their sizes when it is begun.

A file that is added later is none of them, and one that has changed since is an error of its own row: so any
number of processes, begun at any time, agree on which file is in which shard.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deepresidual.backends.images import ImageFile
from deepresidual.data.source import archive
from deepresidual.errors import DataError
from deepresidual.runtime.table_file import names_column, names_in

_NAME = "files.parquet"
# Network file systems answer in milliseconds, and many questions at a time.
_THREADS, _CHUNK = 16, 256


class FileList:
    """Paths and sizes of files, in order.

    Args:
        table: Columns ``path`` and ``bytes``. Paths are binary where one of them is no UTF-8; the size of
            what could not be found is null.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def part(self, numbers: range) -> list[ImageFile]:
        """Return files in a row."""
        rows = self._table.slice(numbers.start, len(numbers))
        paths, sizes = names_in(rows["path"]), rows["bytes"].to_pylist()
        return [ImageFile(path, size) for path, size in zip(paths, sizes, strict=True)]

    @classmethod
    def of(cls, paths: Sequence[str]) -> FileList:
        """Look up the sizes of files."""
        with ThreadPoolExecutor(_THREADS) as pool:
            sizes = list(pool.map(_num_bytes, paths, chunksize=_CHUNK))
        return cls(pa.table({"path": names_column(paths), "bytes": pa.array(sizes, pa.int64())}))

    def write(self, folder: Path) -> None:
        """Write the list into a folder."""
        with (folder / _NAME).open("wb") as file:
            pq.write_table(self._table, file)

    @classmethod
    def read(cls, folder: Path) -> FileList:
        """Read what :meth:`write` wrote.

        Raises:
            DataError: It is missing or damaged.
        """
        try:
            table: Any = pq.read_table(folder / _NAME)
            if table.column_names != ["path", "bytes"]:
                raise ValueError(f"columns {', '.join(table.column_names)}")
        except FileNotFoundError as error:
            raise DataError(f"{folder / _NAME} is missing", remedy="choose another folder") from error
        except (OSError, ValueError) as error:
            raise DataError(
                f"{folder / _NAME} is damaged ({' '.join(str(error).split())[:120]})",
                remedy="choose another folder",
            ) from error
        return cls(table)


def _num_bytes(path: str) -> int | None:
    try:
        return archive.size_of(Path(path))
    except (OSError, ValueError, DataError):
        return None
