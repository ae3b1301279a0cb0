"""Hold out training samples for validation, so that test samples do not decide about training."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepresidual.data.source.base import (
    TRAIN,
    EncodedSample,
    Row,
    SampleSource,
    Split,
    names_of,
    stamps_of,
)
from deepresidual.data.source.stratified import held_out, unit_of
from deepresidual.errors import ConfigurationError


class Subset:
    """Some samples of a split, in the order of their places; :meth:`rows` yields them in the same order.

    Args:
        split: The split.
        indices: Places in it, each once.
    """

    def __init__(self, split: Split, indices: ArrayLike) -> None:
        self.split = split
        self._indices = np.asarray(indices, dtype=np.int64)

    @property
    def indices(self) -> NDArray[np.int64]:
        """Place of every sample in :attr:`split`."""
        return self._indices

    @property
    def labels(self) -> list[int]:
        """The label of every sample."""
        labels = self.split.labels
        return [labels[index] for index in self._indices.tolist()]

    def __len__(self) -> int:
        return len(self._indices)

    def key(self, index: int) -> str:
        """Return the name of sample ``index`` of the subset."""
        return self.split.key(int(self._indices[index]))

    def read(self, index: int) -> EncodedSample:
        """Return sample ``index`` of the subset."""
        return self.split.read(int(self._indices[index]))

    def row_names(self) -> list[str]:
        """Return the names of the split's rows of these samples."""
        names = names_of(self.split)
        return [names[index] for index in self._indices.tolist()]

    def stamps(self) -> list[bytes] | None:
        """Return the split's stamps of these samples."""
        stamps = stamps_of(self.split)
        return None if stamps is None else [stamps[index] for index in self._indices.tolist()]

    def rows(self) -> Iterator[Row]:
        """Yield the split's rows of these samples."""
        chosen = set(self._indices.tolist())
        rows = ((index, row) for index, row in enumerate(self.split.rows()) if index in chosen)
        if (np.diff(self._indices) > 0).all():
            yield from (row for _, row in rows)
        else:
            places = dict(rows)
            yield from (places[index] for index in self._indices.tolist())


def hold_out(source: SampleSource, share: float, name: str = "val") -> SampleSource:
    """Return the data set with a split of some of its training samples.

    The same samples every time, and by the rule by which a data set without splits is divided: of each class
    those whose names have the smallest hashes, groups whole (:mod:`deepresidual.data.source.stratified`). Of
    data sets whose samples have no names of their own the first of a fixed permutation, as many as ``share``
    says of all (He et al. 2015, section 4.2, hold out 5,000 of 50,000).

    Args:
        source: The data set.
        share: Share of the training samples, 0 to 0.5; 0 returns the data set as it is.
        name: Name of the new split.

    Raises:
        ConfigurationError: The share is out of range, or the data set has validation samples already.
    """
    if share == 0:
        return source
    if not 0 < share <= 0.5:
        raise ConfigurationError(f"validation is {share}", expected="a share from 0 to 0.5")
    if name in source.splits:
        raise ConfigurationError(
            f"{source.name} has a validation split already", remedy="leave out --validation"
        )
    train = source.split(TRAIN)
    is_permuted = source.is_permuted and TRAIN not in source.groups
    chosen = _permuted(len(train), share) if is_permuted else _by_name(source, train, share)
    if not chosen.any() or chosen.all():
        raise ConfigurationError(
            f"validation is {share} of {len(train)} training images", expected="at least one on each side"
        )
    parts = {TRAIN: Subset(train, np.flatnonzero(~chosen)), name: Subset(train, np.flatnonzero(chosen))}
    groups = dict(source.groups)
    if units := groups.pop(TRAIN, None):
        groups |= {part: units_of(units, split) for part, split in parts.items()}
    others = {other: split for other, split in source.splits.items() if other != TRAIN}
    return dataclasses.replace(source, splits={**parts, **others}, groups=groups)


def units_of(units: Sequence[bytes], split: Subset) -> list[bytes]:
    """Return the units of the samples of a subset, given those of its split."""
    return [units[index] for index in split.indices.tolist()]


def _permuted(count: int, share: float) -> NDArray[np.bool_]:
    order = np.random.Generator(np.random.PCG64(0)).permutation(count)
    chosen = np.zeros(count, dtype=bool)
    chosen[order[: round(share * count)]] = True
    return chosen


def _by_name(source: SampleSource, train: Split, share: float) -> NDArray[np.bool_]:
    units = source.groups.get(TRAIN) or [unit_of(train.key(index)) for index in range(len(train))]
    return held_out(units, train.labels, share)
