"""Find the tars that a pattern names."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from deepresidual.data.source.base import IgnoredFile
from deepresidual.data.source.files import data_files
from deepresidual.data.source.shards.tar import COMPRESSED, compressed_tar
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.runtime.files import expanded

_MAX_TARS = 1_000_000


def find_tars(pattern: str, ignored: list[IgnoredFile]) -> tuple[Path, list[Path]]:
    """Return the folder that the tars are named from, and the tars, sorted."""
    if pattern.startswith("pipe:") or re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", pattern):
        raise ConfigurationError(
            f"{pattern[:80]!r} is a command or an address",
            expected="tars on this machine",
            remedy="download them first; nothing is run or fetched here",
        )
    if not pattern:
        raise ConfigurationError("the pattern behind 'shards:' is empty", expected="a folder or a pattern")
    path = expanded(pattern)
    if path.is_dir():
        files = data_files(path, (".tar", *COMPRESSED), ignored)
        compressed = [file for file in files if file.name.casefold().endswith(COMPRESSED)]
        tars = [file for file in files if file.suffix.casefold() == ".tar"]
        if not tars and not compressed:
            raise DataError(f"{path} holds no .tar files", expected="train-000000.tar and so on")
        for file in compressed[:1]:
            raise compressed_tar(file)
        return path, tars
    tars = [path] if path.is_file() else _matching(str(path))
    for tar in tars:
        if not tar.is_file():
            raise DataError(f"{tar} does not exist", expected=f"every tar of {pattern}")
    if not tars:
        raise DataError(f"no file matches {pattern}", expected="tars such as train-000000.tar")
    # Patterns may give a tar twice.
    return Path(os.path.commonpath([tar.parent for tar in tars])), sorted(set(tars))


def _matching(pattern: str) -> list[Path]:
    return [
        Path(found)
        for name in _expanded(pattern)
        for found in (sorted(glob.glob(_escaped(name))) if glob.has_magic(name) else [name])  # noqa: PTH207  # absolute, too
    ]


def _escaped(pattern: str) -> str:
    """Return a pattern in which the brackets of a folder that there is stand for themselves."""
    folder, slash, name = pattern.rpartition("/")
    return glob.escape(folder) + slash + name if slash and Path(folder).is_dir() else pattern


def _expanded(pattern: str) -> Iterator[str]:
    """Yield the names that a pattern with ``{000..010}`` and ``{a,b}`` stands for, as a shell would."""
    pieces = re.split(r"(\{[^{}]*\})", pattern)
    choices = [_choices(piece) if piece.startswith("{") else [piece] for piece in pieces]
    count = 1
    for options in choices:
        count *= len(options)
    if count > _MAX_TARS:
        raise ConfigurationError(f"{pattern} stands for {count:,} files", expected=f"at most {_MAX_TARS:,}")
    yield from map("".join, itertools.product(*choices))


def _choices(braces: str) -> Sequence[str]:
    inside = braces[1:-1]
    if bounds := re.fullmatch(r"([0-9]{1,9})\.\.([0-9]{1,9})", inside):
        first, last = bounds.groups()
        if int(first) > int(last) or int(last) - int(first) >= _MAX_TARS:
            raise ConfigurationError(
                f"{braces} is no range", expected=f"up to {_MAX_TARS:,} ascending numbers"
            )
        return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    return inside.split(",") if "," in inside else [braces]
