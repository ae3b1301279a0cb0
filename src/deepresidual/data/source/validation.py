"""Hold out training samples for validation, so that test samples do not decide about training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from deepresidual.data.source.base import EncodedSample, Row, SampleSource, Split
from deepresidual.errors import ConfigurationError


class Subset:
    """Some samples of a split; :meth:`rows` yields them in the split's order."""

    def __init__(self, split: Split, indices: ArrayLike) -> None:
        self._split = split
        self._indices = np.asarray(indices, dtype=np.int64)

    @property
    def labels(self) -> list[int]:
        """The label of every sample."""
        labels = self._split.labels
        return [labels[index] for index in self._indices.tolist()]

    def __len__(self) -> int:
        return len(self._indices)

    def key(self, index: int) -> str:
        """Return the name of sample ``index`` of the subset."""
        return self._split.key(int(self._indices[index]))

    def read(self, index: int) -> EncodedSample:
        """Return sample ``index`` of the subset."""
        return self._split.read(int(self._indices[index]))

    def rows(self) -> Iterator[Row]:
        """Yield the split's rows of these samples."""
        chosen = set(self._indices.tolist())
        yield from (row for index, row in enumerate(self._split.rows()) if index in chosen)


def hold_out_by_class(source: SampleSource, share: float) -> SampleSource:
    """Return the data set with some training samples of each class held out, for choosing by.

    The new split is ``val``; where there is one, which then gives the final figure, it is ``tune``. The same
    samples every time: of each class the first of a fixed permutation.

    Args:
        source: The data set.
        share: Share of the training samples of each class, above 0 and at most 0.5.
    """
    train = source.split("train")
    labels = np.asarray(train.labels)
    random = np.random.Generator(np.random.PCG64(0))
    held_out = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        held_out[members[: round(share * len(members))]] = True
    splits: dict[str, Split] = {
        "train": Subset(train, np.flatnonzero(~held_out)),
        "tune" if "val" in source.splits else "val": Subset(train, np.flatnonzero(held_out)),
        **{name: split for name, split in source.splits.items() if name != "train"},
    }
    return dataclasses.replace(source, splits=splits)


def hold_out(source: SampleSource, share: float) -> SampleSource:
    """Return the data set with a ``val`` split of some of its training samples.

    The same samples every time: the first of a fixed permutation, as many as ``share`` says (He et al. 2015,
    section 4.2, hold out 5,000 of 50,000).

    Args:
        source: The data set.
        share: Share of the training samples, 0 to 0.5; 0 returns the data set as it is.

    Raises:
        ConfigurationError: The share is out of range, or the data set has validation samples already.
    """
    if share == 0:
        return source
    if not 0 < share <= 0.5:
        raise ConfigurationError(f"validation is {share}", expected="a share from 0 to 0.5")
    if "val" in source.splits:
        raise ConfigurationError(
            f"{source.name} has a validation split already", remedy="leave out --validation"
        )
    train = source.split("train")
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(train))
    count = round(share * len(train))
    if not 0 < count < len(train):
        raise ConfigurationError(
            f"validation is {share} of {len(train)} training images", expected="at least one on each side"
        )
    held_out, kept = np.sort(order[:count]), np.sort(order[count:])
    splits: dict[str, Split] = {
        "train": Subset(train, kept),
        "val": Subset(train, held_out),
        **{name: split for name, split in source.splits.items() if name != "train"},
    }
    return dataclasses.replace(source, splits=splits)
