"""Interface of data sets: named splits of encoded samples, and the names of the classes."""

from __future__ import annotations

import hashlib
import re
import unicodedata
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from deepresidual.errors import ConfigurationError, DataError, nearest
from deepresidual.errors import listed as listed_in_order
from deepresidual.preprocess import Preprocess

TRAIN = "train"
DETECTION = "detection"
"""Value of :attr:`SampleSource.task` where images have boxes."""
ObjectTask: TypeAlias = Literal["detect", "segment"]
"""What is learned of objects. ``detect``: boxes alone. ``segment``: boxes and masks."""
WHOLE = "whole"
"""Name of :attr:`SampleSource.whole` in :attr:`SampleSource.groups`."""

TAUGHT = {
    "classification": "one class an image",
    "multilabel": "several labels an image",
    "detection": "boxes of objects",
}
"""What samples of each task have, for messages."""

# Usual spellings of the names of splits.
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


Target: TypeAlias = Any
"""Training target of one sample; an ``int`` in classification. One that has places (:class:`Located`) follows
the pixels into each view."""


Targets: TypeAlias = Any
"""The targets of a batch: a tensor; of targets with places what their ``stacked`` returns, which is sliced
and moved like one."""


@runtime_checkable
class Located(Protocol):
    """A target that has places, such as boxes."""

    def seen(self, window: Any, seed: int = 0) -> Any:
        """Return the target as a view of the image shows it (:class:`deepresidual.data.augment.Window`)."""
        ...

    @classmethod
    def stacked(cls, targets: Any) -> Targets:
        """Return the targets of a batch."""
        ...


@dataclass(frozen=True, slots=True)
class EncodedSample:
    """One sample as it lies in its source.

    Attributes:
        key: Name of the sample within its split, stable across machines.
        content: The bytes of the image file.
        target: What it is: of classification an index into the classes of the data set.
    """

    key: str
    content: bytes
    target: Target


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
        """The class of every sample, in order, without reading it; what a sample teaches is its target."""
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
        """Yield key, label and size or checksum of every sample, in order, without reading images.

        A resumed run is refused where its rows have changed. A target that is no label is in them as a
        checksum, in the place of the label; else it could change unnoticed.
        """
        ...


class LabelledSplit:
    """Base of the splits whose labels lie in an array, which worker processes share without copying.

    A split of one's own needs :meth:`key` and :meth:`read`; see docs/how-to/own-data.md.

    Args:
        labels: ``(N,)`` whole numbers, indices into the classes of the data set.
    """

    def __init__(self, labels: ArrayLike) -> None:
        self._labels = np.asarray(labels, dtype=np.int64)

    @property
    def labels(self) -> list[int]:
        """The label of every sample."""
        return [int(label) for label in self._labels]

    def __len__(self) -> int:
        return len(self._labels)

    def key(self, index: int) -> str:
        """Return the name of sample ``index``."""
        raise NotImplementedError

    def read(self, index: int) -> EncodedSample:
        """Return sample ``index``."""
        raise NotImplementedError

    def rows(self) -> Iterator[Row]:
        """Yield key, label, and size or checksum of every sample."""
        keys = (self.key(index) for index in range(len(self)))
        yield from zip(keys, self.labels, self._contents(), strict=True)

    def _contents(self) -> Iterable[int]:
        """Return the size in bytes or a checksum of every sample."""
        return (zlib.crc32(self.read(index).content) for index in range(len(self)))


@dataclass(frozen=True, repr=False)
class SampleSource:
    """A data set: what the DATA argument of a command names.

    Attributes:
        name: Short name, for reports and folder names.
        classes: Names of the classes, an output of the network each; a label is an index into them.
        splits: The parts by name: ``train`` and ``val`` or ``test`` or both.
        ignored: Files among the samples that are not used.
        whole: All samples, where the data set names no splits.
        groups: Of a split, and of ``whole``, the unit of every sample: those of equal ones are held out
            together or not at all. Default: each by its own name.
        held_out: How the splits came to be, when the data set did not say; empty when it did.
        notes: What else has to be said of the splits, a sentence each.
        is_permuted: Whether training samples are held out by a fixed permutation, since they have no names.
        preprocess: How a network that begins from nothing sees the images. Default: by the network.
        suggested_recipe: Name of the recipe for them. Default: by the network.
        task: What can be learned from it.
        location: The argument that opens it again, from every folder; empty where there is none.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    ignored: tuple[IgnoredFile, ...] = ()
    held_out: str = ""
    preprocess: Preprocess | None = None
    suggested_recipe: str | None = None
    task: str = "classification"
    whole: Split | None = None
    groups: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_permuted: bool = False
    location: str = ""

    def __repr__(self) -> str:
        splits = ", ".join(f"{len(split):,} {name}" for name, split in self.splits.items())
        counted = "1 class" if len(self.classes) == 1 else f"{len(self.classes):,} classes"
        classes = f"{counted} ({listed_in_order(self.classes, 3)})"
        return f"SampleSource({self.name}: {splits or 'no splits'}; {classes})"

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
            f"{self.name} has only a training split{self._unused}",
            remedy="add a folder or file called 'val' or 'test', "
            "or hold out training images with --validation 0.2",
        )

    @property
    def validation_split(self) -> str:
        """Name of the split that training watches: ``tune``, else ``val``, else ``test``."""
        return next((name for name in ("tune", "val") if name in self.splits), self.evaluation_split)

    @property
    def _unused(self) -> str:
        """Clause for a message on a missing split: the ignored file that is named like one."""
        return next((f" ({file})" for file in self.ignored if _is_called_like_a_split(file.path)), "")

    def require_training_splits(self) -> None:
        """Refuse a data set without a split to train on or one to measure on.

        Raises:
            DataError: There is no training split, or nothing else.
        """
        if TRAIN not in self.splits:
            raise DataError(
                f"{self.name} has no training split{self._unused}",
                expected="a folder or file called 'train'",
            )
        _ = self.validation_split


def canonical_split(name: str) -> str | None:
    """Return ``train``, ``val`` or ``test`` for any of their usual spellings, else ``None``."""
    return _SPLIT_NAMES.get(name.casefold())


def _is_called_like_a_split(path: str) -> bool:
    whole, name = path.rstrip("/"), path.rsplit("/", 1)[-1]
    if name.casefold().endswith((".parquet", ".tar")):
        whole = re.split(r"[-_.]", name)[0]
    return canonical_split(whole) is not None


def check_class_names(place: Path, classes: Sequence[str], *, remedy: str, minimum: int = 2) -> None:
    """Refuse too few classes, and names that a reader would take for the same.

    Args:
        place: The data set, for messages.
        classes: Names of the classes.
        remedy: How to add a class to this kind of data set.
        minimum: How many there have to be; 1 where a class is told from a background.

    Raises:
        DataError: There are fewer classes, or two differ only in case or Unicode form.
    """
    if len(classes) < minimum:
        raise DataError(
            f"{place} has only one class ({classes[0]})" if classes else f"{place} has no classes",
            expected=f"at least {minimum}",
            remedy=remedy,
        )
    seen: dict[str, str] = {}
    for name in classes:
        # Bytes of a file name that are not UTF-8 arrive as U+DC80 to U+DCFF, and leave as they came.
        if re.search("[\ud800-\udc7f\udd00-\udfff]", name):
            raise DataError(f"{place}: the class {name!r} is no text", expected="whole characters")
        folded = unicodedata.normalize("NFKC", name).casefold()
        if folded in seen:
            raise _twins(place, seen[folded], name)
        seen[folded] = name


def class_of_spelling(place: Path, parts: Iterable[Collection[str]]) -> dict[str, str]:
    """Return the class that every spelling of a name means, for splits from different systems.

    macOS hands out names in which é is e and an accent (NFD); other systems have one character (NFC).
    Where two splits spell a name in these two ways, both mean the class of the name in NFC; a name that has
    one spelling stays as it is.

    Args:
        place: The data set, for messages.
        parts: The names that occur, for each split.

    Raises:
        DataError: One split spells a name in two ways.
    """
    spellings: dict[str, set[str]] = {}
    for names in parts:
        here: dict[str, str] = {}
        for name in sorted(names):
            normal = unicodedata.normalize("NFC", name)
            if normal in here:
                raise _twins(place, here[normal], name)
            here[normal] = name
            spellings.setdefault(normal, set()).add(name)
    return {name: normal if len(forms) > 1 else name for normal, forms in spellings.items() for name in forms}


def _twins(place: Path, one: str, other: str) -> DataError:
    alike = unicodedata.normalize("NFKC", one) == unicodedata.normalize("NFKC", other)
    shown = [ascii(name) if alike else repr(name) for name in (one, other)]
    return DataError(
        f"{place}: classes {shown[0]} and {shown[1]} differ only in case or Unicode form",
        remedy="merge or rename them",
    )


def told_apart(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return names for a message, with escapes where a reader could not tell one from one of ``others``."""
    forms = {unicodedata.normalize("NFKC", other) for other in others}
    return [ascii(name)[1:-1] if unicodedata.normalize("NFKC", name) in forms else name for name in names]


def listed(names: Iterable[str]) -> str:
    """Return up to eight names, sorted, for a message."""
    ordered = sorted(names)
    return ", ".join(ordered[:8]) + (", …" if len(ordered) > 8 else "") if ordered else "none"


Row: TypeAlias = tuple[str, int, int]
"""Key, label or checksum of the target, and size in bytes or checksum of a sample."""


def names_of(split: Split) -> list[str]:
    """Return the name of every sample as its row has it, without reading any."""
    names = getattr(split, "row_names", None)
    return list(names()) if names is not None else [split.key(index) for index in range(len(split))]


def stamps_of(split: Split) -> list[bytes] | None:
    """Return for every sample what changes when its file does, without reading it; ``None``: not known."""
    stamps = getattr(split, "stamps", None)
    found: list[bytes] | None = None if stamps is None else stamps()
    return found


def fingerprint_of(split: Split) -> str:
    """Return a hash that changes when a sample is added, removed, renamed, relabelled or resized."""
    digest = hashlib.sha256()
    for key, label, content in split.rows():
        digest.update(f"{key}\0{label}\0{content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]
