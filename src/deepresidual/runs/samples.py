"""Record the samples of a run at its start: on which side each is, to keep it there and to name changes.

``RUN/samples/SPLIT.jsonl.gz`` has a line ``[key, label, size]`` a sample, in order.
``RUN/samples/train.sha256.gz`` has the first 32 digits of the SHA-256 of the image file of every training
sample, so that an evaluation can tell what the model has seen.
"""

from __future__ import annotations

import contextlib
import gzip
import itertools
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.contents import contents_of
from deepresidual.data.source import SampleSource, Split
from deepresidual.data.source.base import Row, stamps_of
from deepresidual.data.source.division import as_recorded
from deepresidual.data.source.validation import hold_out
from deepresidual.errors import ModelFileError
from deepresidual.runs.read import holds_run, read_plan, read_run_record
from deepresidual.runtime.files import atomic_folder, expanded, write_bytes
from deepresidual.runtime.strict_json import RecordError, check, parse

_ENDING = ".jsonl.gz"
_CONTENTS = "train.sha256.gz"

MOST_CONTENTS = 500_000
"""Training images of which the contents are recorded at most; beyond, names and sizes tell."""

_MAX_LINE_BYTES = 1_000_000  # a path has four thousand
# What is larger is a checksum, which says nothing to a reader; one of CRC-32 is smaller once in 43 times.
_LARGEST_FILE = 100_000_000


def record_samples(folder: Path, source: SampleSource) -> None:
    """Write key, label and size of every sample of a data set, and the contents of those for training.

    Contents are written of images in files, of :data:`MOST_CONTENTS` at most: all are read for that.

    Raises:
        RunError: They cannot be written.
    """
    with atomic_folder(folder) as temporary:
        for name, split in source.splits.items():
            lines = "".join(json.dumps(row) + "\n" for row in split.rows())
            # Without a time in it the file is the same for the same data.
            write_bytes(temporary / f"{name}{_ENDING}", gzip.compress(lines.encode(), mtime=0))
        train = source.splits.get("train")
        if train is not None and len(train) <= MOST_CONTENTS and stamps_of(train) is not None:
            contents = contents_of(train)
            lines = "".join(f"{content.hex()}\n" for content in contents)
            write_bytes(temporary / _CONTENTS, gzip.compress(lines.encode(), mtime=0))


def is_record_of_samples(folder: Path) -> bool:
    """Return whether a folder holds nothing but what :func:`record_samples` writes.

    Raises:
        OSError: It is no folder, or cannot be read.
    """
    return all(
        path.is_file() and (path.name == _CONTENTS or path.name.endswith(_ENDING))
        for path in folder.iterdir()
    )


def recorded_splits(folder: Path) -> dict[str, list[Row]]:
    """Return the rows of every split that :func:`record_samples` wrote; nothing where they cannot be read."""
    try:
        return {
            path.name.removesuffix(_ENDING): [(key, label, size) for key, label, size in _recorded(path)]
            for path in sorted(folder.glob(f"*{_ENDING}"))
        }
    except (OSError, EOFError, zlib.error, RecordError):
        return {}


def recorded_parts(folder: Path, source: SampleSource) -> dict[str, list[Row]]:
    """Return the rows of every split of a run, where the data set does not name all of them; else nothing."""
    names = {path.name.removesuffix(_ENDING) for path in folder.glob(f"*{_ENDING}")}
    return {} if source.whole is None and names <= set(source.splits) else recorded_splits(folder)


@dataclass(frozen=True)
class Trained:
    """What runs have trained on.

    Attributes:
        contents: Contents of the images, as :func:`deepresidual.data.contents.contents_of` returns them.
        files: File name and size of the images of runs that recorded no contents.
        held_out: Key and size of the images that these held out.
    """

    contents: frozenset[bytes]
    files: frozenset[tuple[str, int]]
    held_out: frozenset[tuple[str, int]]

    @classmethod
    def read(cls, runs: Sequence[Path]) -> Trained:
        """Read what the runs have recorded."""
        contents: set[bytes] = set()
        files: set[tuple[str, int]] = set()
        held_out: set[tuple[str, int]] = set()
        for run in runs:
            recorded = _recorded_contents(run / "samples" / _CONTENTS)
            if recorded is None:
                splits = recorded_splits(run / "samples")
                files.update((_file_name(key), size) for key, _, size in splits.pop("train", []))
                held_out.update((key, size) for rows in splits.values() for key, _, size in rows)
            else:
                contents |= recorded
        return cls(frozenset(contents), frozenset(files), frozenset(held_out))

    def seen(self, split: Split) -> NDArray[np.bool_]:
        """Return a mask ``(N,)`` of the samples of a split that were trained on."""
        mask = np.zeros(len(split), dtype=bool)
        if self.contents:
            mask |= [content in self.contents for content in contents_of(split)]
        if self.files:
            mask |= [
                (_file_name(key), size) in self.files and (key, size) not in self.held_out
                for key, _, size in split.rows()
            ]
        return mask

    @property
    def how(self) -> str:
        """How they are known, in words."""
        return "same name and size" if self.files else "same content"


def _file_name(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def _recorded_contents(path: Path) -> set[bytes] | None:
    """Return the contents that :func:`record_samples` wrote; ``None`` where there are none to read."""
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            return {bytes.fromhex(line.strip()) for line in file} - {b""}
    except (OSError, EOFError, zlib.error, ValueError):
        return None


def run_of(model: str | Path) -> Path | None:
    """Return the run folder that is named, or that a named model folder lies in; ``None``: neither."""
    path = expanded(model)
    return next((folder for folder in (path, path.parent) if holds_run(folder)), None)


def recorded_group(run: Path) -> str | None:
    """Return what belongs together in the data of a run, as it was trained with."""
    with contextlib.suppress(ModelFileError, OSError):
        group = read_run_record(run, "group?").get("group")
        return group or None
    return None


def with_splits_of(source: SampleSource, run: Path, validation: float = 0.0) -> SampleSource:
    """Return a data set whose samples are in the splits in which a run had them.

    Args:
        source: The data set, as it was opened.
        run: The run folder.
        validation: Share of the training images to hold out as ``val``; 0: what the run held out.

    Raises:
        ConfigurationError: The share is out of range, or the data set has validation samples already.
        ModelFileError: The plan of the run is damaged.
    """
    recorded = recorded_parts(run / "samples", source)
    if not recorded:
        return hold_out(source, validation)
    if not validation or validation == read_plan(run)[0].validation:
        known = as_recorded(source, recorded)
        return known if "val" in known.splits else hold_out(known, validation)
    held_out = [
        recorded.pop(name) for name in ("val", "tune") if name in recorded and name not in source.splits
    ]
    recorded["train"] = [row for rows in (recorded.get("train", []), *held_out) for row in rows]
    return hold_out(as_recorded(source, recorded), validation)


def first_difference(folder: Path, source: SampleSource) -> str:
    """Return the first difference between a data set and what :func:`record_samples` wrote; empty: none."""
    if not folder.exists():
        return "a kill kept the run from writing down what they were"
    for name, split in source.splits.items():
        path = folder / f"{name}{_ENDING}"
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


def _recorded(path: Path) -> Iterator[Any]:
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
    if max(int(old), int(new)) > _LARGEST_FILE:
        return f"{now[0]} has {'another image' if what == 'size' else 'other labels or boxes'}"
    return f"{now[0]} has the {what} {new} and had {old}"
