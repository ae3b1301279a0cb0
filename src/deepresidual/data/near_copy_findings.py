"""What near-copies say about a data set: wrong labels, leaks, photos that come twice.

One finding an image, beside the nearest of the images before it; images of the same pixels have findings of
their own (:mod:`deepresidual.data.check`). A series of alike images is one finding: its pairs would be
thousands.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.near_copies import MOST_IMAGES, are_alike, grouped, near_pairs, small_picture
from deepresidual.data.source.base import TRAIN, Split, listed

KINDS = ("near-two-labels", "near-leak", "near-copy", "series")
"""Kinds of these findings."""


class Compared(NamedTuple):
    """What is compared of the samples of a split.

    Attributes:
        split: The split.
        labels: ``(N,)`` int64.
        pixels: ``(N,)`` hashes of the pixels, empty of a sample that cannot be used.
        hashes: ``(N, 2)`` uint64, the perceptual hashes.
    """

    split: Split
    labels: NDArray[np.int64]
    pixels: NDArray[np.bytes_]
    hashes: NDArray[np.uint64]


def near_copy_findings(
    parts: Mapping[str, Compared],
    classes: Sequence[str],
    *,
    by_pixels: bool = False,
) -> Iterator[tuple[str, str, str, str]]:
    """Yield kind, split, sample and words of every finding.

    Args:
        parts: The samples of every split.
        classes: Names of the classes.
        by_pixels: Whether pairs are near-copies only if their pixels agree, too. Scenes of a few objects on a
            plain ground have like hashes by chance.
    """
    if not parts:
        return
    names = np.repeat(list(parts), [len(part.labels) for part in parts.values()])
    firsts = dict(zip(parts, np.cumsum([0, *(len(part.labels) for part in parts.values())]), strict=False))
    labels = np.concatenate([part.labels for part in parts.values()])
    pixels = np.concatenate([part.pixels for part in parts.values()])
    hashes = np.concatenate([part.hashes for part in parts.values()])
    if len(labels) > MOST_IMAGES:
        return
    # Of equal pixels the first speaks for all.
    _, places = np.unique(pixels, return_index=True)
    speaks = np.zeros(len(pixels), dtype=bool)
    speaks[places] = True
    pairs = near_pairs(np.where(speaks[:, None], hashes, 0).astype(np.uint64))

    def place(index: int) -> tuple[Split, int]:
        name = str(names[index])
        return parts[name].split, index - int(firsts[name])

    def key(index: int) -> str:
        split, number = place(index)
        return split.key(number)

    if by_pixels:
        pairs = pairs[_have_like_pixels(pairs, place)]
    found = grouped(pairs, labels.tolist())

    for group in found.large:
        which = listed({classes[labels[index]] for index in group})
        detail = f"{len(group):,} images of {which} are like one another; if they show one thing, say --group"
        yield "series", str(names[group[0]]), key(group[0]), detail
    in_series = {index for group in found.large for index in group}
    nearest: dict[int, int] = {}
    for first, second in pairs.tolist():
        known = nearest.get(second, first)
        if second not in in_series:
            nearest[second] = first if _bits(hashes, second, first) < _bits(hashes, second, known) else known
    for index, other in nearest.items():
        here, there = classes[labels[index]], classes[labels[other]]
        where = f"{key(other)}" if names[index] == names[other] else f"{key(other)} of {names[other]}"
        if labels[index] != labels[other]:
            kind, detail = "near-two-labels", f"{here} here, and {there} as {where}: nearly the same picture"
        elif TRAIN in (names[index], names[other]) and names[index] != names[other]:
            kind, detail = "near-leak", f"nearly the same picture as {where}"
        else:
            kind, detail = "near-copy", f"nearly the same picture as {where}"
        yield kind, str(names[index]), key(index), detail


def _have_like_pixels(
    pairs: NDArray[np.int64], place: Callable[[int], tuple[Split, int]]
) -> NDArray[np.bool_]:
    """Return which pairs of near-copies by their hashes are such by their pixels."""

    @functools.cache
    def small(index: int) -> NDArray[np.float64]:
        split, number = place(index)
        return small_picture(split.read(number).content)

    return np.array([are_alike(small(one), small(other)) for one, other in pairs.tolist()], dtype=np.bool_)


def _bits(hashes: NDArray[np.uint64], one: int, other: int) -> int:
    differ = hashes[one] ^ hashes[other, 0]
    return int(np.bitwise_count(differ).min())
