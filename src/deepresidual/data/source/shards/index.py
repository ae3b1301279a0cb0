"""Index the samples of tars: members of one name are an image and its label."""

from __future__ import annotations

import json
import os
import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from deepresidual.data.formats import EXTENSIONS
from deepresidual.data.source.base import IgnoredFile
from deepresidual.data.source.shards.tar import Member, members_of
from deepresidual.errors import DataError
from deepresidual.runtime.processes import WorkerPool, can_fork, usable_cores

_IMAGES = frozenset(suffix.removeprefix(".") for suffix in EXTENSIONS)
_MAX_LABEL_BYTES = 1_000_000
# A pool takes some 50 ms to start, as long as the headers of 500 samples.
_MANY_TARS = 8


@dataclass
class _Sample:
    """The members of one name: the image and the label, as far as they have come."""

    name: str
    image: Member | None = None
    label: int | str | None = None
    has_class_member: bool = False


@dataclass
class TarIndex:
    """The samples of one tar: offset and size of every image, its name, its label."""

    places: array[int] = field(default_factory=lambda: array("q"))
    names: bytearray = field(default_factory=bytearray)
    name_lengths: array[int] = field(default_factory=lambda: array("q"))
    labels: list[int | str] = field(default_factory=list)
    ignored: list[IgnoredFile] = field(default_factory=list)


def _index(file: Path) -> TarIndex:
    """Go through the headers of a tar."""
    index = TarIndex()
    remedy = "put the members of a sample one behind the other, as 'tar --sort=name' does"
    try:
        with file.open("rb") as stream:
            for sample in _samples(file, stream, index.ignored):
                if sample.image is None:
                    raise DataError(f"{file}: sample {sample.name!r} has a label and no image", remedy=remedy)
                if sample.label is None:
                    raise DataError(
                        f"{file}: sample {sample.name!r} has an image and no label",
                        expected=f"{sample.name}.cls or {sample.name}.json beside it",
                        remedy=remedy,
                    )
                name = os.fsencode(sample.image.name)
                index.places.extend((sample.image.offset, sample.image.size))
                index.names += name
                index.name_lengths.append(len(name))
                index.labels.append(sample.label)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error})") from error
    return index


def tar_indices(files: Sequence[Path]) -> Iterator[TarIndex]:
    """Yield the index of every tar, in order; of many, made by as many processes as there are cores."""
    workers = min(usable_cores(), len(files))
    if workers < 2 or len(files) < _MANY_TARS or not can_fork():
        yield from map(_index, files)
        return
    with WorkerPool(workers, _nothing) as pool:
        yield from pool.map(_index, files)


def _nothing() -> None:
    """Begin a process that needs no preparation."""


def _samples(file: Path, stream: BinaryIO, ignored: list[IgnoredFile]) -> Iterator[_Sample]:
    """Yield the samples of a tar; name the members that belong to none."""
    sample = _Sample("")
    others: list[str] = []
    for member in members_of(file, stream):
        folder, _, base = member.name.rpartition("/")
        stem, _, extension = base.partition(".")
        if not stem:
            continue  # hidden files, and what macOS leaves beside each file
        name = f"{folder}/{stem}" if folder else stem
        if name != sample.name:
            yield from _complete(file, sample, others, ignored)
            sample, others = _Sample(name), []
        if extension.casefold() in _IMAGES:
            if sample.image is not None:
                raise DataError(
                    f"{file}: sample {name!r} has two images ({sample.image.name}, {member.name})",
                    remedy="give each a name of its own before the first dot",
                )
            sample.image = member
        elif extension.casefold() == "cls":
            sample.label = _number_in(file, member, stream)
            sample.has_class_member = True
        elif extension.casefold() == "json" and not sample.has_class_member:
            sample.label = _label_in(file, member, stream)
        else:
            others.append(member.name)
    yield from _complete(file, sample, others, ignored)


def _complete(
    file: Path, sample: _Sample, others: list[str], ignored: list[IgnoredFile]
) -> Iterator[_Sample]:
    if sample.image is not None or sample.label is not None:
        yield sample
    else:
        ignored.extend(
            IgnoredFile(f"{file.name}/{name}", "neither an image nor a label, nor beside one")
            for name in others
        )


def _content(file: Path, member: Member, stream: BinaryIO) -> bytes:
    if member.size > _MAX_LABEL_BYTES:
        raise DataError(f"{file}: member {member.name!r} has {member.size:,} bytes", expected="a label")
    stream.seek(member.offset)
    return stream.read(member.size)


def _number_in(file: Path, member: Member, stream: BinaryIO) -> int:
    text = _content(file, member, stream).strip()
    if not re.fullmatch(rb"[0-9]{1,9}", text):
        raise DataError(
            f"{file}: member {member.name!r} holds {text[:40]!r}", expected="the number of a class as text"
        )
    return int(text)


def _label_in(file: Path, member: Member, stream: BinaryIO) -> int | str | None:
    try:
        document = json.loads(_content(file, member, stream))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: member {member.name!r} is no JSON") from error
    label = document.get("label") if isinstance(document, dict) else None
    if label is None:
        return None
    if isinstance(label, bool) or not isinstance(label, int | str) or label == "":
        raise DataError(
            f"{file}: member {member.name!r} has the label {str(label)[:40]!r}",
            expected="a whole number or the name of a class",
        )
    if isinstance(label, int) and label < 0:
        raise DataError(f"{file}: member {member.name!r} has the label {label}", expected="0 or more")
    return label
