"""``digit-scenes``: the bundled digits on gray pictures of 64 px, with a box around each; no download.

A scene has up to four digits, 12 to 28 px high, on smooth noise; of two boxes that overlap, a tenth of the
smaller one is shared at most. No split shows a digit of another: ``test`` has the test digits of ``digits``,
and of the others an eighth is in ``val`` alone.

A scene is a function of split and index, the same bits on every machine: its random numbers are raw words of
PCG64, whose stream NumPy keeps (NEP 19), and all arithmetic is on integers.
"""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepresidual.data.objects import Objects
from deepresidual.data.source.annotated.split import DETECTION, checksum
from deepresidual.data.source.base import EncodedSample, Row, SampleSource, Split
from deepresidual.data.source.digits import BundledDigits, bundled_digits
from deepresidual.data.source.multilabel import rarest_labels
from deepresidual.preprocess import Preprocess

NUM_SCENES = {"train": 4000, "val": 400, "test": 1000}
"""Scenes of each split."""

SIDE_PX = 64
"""Side of a scene in pixels."""

_MOST_DIGITS = 4
_SIZES_PX = range(12, 29)
_TRIES = 10  # places tried for a digit before it is left out
_SEED = 2015
_NODES = 5  # places across, and down, between which the noise is interpolated
# Ink of 0 to 255 from which on a pixel belongs to the digit: a quarter, where the eye sees its edge.
_INK = 64
# Boxes may share a tenth of the smaller one.
_SHARED = 10
_WORDS_A_SCENE = 3 + _NODES**2 + _MOST_DIGITS * (3 + 2 * _TRIES)


# Of every fourth training scene: mean 64.3 and standard deviation 38.6 of 255.
_PREPROCESS = Preprocess(SIDE_PX, SIDE_PX, mean=(0.252,), std=(0.151,), channels="gray", fit="whole")


def open_digit_scenes() -> SampleSource:
    """Open the scenes of digits."""
    digits = bundled_digits()
    # First byte of the hash of a digit's name; below 51 is a test digit, as in ``digits``.
    groups = {"train": range(77, 256), "val": range(51, 77), "test": range(51)}
    splits: dict[str, Split] = {
        name: DigitScenes(digits, np.flatnonzero([byte in groups[name] for byte in digits.hashes]), place)
        for place, name in enumerate(NUM_SCENES)
    }
    return SampleSource(
        "digit-scenes",
        tuple(str(digit) for digit in range(10)),
        splits,
        preprocess=_PREPROCESS,
        suggested_recipe="digit_scenes",
        task=DETECTION,
        is_permuted=True,
    )


@dataclass(frozen=True)
class _Layout:
    """What is drawn in the scenes of a split, and where: all but the pixels.

    Attributes:
        digits: ``(N, 4)`` rows of the bundled digits; −1: there is none.
        sizes: ``(N, 4)`` side of each digit's picture in pixels.
        inks: ``(N, 4)`` brightness of each digit, 0 to 255.
        corners: ``(N, 4, 2)`` left and top of each picture.
        boxes: ``(N, 4, 4)`` tight boxes of the ink.
        noise: ``(N, 5, 5)`` brightness at the places between which the background is interpolated.
    """

    digits: NDArray[np.int64]
    sizes: NDArray[np.int64]
    inks: NDArray[np.int64]
    corners: NDArray[np.int64]
    boxes: NDArray[np.int64]
    noise: NDArray[np.int64]


class DigitScenes:
    """A split of scenes, as PNG files that are made when they are first read, and kept.

    Args:
        digits: The bundled digits.
        rows: Which of them the scenes show.
        place: Which split it is; part of the seed.
    """

    def __init__(self, digits: BundledDigits, rows: NDArray[np.int64], place: int) -> None:
        self._name, self._count = list(NUM_SCENES.items())[place]
        words = np.random.PCG64((_SEED, place)).random_raw(self._count * _WORDS_A_SCENE)
        self._pictures = digits.inks
        self._layout = _laid_out(words.reshape(self._count, _WORDS_A_SCENE), digits.inks, rows)
        self._objects = [self._objects_of(index, digits.labels) for index in range(self._count)]
        self._files: dict[int, bytes] = {}

    @property
    def labels(self) -> list[int]:
        """The stratum of every scene: the rarest of its digits, 10 where it has none."""
        present = np.zeros((self._count, 10), dtype=np.bool_)
        for index, objects in enumerate(self._objects):
            present[index, objects.labels] = True
        return [int(label) for label in rarest_labels(present)]

    @property
    def digits_shown(self) -> list[int]:
        """Rows of the bundled digits that any scene shows, each once."""
        rows = np.unique(self._layout.digits)
        return [int(row) for row in rows if row >= 0]

    def __len__(self) -> int:
        return self._count

    def key(self, index: int) -> str:
        """Return the name of scene ``index``."""
        return f"{self._name}-{index:04d}.png"

    def image_id(self, index: int) -> int:
        """Return the place of scene ``index``."""
        return index

    def objects(self, index: int) -> Objects:
        """Return the digits of scene ``index``."""
        return self._objects[index]

    def read(self, index: int) -> EncodedSample:
        """Return scene ``index`` with its digits."""
        if index not in self._files:
            self._files[index] = _png(_drawn(self._layout, index, self._pictures))
        return EncodedSample(self.key(index), self._files[index], self._objects[index])

    def rows(self) -> Iterator[Row]:
        """Yield key, checksum of the objects, and checksum of what is drawn of every scene."""
        for index, objects in enumerate(self._objects):
            # Of the pixels: the size of a PNG depends on the zlib that wrote it.
            layout = self._layout
            drawn = [layout.digits, layout.sizes, layout.inks, layout.corners, layout.noise]
            content = b"".join(array[index].astype("<i8").tobytes() for array in drawn)
            yield self.key(index), checksum(objects), zlib.crc32(content)

    def _objects_of(self, index: int, labels: NDArray[np.int64]) -> Objects:
        there = self._layout.digits[index] >= 0
        boxes = self._layout.boxes[index][there].astype(np.float32)
        return Objects(boxes, labels[self._layout.digits[index][there]])


# -- layout -----------------------------------------------------------------------------------------------


def _laid_out(words: NDArray[np.uint64], pictures: NDArray[np.int64], rows: NDArray[np.int64]) -> _Layout:
    """Return the layout of N scenes from their random words, ``(N, _WORDS_A_SCENE)``."""
    count = len(words)
    columns = iter(np.moveaxis(words, 1, 0))
    # One scene in nine is empty.
    num_digits = (_below(next(columns), 9) + 1) // 2
    darkest, spread = _below(next(columns), 60), 20 + _below(next(columns), 60)
    noise = np.stack([_below(next(columns), 256) for _ in range(_NODES**2)], axis=1)
    noise = (darkest[:, None] + noise * spread[:, None] // 255).reshape(count, _NODES, _NODES)
    shape = (count, _MOST_DIGITS)
    digits, sizes, inks = np.full(shape, -1), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    corners, boxes = np.zeros((*shape, 2), np.int64), np.zeros((*shape, 4), np.int64)
    for slot in range(_MOST_DIGITS):
        chosen = rows[_below(next(columns), len(rows))]
        side = _SIZES_PX.start + _below(next(columns), len(_SIZES_PX))
        ink = 180 + _below(next(columns), 76)
        tight = _ink_boxes(pictures[chosen], side)
        waiting = slot < num_digits
        for _ in range(_TRIES):
            corner = np.stack([_below(next(columns), SIDE_PX + 1 - side) for _ in range(2)], axis=1)
            box = tight + np.tile(corner, 2)
            fits = waiting & ~_collides(box, boxes[:, :slot]).any(axis=1)
            digits[fits, slot], sizes[fits, slot], inks[fits, slot] = chosen[fits], side[fits], ink[fits]
            corners[fits, slot], boxes[fits, slot] = corner[fits], box[fits]
            waiting &= ~fits
    return _Layout(digits, sizes, inks, corners, boxes, noise)


def _below(words: NDArray[np.uint64], count: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a whole number from 0 to ``count`` − 1 for every random word."""
    high = (words >> np.uint64(32)).astype(np.int64)
    number: NDArray[np.int64] = (high * count) >> 32
    return number


def _collides(boxes: NDArray[np.int64], placed: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which of ``(N, k, 4)`` placed boxes share more than a tenth with ``(N, 4)`` boxes."""
    each = boxes[:, None]
    sides = np.minimum(each[..., 2:], placed[..., 2:]) - np.maximum(each[..., :2], placed[..., :2])
    shared = sides.clip(0).prod(axis=-1)
    areas = [(one[..., 2:] - one[..., :2]).prod(axis=-1) for one in (each, placed)]
    return np.asarray(shared * _SHARED > np.minimum(*areas))


def _ink_boxes(pictures: NDArray[np.int64], sides: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the tight box of the ink of each of ``(N, 8, 8)`` pictures enlarged to its side."""
    boxes = np.zeros((len(pictures), 4), np.int64)
    for side in _SIZES_PX:
        chosen = np.flatnonzero(sides == side)
        inked = _enlarged(pictures[chosen], side) >= _INK
        for axis, first in ((1, 0), (2, 1)):  # columns with ink: left and right; rows: top and bottom
            lines = np.asarray(inked.any(axis=axis))
            boxes[chosen, first] = lines.argmax(axis=1)
            boxes[chosen, first + 2] = side - lines[:, ::-1].argmax(axis=1)
    return boxes


# -- pixels -----------------------------------------------------------------------------------------------


def _drawn(layout: _Layout, index: int, pictures: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the pixels of a scene, ``(64, 64)`` uint8."""
    across = _interpolation(_NODES, SIDE_PX, ends=True)
    scene = across @ layout.noise[index] @ across.T // (2 * SIDE_PX) ** 2
    for slot in np.flatnonzero(layout.digits[index] >= 0).tolist():
        side, (left, top) = int(layout.sizes[index, slot]), layout.corners[index, slot].tolist()
        ink = _enlarged(pictures[layout.digits[index, slot]], side)
        part = scene[top : top + side, left : left + side]
        part += (layout.inks[index, slot] - part) * ink // 255
    return np.asarray(scene, dtype=np.uint8)


def _enlarged(pictures: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Return ``(…, 8, 8)`` counts of ink, 0 to 16, as ``(…, side, side)`` of 0 to 255, interpolated."""
    across = _interpolation(8, side)
    enlarged: NDArray[np.int64] = across @ pictures @ across.T * 255 // (16 * (2 * side) ** 2)
    return enlarged


@functools.cache
def _interpolation(num_from: int, num_to: int, *, ends: bool = False) -> NDArray[np.int64]:
    """Return weights of linear interpolation, ``(num_to, num_from)``: whole numbers, ``2 · num_to`` a row.

    The middles of ``num_to`` pixels lie between the middles of ``num_from`` pixels over the same length; with
    ``ends`` between ``num_from`` places of which the first and the last are the ends of that length.
    """
    unit, columns = 2 * num_to, np.arange(num_to)
    middles = (2 * columns + 1) * (num_from - 1) if ends else (2 * columns + 1) * num_from - num_to
    middles = middles.clip(0, unit * (num_from - 1))
    low = np.minimum(middles // unit, num_from - 2)
    weights = np.zeros((num_to, num_from), np.int64)
    weights[columns, low + 1] = middles - low * unit
    weights[columns, low] = unit - weights[columns, low + 1]
    return weights


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    # The lightest compression: 0.1 ms a scene less than the usual one, and 3 KB.
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
