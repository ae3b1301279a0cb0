"""Read the samples of shards at random."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.source.archive import stamp_of
from deepresidual.data.source.base import EncodedSample, IgnoredFile, LabelledSplit
from deepresidual.data.source.shards.index import tar_indices
from deepresidual.errors import DataError


@dataclass(frozen=True, eq=False)
class ShardsSplit(LabelledSplit):
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

    def __post_init__(self) -> None:
        object.__setattr__(self, "_labels", self.targets)

    def key(self, index: int) -> str:
        """Return the name of the tar and of the image in it."""
        first = self.name_ends[index - 1] if index else 0
        name = os.fsdecode(self.names[first : self.name_ends[index]].tobytes())
        return f"{self.tars[self.places[index, 0]]}/{name}"

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

    def stamps(self) -> list[bytes] | None:
        """Return a stamp of every image; ``None`` where a tar cannot be had."""
        try:
            tars = [stamp_of(self.root / tar) for tar in self.tars]
        except OSError:
            return None
        return [tars[tar] + f"{offset} {size}".encode() for tar, offset, size in self.places.tolist()]

    def _contents(self) -> list[int]:
        sizes: list[int] = self.places[:, 2].tolist()
        return sizes


@dataclass(frozen=True)
class Table:
    """The samples of one split, before it is known what their labels mean.

    Attributes:
        unlabelled: Where every image lies.
        labels: Their labels as the tars have them: numbers or names.
    """

    unlabelled: ShardsSplit
    labels: list[int | str]

    @classmethod
    def read(cls, root: Path, files: Sequence[Path], ignored: list[IgnoredFile]) -> Table:
        """Index tars; append what belongs to no sample to ``ignored``."""
        places, lengths, names = [], [], bytearray()
        labels: list[int | str] = []
        for number, index in enumerate(tar_indices(files)):
            where = np.frombuffer(index.places, dtype=np.int64).reshape(-1, 2)
            places.append(np.insert(where, 0, number, axis=1))
            lengths.append(np.frombuffer(index.name_lengths, dtype=np.int64))
            names += index.names
            labels += index.labels
            ignored += index.ignored
        if not labels:
            raise DataError(f"{files[0]} holds no samples", expected="an image and a label of the same name")
        unlabelled = ShardsSplit(
            root,
            tuple(file.relative_to(root).as_posix() for file in files),
            np.concatenate(places),
            np.frombuffer(bytes(names), dtype=np.uint8),
            np.cumsum(np.concatenate(lengths)),
            np.zeros(0, dtype=np.int64),
        )
        return cls(unlabelled, labels)

    def split(self, numbers: dict[int | str, int]) -> ShardsSplit:
        """Return the split, given the number of the class that each label means."""
        targets = np.array([numbers[label] for label in self.labels], dtype=np.int64)
        return replace(self.unlabelled, targets=targets)
