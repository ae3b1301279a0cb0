"""Record the samples of a run at its start, to name what has changed when it is resumed.

``RUN/samples/SPLIT.jsonl.gz`` has a line ``[key, label, size]`` a sample, in order.
"""

from __future__ import annotations

import gzip
import itertools
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from deepresidual.data.source import SampleSource
from deepresidual.runtime.files import atomic_folder, write_bytes
from deepresidual.runtime.strict_json import RecordError, check, parse

_MAX_LINE_BYTES = 1_000_000  # a path has four thousand


def record_samples(folder: Path, source: SampleSource) -> None:
    """Write key, label and size of every sample of a data set.

    Raises:
        RunError: They cannot be written.
    """
    with atomic_folder(folder) as temporary:
        for name, split in source.splits.items():
            lines = "".join(json.dumps(row) + "\n" for row in split.rows())
            # Without a time in it the file is the same for the same data.
            write_bytes(temporary / f"{name}.jsonl.gz", gzip.compress(lines.encode(), mtime=0))


def first_difference(folder: Path, source: SampleSource) -> str:
    """Return the first difference between a data set and what :func:`record_samples` wrote; empty: none."""
    if not folder.exists():
        return "a kill kept the run from writing down what they were"
    for name, split in source.splits.items():
        path = folder / f"{name}.jsonl.gz"
        if not path.exists():
            return f"the split {name} is new"
        try:
            for before, now in itertools.zip_longest(_recorded(path), split.rows()):
                if before != (list(now) if now else None):
                    return f"{name}: {_difference(before, list(now) if now else None)}"
        except (OSError, EOFError, zlib.error, RecordError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            return f"in {name} or behind; {path} is damaged ({reason}), so what it was is not known"
    return ""


def _recorded(path: Path) -> Iterator[list[str | int]]:
    with gzip.open(path, "rb") as file:
        while line := file.readline(_MAX_LINE_BYTES):
            row = parse(line)
            check(row, [(str, int)], "a line")
            if [type(value) for value in row] != [str, int, int]:
                raise RecordError("a line is not a key, a label and a size")
            yield row


def _difference(before: list[str | int] | None, now: list[str | int] | None) -> str:
    if now is None:
        return f"{before[0] if before else ''} is gone"
    if before is None or before[0] != now[0]:
        expected = f" where {before[0]} was" if before else ""
        return f"{now[0]} is there{expected}"
    what, old, new = ("label", before[1], now[1]) if before[1] != now[1] else ("size", before[2], now[2])
    return f"{now[0]} has the {what} {new} and had {old}"
