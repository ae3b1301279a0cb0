"""Count the samples that are in two splits of a Python object, where that is cheap to know."""

from __future__ import annotations

from deepresidual.data.source.base import Split, stamps_of
from deepresidual.data.source.object_split import ObjectSplit
from deepresidual.data.source.validation import Subset

# Checksums of 32 bits are equal by chance once in 4·10⁹ pairs. So few are compared themselves.
_FEW = 100


def num_shared(train: Split, other: Split) -> int:
    """Return how many samples of ``other`` are the very same as one of ``train``.

    Files are the same by path, size and time, images of objects by their CRC-32, which a run takes anyhow. Of
    splits of other kinds, and of one that was made from ``train`` on purpose, nothing is counted.
    """
    if isinstance(other, Subset) and other.split is train:
        return 0
    if _is_of_objects(train) and _is_of_objects(other):
        places = {checksum: index for index, (_, _, checksum) in enumerate(train.rows())}
        pairs = [
            (places[checksum], index)
            for index, (_, _, checksum) in enumerate(other.rows())
            if checksum in places
        ]
        if len(pairs) <= _FEW:
            pairs = [pair for pair in pairs if train.read(pair[0]).content == other.read(pair[1]).content]
        return len(pairs)
    ours, theirs = stamps_of(train), stamps_of(other)
    if ours is None or theirs is None:
        return 0
    known = set(ours)
    return sum(stamp in known for stamp in theirs)


def _is_of_objects(split: Split) -> bool:
    while isinstance(split, Subset):
        split = split.split
    return isinstance(split, ObjectSplit)
