"""``Masks``: which pixels objects cover, as polygons or runs of pixels, drawn one at a time where needed.

Polygons have corners in pixels with continuous edges, as boxes have, and are drawn by COCO's rule. Runs are
COCO's: column by column, how many pixels are outside, inside, outside and so on. Either is a few hundred
bytes, where the pixels of a mask of a photo are megabytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from deepresidual.errors import ConfigurationError, DataError

Polygon = NDArray[np.float64]
"""Corners of a polygon, ``(k, 2)``: across, down, in pixels."""

RUNS_TYPES = {"size": "list<int32>", "counts": "string"}
"""Fields of :meth:`Runs.to_dict`, with their types by Arrow's names."""

# COCO's text of runs: five bits a character, from the character 0 on; a sixth says that more follow.
_FIRST, _BITS, _MORE, _SIGN = 48, 5, 0x20, 0x10


@dataclass(frozen=True, eq=False)
class Crop:
    """The pixels of one mask, as far as it reaches.

    Attributes:
        left: Column of the image, or of its view, that the first column is.
        top: Row that the first row is.
        pixels: ``(h, w)`` uint8: 1 where the object is, else 0; no pixels of one that is nowhere.
    """

    left: int
    top: int
    pixels: NDArray[np.uint8]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom."""
        height, width = self.pixels.shape
        return (float(self.left), float(self.top), float(self.left + width), float(self.top + height))

    def tight(self) -> Crop:
        """Return the same mask without empty rows and columns at its edges."""
        rows, columns = (np.flatnonzero(self.pixels.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return Crop(self.left, self.top, self.pixels[:0, :0])
        top, left = int(rows[0]), int(columns[0])
        part = self.pixels[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
        return Crop(self.left + left, self.top + top, part)


@dataclass(frozen=True, eq=False, repr=False)
class Masks:
    """The masks of some objects, in a few arrays, which processes share without copying.

    Attributes:
        content: Bytes of all masks, one behind the other: of runs COCO's text; of polygons float64: how many
            there are, the number of corners of each, and the corners.
        ends: ``(n,)`` int64: where the bytes of each end; one without a mask has none.
        starts: ``(n,)`` int64: where they begin.
        sizes: ``(n, 2)`` int32: height and width of the image that each is drawn on; 0: not known yet.
        drawn: ``(n,)`` bool: whether each is runs; else it is polygons.
    """

    content: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    sizes: NDArray[np.int32]
    drawn: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Sequence[Sequence[Polygon] | Runs | None]) -> Self:
        """Return masks of polygons, of runs, or none."""
        parts = [
            b"" if row is None else row.counts if isinstance(row, Runs) else _packed(row) for row in rows
        ]
        ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        return cls(
            np.frombuffer(b"".join(parts), np.uint8),
            ends - np.array([len(part) for part in parts], np.int64),
            ends,
            np.array([row.size if isinstance(row, Runs) else (0, 0) for row in rows], np.int32).reshape(
                -1, 2
            ),
            np.array([isinstance(row, Runs) for row in rows], np.bool_),
        )

    @classmethod
    def joined(cls, several: Sequence[Self]) -> Self:
        """Return the masks of several, one behind the other."""
        offsets = np.cumsum([0, *(len(each.content) for each in several)])
        pairs = list(zip(several, offsets.tolist(), strict=False))
        return cls(
            np.concatenate([np.zeros(0, np.uint8), *(each.content for each in several)]),
            np.concatenate([np.zeros(0, np.int64), *(each.starts + offset for each, offset in pairs)]),
            np.concatenate([np.zeros(0, np.int64), *(each.ends + offset for each, offset in pairs)]),
            np.concatenate([np.zeros((0, 2), np.int32), *(each.sizes for each in several)]),
            np.concatenate([np.zeros(0, np.bool_), *(each.drawn for each in several)]),
        )

    def __len__(self) -> int:
        return len(self.ends)

    def __repr__(self) -> str:
        return f"Masks({len(self)})"

    def __getitem__(self, chosen: NDArray[Any] | slice) -> Self:
        """Return the masks that an index array, a mask of booleans or a slice chooses."""
        return dataclasses.replace(
            self,
            starts=self.starts[chosen],
            ends=self.ends[chosen],
            sizes=self.sizes[chosen],
            drawn=self.drawn[chosen],
        )

    @property
    def known(self) -> NDArray[np.bool_]:
        """``(n,)``: which objects have a mask."""
        return self.ends > self.starts

    def tobytes(self) -> bytes:
        """Return what changes when a mask does, for checksums."""
        content = b"".join(
            self.content[start:end].tobytes() for start, end in zip(self.starts, self.ends, strict=True)
        )
        return content + (self.ends - self.starts).tobytes() + self.sizes.tobytes()

    # -- one mask --------------------------------------------------------------------------------------

    def polygons(self, row: int) -> list[Polygon]:
        """Return the polygons of a mask; of runs, and of none, there are none."""
        if self.drawn[row] or self.starts[row] == self.ends[row]:
            return []
        numbers = np.frombuffer(self._bytes(row), np.float64)
        count = int(numbers[0])
        lengths = numbers[1 : 1 + count].astype(np.int64)
        corners = numbers[1 + count :].reshape(-1, 2)
        return np.split(corners, np.cumsum(lengths)[:-1])

    def runs(self, row: int) -> Runs:
        """Return a mask as runs of the pixels of its image."""
        size = self._size(row)
        if self.drawn[row]:
            return Runs(size, self._bytes(row))
        polygons = self.polygons(row)
        return Runs.drawn(polygons, size) if polygons else Runs.nothing(size)

    def crop(self, row: int) -> Crop:
        """Return the pixels of a mask."""
        return self.runs(row).crop()

    def areas(self) -> NDArray[np.float32]:
        """Return the number of pixels of each mask, ``(n,)``."""
        return np.array([self.runs(row).area for row in range(len(self))], np.float32)

    # -- of an image -----------------------------------------------------------------------------------

    def on(self, size: tuple[int, int]) -> Self:
        """Return the masks, drawn on an image of this height and width.

        Raises:
            DataError: Runs are of an image of another size.
        """
        others = self.sizes[self.drawn & self.known & (self.sizes != size).any(axis=1)]
        if len(others):
            height, width = others[0].tolist()
            raise DataError(
                f"a mask is of an image of {width}×{height} px, and the image has {size[1]}×{size[0]}",
                expected="masks of the size of their image",
                kind="mask-differs",
            )
        return dataclasses.replace(self, sizes=np.tile(np.array(size, np.int32), (len(self), 1)))

    def scaled(self, across: float, down: float) -> Self:
        """Return the masks with corners times these factors: of fractions the sides of the image."""
        rows = [
            [polygon * (across, down) for polygon in self.polygons(row)] or None for row in range(len(self))
        ]
        return type(self).of(rows)

    def _size(self, row: int) -> tuple[int, int]:
        height, width = self.sizes[row].tolist()
        if not height:
            raise ConfigurationError("the size of the image is not known yet", expected="Masks.on(size)")
        return height, width

    def _bytes(self, row: int) -> bytes:
        return self.content[self.starts[row] : self.ends[row]].tobytes()


@dataclass(frozen=True)
class Runs:
    """A mask as runs of pixels, column by column; COCO's compressed RLE.

    Attributes:
        size: Height and width of the image.
        counts: COCO's text of how many pixels are outside, inside, outside and so on.
    """

    size: tuple[int, int]
    counts: bytes

    @classmethod
    def nothing(cls, size: tuple[int, int]) -> Self:
        """Return the mask of no pixel."""
        return cls.of([size[0] * size[1]], size)

    @classmethod
    def of(cls, counts: Sequence[int] | NDArray[np.int64], size: tuple[int, int]) -> Self:
        """Return the mask of so many pixels outside, inside, outside and so on."""
        from faster_coco_eval.core import mask

        numbers = counts if isinstance(counts, list) else [int(count) for count in counts]
        encoded = mask.frPyObjects({"size": list(size), "counts": numbers}, *size)
        return cls(size, _as_bytes(encoded["counts"]))

    @classmethod
    def drawn(cls, polygons: Sequence[Polygon], size: tuple[int, int]) -> Self:
        """Return the mask of what any of some polygons covers, drawn by COCO's rule."""
        from faster_coco_eval.core import mask

        parts = mask.frPyObjects([polygon.reshape(-1).tolist() for polygon in polygons], *size)
        merged = mask.merge(parts) if len(parts) > 1 else parts[0]
        return cls(size, _as_bytes(merged["counts"]))

    @classmethod
    def united(cls, several: Sequence[Runs]) -> Runs:
        """Return the mask of what any of some masks of one image covers, of which there is at least one."""
        from faster_coco_eval.core import mask

        merged = mask.merge([{"size": list(one.size), "counts": one.counts} for one in several])
        return cls(several[0].size, _as_bytes(merged["counts"]))

    @classmethod
    def of_crop(cls, crop: Crop, size: tuple[int, int]) -> Self:
        """Return the mask whose pixels are those of a crop, inside of an image of ``size``."""
        height = size[0]
        rows, columns = crop.pixels.shape
        padded = np.zeros((columns, rows + 2), np.int8)
        padded[:, 1:-1] = crop.pixels.T
        column, row = np.nonzero(np.diff(padded, axis=1))
        edges = (column + crop.left) * height + row + crop.top
        # Where a column ends at the image's last row and the next begins at its first, they are one run.
        apart = np.ones(len(edges), np.bool_)
        joined = np.flatnonzero(edges[1:] == edges[:-1])
        apart[joined] = apart[joined + 1] = False
        counts = np.diff(np.concatenate([[0], edges[apart], [size[0] * size[1]]]))
        return cls.of(counts if counts[-1] or len(counts) == 1 else counts[:-1], size)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Build it from what :meth:`to_dict` returned."""
        height, width = fields["size"]
        return cls((height, width), _as_bytes(fields["counts"]))

    def lengths(self) -> NDArray[np.int64]:
        """Return how many pixels are outside, inside, outside and so on."""
        characters = np.frombuffer(self.counts, np.uint8).astype(np.int64) - _FIRST
        last = (characters & _MORE) == 0
        ends = np.flatnonzero(last)
        starts = np.concatenate([[0], ends[:-1] + 1])
        place = np.arange(len(characters)) - np.repeat(starts, ends - starts + 1)
        numbers = np.add.reduceat((characters & (_MORE - 1)) << (_BITS * place), starts)
        negative = (characters[ends] & _SIGN) != 0
        numbers -= negative * (1 << (_BITS * (ends - starts + 1)))
        # From the fourth number on each is a difference from the one before the last.
        numbers[1::2] = np.cumsum(numbers[1::2])
        numbers[2::2] = np.cumsum(numbers[2::2])
        return numbers

    @property
    def area(self) -> int:
        """Number of pixels."""
        return int(self.lengths()[1::2].sum())

    def crop(self) -> Crop:
        """Return the pixels, as far as they reach."""
        height = self.size[0]
        edges = np.cumsum(self.lengths())
        first, last = edges[:-1:2], edges[1::2]  # of each run inside
        first, last = first[: len(last)], last[: len(first)]
        inside = last > first
        first, last = first[inside], last[inside]
        if not len(first):
            return Crop(0, 0, np.zeros((0, 0), np.uint8))
        left, right = int(first[0] // height), int((last[-1] - 1) // height) + 1
        pixels = np.zeros((right - left) * height + 1, np.int8)
        np.add.at(pixels, first - left * height, 1)
        np.add.at(pixels, last - left * height, -1)
        columns = np.cumsum(pixels[:-1], dtype=np.int8).astype(np.uint8).reshape(-1, height)
        return Crop(left, 0, columns.T).tight()

    def to_dict(self) -> dict[str, Any]:
        """Return COCO's document of it: ``size`` and ``counts``."""
        return {"size": list(self.size), "counts": self.counts.decode("ascii")}


def _packed(polygons: Sequence[Polygon]) -> bytes:
    """Return the bytes of polygons in :attr:`Masks.content`."""
    lengths = [len(polygon) for polygon in polygons]
    return (
        np.concatenate([[len(lengths)], lengths, *(p.reshape(-1) for p in polygons)]).astype(float).tobytes()
    )


def _as_bytes(counts: str | bytes) -> bytes:
    return counts.encode("ascii") if isinstance(counts, str) else counts
