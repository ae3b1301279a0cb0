"""``shards:PATTERN``: tar files in the layout of WebDataset.

PATTERN is a folder of ``.tar`` files, one such file, a pattern (``data/train-*.tar``) or a range
(``data/train-{000000..000009}.tar``). A sample is a run of consecutive members whose names agree up to the
first dot of the file name: one image (``.jpg``, ``.jpeg``, ``.png``, ``.webp`` or ``.bmp``) and its label,
as ``.cls`` (a whole number as text) or in the field ``label`` of ``.json`` (a number or the name of a class).
The split is a word of a tar's name (``train-000000.tar``, ``pets-val-000000.tar``) or of a folder above it;
where no name says, a fixed fifth is held out by the hash of the image's name. Class names come from
``classes.json``, a list beside the tars, else from the labels.

Shards are usually read as a stream, and shuffled in a buffer. Here they are read at random: when the data
set is opened, the headers of every tar are gone through once, and the place of every image is kept in numpy
arrays, which worker processes share without copying. So shards are a split like any other. The order is the
same function of seed and epoch, workers and ranks divide it without knowing about tars, every sample comes
once an epoch, and a run resumes exactly; a stream has none of this. The price is paid twice: opening takes
about 50 µs a member, divided among the cores, and reading jumps, which a local disk and the page cache bear
and a network does not.

A tar is never unpacked. Members that would be dangerous to unpack (links, devices, names that lead out) are
refused all the same, because a tar that has them was not made for this.
"""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
import tarfile
import unicodedata
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

import numpy as np

from deepresidual.data.source.base import (
    HELD_OUT,
    TRAIN,
    EncodedSample,
    IgnoredFile,
    SampleSource,
    check_class_names,
    class_of_spelling,
    divide_by_name,
)
from deepresidual.data.source.files import data_files, files_by_split
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.runtime.cores import usable_cores
from deepresidual.runtime.files import expanded
from deepresidual.runtime.processes import WorkerPool, can_fork

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from numpy.typing import NDArray

    from deepresidual.data.source.base import Row

__all__ = ["CLASSES_FILE", "open_shards"]

CLASSES_FILE = "classes.json"
"""Beside the tars: the class names, a JSON list."""

_IMAGES = frozenset({"jpg", "jpeg", "png", "webp", "bmp"})
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")
_COMPRESSION_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")

# Far above what is sensible (a shard of WebDataset has some 10,000 samples), far below what hurts.
_MAX_MEMBERS = 1_000_000
_MAX_TARS = 1_000_000
_MAX_LABEL_BYTES = 1_000_000
_MAX_NAME_BYTES = 1024
_MAX_CLASSES = 1_000_000  # as many as a spec takes
# Long names and other extensions travel in headers of their own, which tarfile reads into memory whole.
_MAX_HEADER_BYTES = 16_384
_EXTENSIONS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)


def open_shards(pattern: str) -> SampleSource:
    """Open a data set of WebDataset tars.

    Args:
        pattern: A folder, a file, a glob pattern or a brace pattern.

    Raises:
        DataError: There are no tars, one is damaged or has members that are refused, or a sample lacks its
            image or label; the message names it.
        ConfigurationError: The pattern is a command or an address.
    """
    ignored: list[IgnoredFile] = []
    root, files = _find(pattern, ignored)
    # Whoever lists tars or ranges of them may want a part of the data set; a folder or * means all of it.
    complete = "*" in pattern or expanded(pattern).is_dir()
    parts = files_by_split(root, files, ignored, complete=complete)
    tables = {name: _Table.read(root, group, ignored) for name, group in parts.items()}
    classes, numbers = _class_names(root, files, list(tables.values()))
    check_class_names(root, classes, remedy="add samples of another class")
    splits = {name: table.split(numbers) for name, table in tables.items()}
    held_out = ""
    if None in splits:
        whole = splits.pop(None)
        keys = [whole.key(index) for index in range(len(whole))]
        rows = divide_by_name(
            root, keys, whole.labels, classes, remedy="name the tars train-*.tar and test-*.tar"
        )
        splits |= {name: whole.select(chosen) for name, chosen in rows.items()}
        held_out = HELD_OUT
    ordered = dict(
        sorted(((str(name), split) for name, split in splits.items()), key=lambda item: item[0] != TRAIN)
    )
    file = expanded(pattern)
    name = file.stem if file.is_file() else root.resolve().name or "shards"
    return SampleSource(name, classes, ordered, tuple(ignored), held_out)


@dataclass(frozen=True, eq=False)
class ShardsSplit:
    """Samples of one split: where in which tar every image lies.

    Attributes:
        root: Folder from which the tars are named.
        tars: Their names.
        places: ``(N, 3)`` int64: number of the tar, offset of the image in it, size in bytes.
        names: The names of the images, one behind the other, as uint8.
        name_ends: ``(N,)`` int64: where each name ends.
        targets: ``(N,)`` int64, the labels.
    """

    root: Path
    tars: tuple[str, ...]
    places: NDArray[np.int64]
    names: NDArray[np.uint8]
    name_ends: NDArray[np.int64]
    targets: NDArray[np.int64]

    @property
    def labels(self) -> list[int]:
        """The label of every sample."""
        return [int(label) for label in self.targets]

    def __len__(self) -> int:
        return len(self.targets)

    def key(self, index: int) -> str:
        """Return the name of the tar and of the image in it."""
        return f"{self.tars[self.places[index, 0]]}/{self._name(index)}"

    def _name(self, index: int) -> str:
        first = self.name_ends[index - 1] if index else 0
        return os.fsdecode(self.names[first : self.name_ends[index]].tobytes())

    def read(self, index: int) -> EncodedSample:
        """Return sample ``index``."""
        key = self.key(index)
        tar, offset, size = (int(value) for value in self.places[index])
        try:
            # Opened anew each time: 12 µs, and neither a limit of open files nor a fork can get in the way.
            with (self.root / self.tars[tar]).open("rb", buffering=0) as file:
                file.seek(offset)
                content = file.read(size)
        except OSError as error:
            raise DataError(f"{key} cannot be read ({error.strerror})") from error
        if len(content) < size:
            raise DataError(f"{key} cannot be read (the tar has become shorter)")
        return EncodedSample(key, content, int(self.targets[index]))

    def rows(self) -> Iterator[Row]:
        """Yield name, label and size of every image."""
        keys = (self.key(index) for index in range(len(self)))
        yield from zip(keys, self.labels, self.places[:, 2].tolist(), strict=True)

    def select(self, rows: Sequence[int]) -> ShardsSplit:
        """Return the split that holds only ``rows``."""
        names = [os.fsencode(self._name(row)) for row in rows]
        return ShardsSplit(
            self.root,
            self.tars,
            self.places[rows],
            np.frombuffer(b"".join(names), dtype=np.uint8),
            np.cumsum([len(name) for name in names], dtype=np.int64),
            self.targets[rows],
        )


# -- which tars -------------------------------------------------------------------------------------------


def _find(pattern: str, ignored: list[IgnoredFile]) -> tuple[Path, list[Path]]:
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
        files = data_files(path, (".tar", *_COMPRESSED), ignored)
        compressed = [file for file in files if file.name.casefold().endswith(_COMPRESSED)]
        tars = [file for file in files if file.suffix.casefold() == ".tar"]
        if not tars and not compressed:
            raise DataError(f"{path} holds no .tar files", expected="train-000000.tar and so on")
        for file in compressed[:1]:
            raise _compressed(file)
        return path, tars
    tars = [path] if path.is_file() else _matching(str(path))
    for tar in tars:
        if not tar.is_file():
            raise DataError(f"{tar} does not exist", expected=f"every tar of {pattern}")
    if not tars:
        raise DataError(f"no file matches {pattern}", expected="tars such as train-000000.tar")
    # Patterns may give a tar twice.
    return Path(os.path.commonpath([tar.parent for tar in tars])), sorted(set(tars))


def _compressed(file: Path) -> DataError:
    return DataError(
        f"{file} is compressed, so that nothing in it can be found without unpacking what is before",
        expected="plain .tar files",
        remedy="unpack it, as with gunzip",
    )


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


# -- what is in a tar -------------------------------------------------------------------------------------


class _Member(NamedTuple):
    name: str
    offset: int
    size: int


class _Header(tarfile.TarInfo):
    """A header that is checked before tarfile acts on it.

    Earlier patch releases of Python follow a negative size backwards for ever (CVE-2025-8194) and search a
    long extended header in quadratic time (CVE-2024-6232).
    """

    def _proc_member(self, archive: tarfile.TarFile) -> Self:
        if self.size < 0 or (self.type in _EXTENSIONS and self.size > _MAX_HEADER_BYTES):
            raise tarfile.ReadError(f"a header declares {self.size:,} bytes")
        # The documented place to step in, though typeshed does not know it.
        header: Self = super()._proc_member(archive)  # type: ignore[misc]
        return header


def _members(file: Path, stream: BinaryIO) -> Iterator[_Member]:
    """Yield the plain files in a tar, in their order; between two of them the stream may be read elsewhere.

    Raises:
        DataError: The tar is damaged, truncated or compressed, or a member is refused.
    """
    try:
        size = os.fstat(stream.fileno()).st_size
        if stream.read(8).startswith(_COMPRESSION_MAGIC):
            raise _compressed(file)
        stream.seek(0)
        with tarfile.open(fileobj=stream, mode="r:", tarinfo=_Header, encoding="utf-8") as archive:
            yield from _checked(file, size, archive)
            _check_end(stream, archive.offset)
    # Beside its own errors tarfile lets through what int() and its recursion raise on hostile headers.
    except (tarfile.TarError, ValueError, IndexError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{file} is damaged or no tar ({reason})", remedy="copy or make it again") from error


def _checked(file: Path, size: int, archive: tarfile.TarFile) -> Iterator[_Member]:
    count, position = 0, 0
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
        count += 1
        if count > _MAX_MEMBERS:
            raise DataError(f"{file} has more than {_MAX_MEMBERS:,} members", remedy="make smaller shards")
        _check_member(file, member)
        if member.size < 0 or member.offset_data + member.size > size:
            raise tarfile.ReadError(f"{member.name[:80]!r} goes on behind the end of the file")
        if member.offset < position:
            raise tarfile.ReadError(f"the header of {member.name[:80]!r} leads backwards")
        position = member.offset_data
        if member.isfile():
            yield _Member(member.name, member.offset_data, member.size)


def _check_member(file: Path, member: tarfile.TarInfo) -> None:
    """Refuse what a tar of samples never holds and what would be dangerous to unpack."""
    if member.name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", member.name) or "\0" in member.name:
        kind = "leads out of the archive"
    elif not (member.isfile() or member.isdir()):
        kind = (
            "is a link" if member.issym() or member.islnk() else "is a device, a pipe or of an unknown kind"
        )
    elif member.issparse():
        kind = "is stored with holes"
    elif len(os.fsencode(member.name)) > _MAX_NAME_BYTES:
        kind = f"has a name of more than {_MAX_NAME_BYTES:,} bytes"
    else:
        return
    raise DataError(
        f"{file}: member {member.name[:80]!r} {kind}", expected="plain files", remedy="make the tar again"
    )


def _check_end(stream: BinaryIO, position: int) -> None:
    """Make sure that the tar ends where its headers end; tarfile takes any nonsense there for the end."""
    stream.seek(position)
    block = stream.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it ends early, without the mark of its end")
    if block.strip(b"\0"):
        raise tarfile.ReadError(f"no header, and not the end, at byte {position:,}")
    while block := stream.read(1 << 20):
        if block.strip(b"\0"):
            raise tarfile.ReadError("data follow its end, as where two tars were joined")


# -- from members to samples ------------------------------------------------------------------------------


@dataclass
class _Sample:
    """The members of one name: the image and the label, as far as they have come."""

    name: str
    image: _Member | None = None
    label: int | str | None = None
    has_class_member: bool = False


@dataclass
class _Index:
    """The samples of one tar: offset and size of every image, its name, its label."""

    places: array[int] = field(default_factory=lambda: array("q"))
    names: bytearray = field(default_factory=bytearray)
    name_lengths: array[int] = field(default_factory=lambda: array("q"))
    labels: list[int | str] = field(default_factory=list)
    ignored: list[IgnoredFile] = field(default_factory=list)


def _index(file: Path) -> _Index:
    """Go through the headers of a tar."""
    index = _Index()
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


def _indices(files: Sequence[Path]) -> Iterator[_Index]:
    """Yield the index of every tar, in order; of many, made by as many processes as there are cores."""
    workers = min(usable_cores(), len(files))
    if workers < 2 or len(files) < _MANY_TARS or not can_fork():
        yield from map(_index, files)
        return
    with WorkerPool(workers, _nothing) as pool:
        yield from pool.map(_index, files)


def _nothing() -> None:
    """Begin a process that needs no preparation."""


# A pool takes some 50 ms to start, as long as the headers of 500 samples.
_MANY_TARS = 8


@dataclass(frozen=True)
class _Table:
    """The samples of one split, before it is known what their labels mean."""

    root: Path
    tars: tuple[str, ...]
    places: NDArray[np.int64]
    names: NDArray[np.uint8]
    name_ends: NDArray[np.int64]
    labels: list[int | str]

    @classmethod
    def read(cls, root: Path, files: Sequence[Path], ignored: list[IgnoredFile]) -> _Table:
        places, lengths, names = [], [], bytearray()
        labels: list[int | str] = []
        for number, index in enumerate(_indices(files)):
            where = np.frombuffer(index.places, dtype=np.int64).reshape(-1, 2)
            places.append(np.insert(where, 0, number, axis=1))
            lengths.append(np.frombuffer(index.name_lengths, dtype=np.int64))
            names += index.names
            labels += index.labels
            ignored += index.ignored
        if not labels:
            raise DataError(f"{files[0]} holds no samples", expected="an image and a label of the same name")
        tars = tuple(file.relative_to(root).as_posix() for file in files)
        ends = np.cumsum(np.concatenate(lengths))
        return cls(
            root, tars, np.concatenate(places), np.frombuffer(bytes(names), dtype=np.uint8), ends, labels
        )

    def key(self, index: int) -> str:
        """Return the name of the tar and of the image in it."""
        first = self.name_ends[index - 1] if index else 0
        name = os.fsdecode(self.names[first : self.name_ends[index]].tobytes())
        return f"{self.tars[self.places[index, 0]]}/{name}"

    def split(self, numbers: dict[int | str, int]) -> ShardsSplit:
        targets = np.array([numbers[label] for label in self.labels], dtype=np.int64)
        return ShardsSplit(self.root, self.tars, self.places, self.names, self.name_ends, targets)


def _samples(file: Path, stream: BinaryIO, ignored: list[IgnoredFile]) -> Iterator[_Sample]:
    """Yield the samples of a tar; name the members that belong to none."""
    sample = _Sample("")
    others: list[str] = []
    for member in _members(file, stream):
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


def _content(file: Path, member: _Member, stream: BinaryIO) -> bytes:
    if member.size > _MAX_LABEL_BYTES:
        raise DataError(f"{file}: member {member.name!r} has {member.size:,} bytes", expected="a label")
    stream.seek(member.offset)
    return stream.read(member.size)


def _number_in(file: Path, member: _Member, stream: BinaryIO) -> int:
    text = _content(file, member, stream).strip()
    if not re.fullmatch(rb"[0-9]{1,9}", text):
        raise DataError(
            f"{file}: member {member.name!r} holds {text[:40]!r}", expected="the number of a class as text"
        )
    return int(text)


def _label_in(file: Path, member: _Member, stream: BinaryIO) -> int | str | None:
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


# -- the classes ------------------------------------------------------------------------------------------


def _class_names(
    root: Path, files: Sequence[Path], tables: Collection[_Table]
) -> tuple[tuple[str, ...], dict[int | str, int]]:
    """Return the class names, and the number of the class that each label means."""
    numbers = sorted({label for table in tables for label in table.labels if isinstance(label, int)})
    texts = [{label for label in table.labels if isinstance(label, str)} for table in tables]
    meaning: dict[int | str, int] = {}
    if declared := _declared(root, files):
        by_form = {_nfc(name): number for number, name in enumerate(declared)}
        meaning.update({number: number for number in numbers if 0 <= number < len(declared)})
        meaning.update(
            {text: by_form[_nfc(text)] for group in texts for text in group if _nfc(text) in by_form}
        )
        for table in tables:
            for place, label in enumerate(table.labels):
                if label not in meaning:
                    raise DataError(
                        f"{root}: {table.key(place)} has the label {repr(label)[:80]}, "
                        f"which is not in {CLASSES_FILE}",
                        expected=f"0 to {len(declared) - 1:,} or one of its names",
                    )
        return declared, meaning
    if numbers and any(texts):
        raise DataError(f"{root}: some labels are numbers and some are names", remedy="use one of them")
    spellings = class_of_spelling(root, texts)
    names = sorted(set(spellings.values()))
    if max(len(numbers), len(names)) > _MAX_CLASSES:
        raise DataError(
            f"{root} has {max(len(numbers), len(names)):,} different labels",
            expected=f"at most {_MAX_CLASSES:,}",
        )
    meaning.update({number: place for place, number in enumerate(numbers)})
    places = {name: place for place, name in enumerate(names)}
    meaning.update({spelling: places[name] for spelling, name in spellings.items()})
    return tuple(map(str, numbers)) or tuple(names), meaning


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _declared(root: Path, files: Sequence[Path]) -> tuple[str, ...] | None:
    """Return the class names that a file beside the tars lists, where there is one."""
    found: dict[Path, tuple[str, ...]] = {}
    for folder in dict.fromkeys([root, *(file.parent for file in files)]):
        if (file := folder / CLASSES_FILE).is_file():
            found[file] = _read_classes(file)
    if len(set(found.values())) > 1:
        raise DataError(f"{' and '.join(map(str, list(found)[:2]))} differ", remedy="keep one")
    return next(iter(found.values()), None)


def _read_classes(file: Path) -> tuple[str, ...]:
    try:
        names = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is no JSON ({error})") from error
    if not (isinstance(names, list) and names and all(isinstance(name, str) and name for name in names)):
        raise DataError(f"{file} is no list of class names", expected='["cat", "dog"] and the like')
    if len(set(names)) != len(names):
        raise DataError(f"{file} names a class twice")
    return tuple(names)
