"""Several labels an image: a split whose targets are vectors of zeros and ones, and how it is divided.

Multi-label classification: each class is there or not, whatever the others are. An image may have no label.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepresidual.data.source.base import TRAIN, EncodedSample, Row, SampleSource, Split, stamps_of
from deepresidual.data.source.validation import Subset
from deepresidual.errors import DataError

MULTILABEL = "multilabel"
"""Value of :attr:`SampleSource.task` where images have several labels."""

LabelsChoice: TypeAlias = Literal["one", "several"]
"""How many labels an image has, where that is asked for."""


@runtime_checkable
class HasTargets(Protocol):
    """A split that knows all its targets."""

    @property
    def targets(self) -> NDArray[np.bool_]:
        """``(N, K)``: which of K classes each sample has."""
        ...


class MultilabelSplit:
    """A split of images with any number of labels each.

    Args:
        split: The images, with the stratum of each (:func:`rarest_labels`) as label.
        targets: ``(N, K)``: which of K classes each image has.
    """

    def __init__(self, split: Split, targets: ArrayLike) -> None:
        self._split = split
        self._targets = np.asarray(targets, dtype=np.bool_)

    @property
    def targets(self) -> NDArray[np.bool_]:
        """``(N, K)``: which of K classes each image has."""
        return self._targets

    @property
    def labels(self) -> list[int]:
        """The stratum of every image: the rarest of its labels, K where it has none."""
        return self._split.labels

    def __len__(self) -> int:
        return len(self._targets)

    def key(self, index: int) -> str:
        """Return the name of sample ``index``."""
        return self._split.key(index)

    def read(self, index: int) -> EncodedSample:
        """Return sample ``index``; its target is a tuple of K zeros and ones."""
        sample = self._split.read(index)
        return EncodedSample(sample.key, sample.content, _vector(self._targets[index]))

    def stamps(self) -> list[bytes] | None:
        """Return the stamps of the images."""
        return stamps_of(self._split)

    def rows(self) -> Iterator[Row]:
        """Yield key, checksum of the labels, and size of every sample."""
        for (key, _, content), target in zip(self._split.rows(), self._targets, strict=True):
            yield key, zlib.crc32(np.packbits(target).tobytes()), content


class RelabelledTargets:
    """Samples whose targets are in the order of a model's labels instead of those of the data set.

    Args:
        split: The samples.
        rows: The model's row of every class of the data set.
        num_labels: How many rows there are.
    """

    def __init__(self, split: Split, rows: Sequence[int], num_labels: int) -> None:
        self._split, self._rows, self._num_labels = split, list(rows), num_labels

    def __len__(self) -> int:
        return len(self._split)

    def read(self, index: int) -> EncodedSample:
        """Return sample ``index``."""
        sample = self._split.read(index)
        target = np.zeros(self._num_labels, dtype=np.bool_)
        target[self._rows] = np.asarray(sample.target) > 0.5
        return EncodedSample(sample.key, sample.content, _vector(target))


def _vector(target: NDArray[np.bool_]) -> tuple[float, ...]:
    return tuple(target.astype(float).tolist())


def targets_of(split: Split) -> NDArray[np.bool_]:
    """Return the targets of a split of images with several labels, ``(N, K)``."""
    if isinstance(split, HasTargets):
        return split.targets
    if isinstance(split, Subset):
        return targets_of(split.split)[split.indices]
    return np.array([split.read(index).target for index in range(len(split))]) > 0.5  # one of the user's own


def rarest_labels(targets: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the rarest label of every image, K of one without any, ``(N,)``.

    As strata they spread the rare labels over the splits, where a common one comes to be spread anyway: one
    pass of the iterative stratification of Sechidis et al. 2011.

    Args:
        targets: ``(N, K)``.
    """
    counts = targets.sum(axis=0)
    rarity = np.where(targets, counts, len(targets) + 1)
    rarest: NDArray[np.int64] = np.where(targets.any(axis=1), rarity.argmin(axis=1), targets.shape[1]).astype(
        np.int64
    )
    return rarest


def require_all_labels(place: Path, classes: Sequence[str], targets: NDArray[np.bool_]) -> None:
    """Refuse a label that no training image has.

    Args:
        place: The data set, for messages.
        classes: Names of the labels.
        targets: ``(N, K)`` of the training images.

    Raises:
        DataError: There is one.
    """
    absent = [name for name, count in zip(classes, targets.sum(axis=0).tolist(), strict=True) if not count]
    if absent:
        raise DataError(
            f"{place} has no training image with the label {absent[0]!r}",
            expected="at least one of every label",
            remedy="add images, or remove the label",
        )


def labels_in_words(source: SampleSource) -> str:
    """Return how many training images have each label, and how many have none."""
    targets = targets_of(source.split(TRAIN))
    counts = zip(source.classes, targets.sum(axis=0).tolist(), strict=True)
    most = sorted(counts, key=lambda pair: -pair[1])
    listed = ", ".join(f"{name} {count:,}" for name, count in most[:8]) + (", …" if len(most) > 8 else "")
    without = int((~targets.any(axis=1)).sum())
    return f"several labels an image: {listed}; {without:,} without any"
