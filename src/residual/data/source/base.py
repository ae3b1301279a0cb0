"""What every source of samples gives: named splits of (key, bytes, label), and the names of the classes."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from residual.errors import ConfigurationError, DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "EncodedSample",
    "IgnoredFile",
    "SampleSource",
    "Split",
    "canonical_split",
    "check_class_names",
    "divide_by_name",
    "fingerprint_of",
    "held_out_by_name",
    "listed",
    "split_of_file",
]

TRAIN = "train"

# How people call the parts of a data set, and what we call them.
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """One sample as it lies in its source.

    Attributes:
        key: Name of the sample within its split, stable across machines.
        content: The bytes of the image file.
        label: Index into the classes of the data set.
    """

    key: str
    content: bytes
    label: int


@dataclass(frozen=True)
class IgnoredFile:
    """A file that lies among the samples and is not used, and why."""

    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path} is not used: {self.reason}"


class Split(Protocol):
    """One part of a data set: a fixed list of samples, read one at a time.

    ``read`` may be called in any order and from several processes.
    """

    @property
    def labels(self) -> list[int]:
        """The label of every sample, in order."""
        ...

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def key(self, index: int) -> str:
        """Return the name of sample ``index``, without reading it."""
        ...

    def read(self, index: int) -> EncodedSample:
        """Return sample ``index``; raise :class:`DataError` naming it where it cannot be read."""
        ...

    def rows(self) -> Iterator[Row]:
        """Yield what :func:`fingerprint_of` hashes of every sample, in order, without reading images."""
        ...


@dataclass(frozen=True)
class SampleSource:
    """A data set: what the DATA argument of a command names.

    Attributes:
        name: Short name, for reports and folder names.
        classes: Names of the classes; a label is an index into them.
        splits: The parts by name: ``train`` and ``val`` or ``test`` or both.
        ignored: Files among the samples that are not used.
        held_out: How the splits came to be, when the data set did not say; empty when it did.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    ignored: tuple[IgnoredFile, ...] = ()
    held_out: str = field(default="")

    def split(self, name: str) -> Split:
        """Return the split called ``name``.

        Raises:
            ConfigurationError: There is none; the message lists those that there are.
        """
        name = canonical_split(name) or name
        if name not in self.splits:
            raise ConfigurationError(
                f"{self.name} has no split {name!r}",
                expected=f"one of {', '.join(nearest(name, self.splits) or self.splits)}",
            )
        return self.splits[name]

    @property
    def evaluation_split(self) -> str:
        """Name of the split that a final figure is measured on: ``test``, else ``val``.

        Raises:
            DataError: There is only a training split.
        """
        for name in ("test", "val"):
            if name in self.splits:
                return name
        raise DataError(
            f"{self.name} has only a training split", remedy="add a folder or file called 'val' or 'test'"
        )

    @property
    def validation_split(self) -> str:
        """Name of the split that training watches: ``val``, else ``test``."""
        return "val" if "val" in self.splits else self.evaluation_split


def canonical_split(name: str) -> str | None:
    """Return ``train``, ``val`` or ``test`` for any of their usual spellings, else ``None``."""
    return _SPLIT_NAMES.get(name.casefold())


def held_out_by_name(key: str) -> bool:
    """Return whether a sample belongs to the test fifth of a data set without splits.

    Decided by the SHA-256 of the file name alone: the same on every machine, and adding files moves none.
    """
    name = key.rsplit("/", 1)[-1]
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()[0] < 51  # 51 / 256 = 0.199


def divide_by_name(
    place: Path, keys: Sequence[str], labels: Sequence[int], classes: Sequence[str], *, remedy: str
) -> dict[str, list[int]]:
    """Return which samples of a data set without splits are ``train``, and which the held-out ``test``.

    Args:
        place: The data set, for messages.
        keys: Name of every sample.
        labels: Label of every sample.
        classes: Names of the classes.
        remedy: How to name splits in this kind of data set.

    Raises:
        DataError: A class is left without a training image, or there is no test image at all.
    """
    held_out = [held_out_by_name(key) for key in keys]
    rows = {
        name: [index for index, test in enumerate(held_out) if test == (name == "test")]
        for name in (TRAIN, "test")
    }
    for name, chosen in rows.items():
        missing = set(range(len(classes))) - {labels[index] for index in chosen}
        if missing and (name == TRAIN or len(missing) == len(classes)):
            raise DataError(
                f"{place}: holding out a fifth leaves no {name} image of "
                f"{listed({classes[label] for label in missing})}",
                remedy=f"add images, or {remedy}",
            )
    return rows


HELD_OUT = "a fifth is held out by the hash of the file name"
"""What :attr:`SampleSource.held_out` says after :func:`divide_by_name`."""


def split_of_file(file: Path, root: Path) -> str | None:
    """Return the split that the first part of a file's name, or a folder between it and ``root``, names."""
    names = [re.split(r"[-_.]", file.name)[0]]
    names += [parent.name for parent in file.parents if root in parent.parents]
    return next((split for name in names if (split := canonical_split(name))), None)


def check_class_names(place: Path, classes: Sequence[str], *, remedy: str) -> None:
    """Refuse fewer than two classes, and names that a reader would take for the same.

    Args:
        place: The data set, for messages.
        classes: Names of the classes.
        remedy: How to add a class to this kind of data set.

    Raises:
        DataError: There is only one class, or two differ only in case or Unicode form.
    """
    if len(classes) < 2:
        raise DataError(
            f"{place} has only one class ({', '.join(classes)})", expected="at least 2", remedy=remedy
        )
    seen: dict[str, str] = {}
    for name in classes:
        folded = unicodedata.normalize("NFKC", name).casefold()
        if folded in seen:
            raise DataError(
                f"{place}: classes {seen[folded]!r} and {name!r} differ only in case or Unicode form",
                remedy="merge or rename them",
            )
        seen[folded] = name


def listed(names: Iterable[str]) -> str:
    """Return up to eight names, sorted, for a message."""
    ordered = sorted(names)
    return ", ".join(ordered[:8]) + (", …" if len(ordered) > 8 else "") if ordered else "none"


Row: TypeAlias = tuple[str, int, int]
"""Key, label, and size in bytes or checksum of a sample."""


def fingerprint_of(split: Split) -> str:
    """Return a hash that changes when a sample is added, removed, renamed, relabelled or resized."""
    digest = hashlib.sha256()
    for key, label, content in split.rows():
        digest.update(f"{key}\0{label}\0{content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]
