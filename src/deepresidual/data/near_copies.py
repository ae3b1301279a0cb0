"""Near-copies: images that are the same photo resized, compressed again, brightened, in gray or mirrored.

By the perceptual hash pHash of 64 bits (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
Functions", 2010; as ``imagehash`` computes it): which of the 64 lowest frequencies of the image, 32 × 32 in
gray, are above their median. Two images are near-copies where at most :data:`MOST_BITS` bits differ, of one
of them mirrored, too. Photos that are no copies differed in 14 bits and more (``benchmarks/near_copies.py``).
Images of few pixels or of one colour have no hash: theirs would be chance.

Hashes are kept in the user's cache by the content of the file, pairs by all hashes of a data set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from deepresidual.data.contents import contents_of
from deepresidual.data.decode import open_image
from deepresidual.data.picture_cache import PictureCache
from deepresidual.data.source.base import Split, stamps_of
from deepresidual.data.threads import in_order
from deepresidual.errors import DataError
from deepresidual.runtime.console import ProgressBar
from deepresidual.runtime.processes import usable_cores

MOST_BITS = 10
"""Bits in which the hashes of near-copies differ at most."""

MOST_IMAGES = 100_000
"""Images of a data set that are compared at most: of so many all pairs take a minute and a half."""

_SIDE_PX, _FREQUENCIES = 32, 8
_DECODED_PX = 64  # shorter side to which a JPEG may be decoded: twice what is looked at
_FEWEST_PX = 16
_LOWEST_DEVIATION = 4.0  # levels of gray
# Of photos of blood cells, refocused: 0.97; of scenes of digits and photos of boards with like hashes: 0.94.
_LEAST_CORRELATION = 0.95
_LARGE_SHARE, _LARGE_COUNT = 0.05, 4
_TOGETHER, _GROUPS_AHEAD = 64, 4
_BLOCK = 512
_FORMAT = b"2"  # of what is kept

NO_HASH = (0, 0)
"""In the place of the hashes of an image that has none."""


def picture_hash(gray: Image.Image) -> tuple[int, int]:
    """Return the perceptual hashes of a gray image and of its mirror image, of 64 bits each.

    :data:`NO_HASH` where the image is too small or too plain to have any.
    """
    if min(gray.size) < _FEWEST_PX:
        return NO_HASH
    pixels = np.asarray(gray.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS), dtype=np.float64)
    if pixels.std() < _LOWEST_DEVIATION:
        return NO_HASH
    # Columns of odd frequency change sign where an image is mirrored.
    signs = np.where(np.arange(_FREQUENCIES) % 2, -1.0, 1.0)
    low = dctn(pixels)[:_FREQUENCIES, :_FREQUENCIES]
    first, second = (
        int.from_bytes(np.packbits(values > np.median(values)).tobytes(), "big")
        for values in (low, low * signs)
    )
    return first, second


def picture_hash_of(content: bytes) -> tuple[int, int]:
    """Return the perceptual hashes of an image file; JPEGs are decoded at a fraction of their size.

    Raises:
        DataError: The image cannot be decoded.
    """
    return picture_hash(_gray(content))


def _gray(content: bytes) -> Image.Image:
    image = open_image(content)
    pixels, _ = image.decode_part((0.0, 0.0, float(image.width), float(image.height)), _DECODED_PX)
    return Image.fromarray(pixels).convert("L")


def small_picture(content: bytes) -> NDArray[np.float64]:
    """Return an image file as 32 × 32 levels of gray, ``(32, 32)``, of mean 0 and length 1.

    Raises:
        DataError: The image cannot be decoded.
    """
    pixels = np.asarray(_gray(content).resize((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS), np.float64)
    pixels = pixels - pixels.mean()
    return np.asarray(pixels / max(1e-9, float(np.linalg.norm(pixels))))


def are_alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Return whether two small pictures, or one and the other mirrored, correlate as copies do."""
    return max(float((one * other).sum()), float((one * other[:, ::-1]).sum())) >= _LEAST_CORRELATION


def picture_hashes(
    split: Split, contents: Sequence[bytes], *, cache: PictureCache | None = None
) -> NDArray[np.uint64]:
    """Return the perceptual hashes of all samples and of their mirror images, ``(N, 2)``.

    Args:
        split: The samples. Those that cannot be read or decoded, or have no hashes, have :data:`NO_HASH`.
        contents: Their contents (:func:`deepresidual.data.contents.contents_of`).
        cache: Where to look first. Default: the user's.
    """
    cache = PictureCache() if cache is None else cache
    known = cache.find("phash", [_FORMAT + content for content in contents])
    rows = np.zeros((len(split), 2), dtype=np.uint64)
    missing: list[int] = []
    for index, content in enumerate(contents):
        row = known.get(_FORMAT + content)
        if row is not None:
            rows[index] = np.frombuffer(row, dtype=">u8")
        elif content:
            missing.append(index)

    def work(index: int) -> tuple[int, int]:
        try:
            return picture_hash_of(split.read(index).content)
        except DataError:
            return NO_HASH

    groups = [missing[first : first + _TOGETHER] for first in range(0, len(missing), _TOGETHER)]
    threads = usable_cores() if stamps_of(split) is not None else 0
    done = 0
    with ProgressBar(len(missing), label="comparing images") as bar:
        results = in_order(work, groups, num_threads=threads, groups_ahead=_GROUPS_AHEAD)
        for group, found in zip(groups, results, strict=True):
            rows[group] = np.array(found, dtype=np.uint64)
            kept = {_FORMAT + contents[index]: rows[index].astype(">u8").tobytes() for index in group}
            cache.add("phash", kept)
            done += len(group)
            bar.update(done, "for near-copies")
    return rows


def near_pairs(hashes: NDArray[np.uint64], *, cache: PictureCache | None = None) -> NDArray[np.int64]:
    """Return the pairs of near-copies, ``(P, 2)``, the smaller place first.

    All pairs are compared, in blocks: of 10,000 images in about a second.

    Args:
        hashes: What :func:`picture_hashes` returns.
        cache: Where to look first. Default: the user's.
    """
    cache = PictureCache() if cache is None else cache
    key = _FORMAT + hashlib.sha256(hashes.astype(">u8").tobytes()).digest()
    known = cache.find("near-pairs", [key]).get(key)
    if known is not None:
        return np.frombuffer(known, dtype="<i8").reshape(-1, 2).astype(np.int64)
    with_hash = np.flatnonzero(hashes.any(axis=1))
    places = np.concatenate([np.zeros((0, 2), dtype=np.int64), *_near_pairs(hashes[with_hash])])
    pairs: NDArray[np.int64] = with_hash[places]
    cache.add("near-pairs", {key: pairs.astype("<i8").tobytes()})
    return pairs


def _near_pairs(hashes: NDArray[np.uint64]) -> Iterator[NDArray[np.int64]]:
    plain, mirrored = np.ascontiguousarray(hashes[:, 0]), np.ascontiguousarray(hashes[:, 1])
    for first in range(0, len(plain), _BLOCK):
        others = plain[None, first:]
        block = slice(first, first + _BLOCK)
        near = np.bitwise_count(plain[block, None] ^ others) <= MOST_BITS
        # Either way round: rounding makes the two differ by some bits, and of copies both are small.
        near |= (np.bitwise_count(mirrored[block, None] ^ others) <= MOST_BITS) & (
            np.bitwise_count(plain[block, None] ^ mirrored[None, first:]) <= MOST_BITS
        )
        pairs = np.argwhere(np.triu(near, k=1))
        if len(pairs):
            yield pairs + first


@dataclass(frozen=True)
class NearCopies:
    """The near-copies of a data set.

    Attributes:
        groups: Places of the samples of every group, in order.
        large: Groups that are more than a twentieth of a class, which may be a chain of frames: not kept
        together.
    """

    groups: tuple[tuple[int, ...], ...]
    large: tuple[tuple[int, ...], ...]

    @property
    def count(self) -> int:
        """How many samples are a near-copy of an earlier one in their group."""
        return sum(len(group) - 1 for group in self.groups)

    def merged(self, units: Sequence[bytes]) -> list[bytes]:
        """Return the units of all samples, of a group the smallest of its own and those that it joins."""
        joined = list(units)
        numbers = {unit: number for number, unit in enumerate(dict.fromkeys(units))}
        edges = [
            (numbers[units[group[0]]], numbers[units[other]]) for group in self.groups for other in group
        ]
        parts = _components(len(numbers), np.array(edges, dtype=np.int64).reshape(-1, 2))
        smallest: dict[int, bytes] = {}
        for unit, number in numbers.items():
            part = parts[number]
            smallest[part] = min(smallest.get(part, unit), unit)
        return [smallest[parts[numbers[unit]]] for unit in joined]


def near_copies(split: Split, labels: Sequence[int], *, cache: PictureCache | None = None) -> NearCopies:
    """Find the near-copies among the samples of a data set.

    Args:
        split: The samples.
        labels: The class of every sample.
        cache: Where to look first. Default: the user's.
    """
    contents = contents_of(split, cache=cache)
    found = grouped(near_pairs(picture_hashes(split, contents, cache=cache), cache=cache), labels)
    return NearCopies((*found.groups, *_equal(found.large, contents)), found.large)


def _equal(groups: Iterable[Sequence[int]], contents: Sequence[bytes]) -> Iterator[tuple[int, ...]]:
    """Yield the members of groups that are the same file."""
    for group in groups:
        same: dict[bytes, list[int]] = {}
        for index in group:
            same.setdefault(contents[index], []).append(index)
        yield from (tuple(members) for members in same.values() if len(members) > 1)


def grouped(pairs: NDArray[np.int64], labels: Sequence[int]) -> NearCopies:
    """Return the groups that pairs make, A and C also where A is near B and B near C.

    Args:
        pairs: ``(P, 2)``.
        labels: The class of every sample.
    """
    parts = _components(len(labels), pairs)
    members: dict[int, list[int]] = {}
    for index in np.unique(pairs).tolist():
        members.setdefault(parts[index], []).append(index)
    sizes = np.bincount(np.asarray(labels, dtype=np.int64))
    groups, large = list[tuple[int, ...]](), list[tuple[int, ...]]()
    for group in members.values():
        most = np.bincount(np.asarray(labels, dtype=np.int64)[group], minlength=len(sizes))
        is_large = (most > np.maximum(_LARGE_COUNT, _LARGE_SHARE * sizes)).any()
        (large if is_large else groups).append(tuple(group))
    return NearCopies(tuple(groups), tuple(large))


def _components(count: int, edges: NDArray[np.int64]) -> list[int]:
    graph = coo_array((np.ones(len(edges), dtype=bool), (edges[:, 0], edges[:, 1])), shape=(count, count))
    _, parts = connected_components(graph, directed=False)
    found: list[int] = parts.tolist()
    return found
