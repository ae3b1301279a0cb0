"""Choose which samples are held out: of each class those whose names have the smallest hashes.

The rule knows neither images nor random state, so that it gives the same samples on every machine. Exactly
the share that is asked for is held out of each class, and adding files moves few of the old ones: of a class
of 400 less than one in a hundred where a fifth more come (``benchmarks/splits.py``). Samples of one group go
to one side together. A group is known by its *unit*, a sort key: a sample without a group is a unit of its
own.

Example:
    >>> units = [unit_of(name) for name in ("cats/1.jpg", "cats/2.jpg", "dogs/1.jpg", "dogs/2.jpg")]
    >>> held_out(units, [0, 0, 1, 1], 0.2).tolist()
    [False, True, False, True]
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray


def unit_of(key: str, name: str | None = None) -> bytes:
    """Return the sort key of a sample without a group: the hash of its file name, then that of its path.

    Args:
        key: Name of the sample, unlike all others of its data set; a path with ``/``.
        name: What is hashed first. Default: the last part of ``key``.
    """
    return _hash((key if name is None else name).rsplit("/", 1)[-1]) + _hash(key)


def unit_of_group(name: str) -> bytes:
    """Return the sort key of all samples of the group ``name``: its hash."""
    return _hash(name)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


def num_held_out(count: int, share: float) -> int:
    """Return how many of ``count`` samples of a class are held out: at least one, none of a single one."""
    return max(1, round(share * count)) if count > 1 else 0


def held_out(units: Sequence[bytes], labels: Iterable[int], share: float) -> NDArray[np.bool_]:
    """Return a mask ``(N,)`` of the samples that are held out.

    Without groups these are :func:`num_held_out` of each class, those of the smallest units. Groups are taken
    in the order of their units while that brings the number of held-out samples nearer to the wanted one; the
    first of several samples that does not ends it for its class, and single samples fill up what is left. A
    group with samples of several classes is taken if it brings the sum over the classes nearer. A class of
    several units has at least one on the side that stays, and, where that is possible, one on the other.

    Args:
        units: Sort key of every sample; equal ones go to one side.
        labels: Class of every sample.
        share: Share to hold out, above 0 and at most 0.5.
    """
    classes = np.fromiter(labels, dtype=np.int64, count=len(units))
    groups: dict[bytes, list[int]] = {}
    for index, unit in enumerate(units):
        groups.setdefault(unit, []).append(index)
    sizes = {unit: Counter(classes[members].tolist()) for unit, members in groups.items()}
    chosen = np.zeros(len(classes), dtype=bool)
    for unit in _taken(sizes, Counter(classes.tolist()), share):
        chosen[groups[unit]] = True
    return chosen


def _taken(sizes: Mapping[bytes, Mapping[int, int]], counts: Mapping[int, int], share: float) -> list[bytes]:
    """Return the units to hold out, given the number of samples of each class in each unit and in all."""
    wanted = {label: num_held_out(count, share) for label, count in counts.items()}
    done: Counter[int] = Counter()
    ended: set[int] = set()
    taken: list[bytes] = []

    def cost(size: Mapping[int, int]) -> int:
        """Return by how much taking a unit moves the sum over the classes away from what is wanted."""
        return sum(
            abs(done[label] + more - wanted[label]) - abs(done[label] - wanted[label])
            for label, more in size.items()
        )

    def empties_a_class(size: Mapping[int, int]) -> bool:
        return any(done[label] + more >= counts[label] for label, more in size.items())

    for unit in sorted(sizes):
        size = sizes[unit]
        (label, more), *others = size.items()
        if not others and more > 1 and label in ended:
            continue
        if cost(size) < 0 and not empties_a_class(size):
            taken.append(unit)
            done.update(size)
        elif not others and done[label]:
            ended.add(label)
    # Two groups of fifty: either is far more than a fifth, and none to measure on would be worse.
    for label in sorted(counts):
        if not done[label]:
            left = [unit for unit, size in sizes.items() if label in size and not empties_a_class(size)]
            if left:
                unit = min(left, key=lambda unit: (cost(sizes[unit]), unit))
                taken.append(unit)
                done.update(sizes[unit])
    return taken
