"""Pictures for the tests of the data layer, made in memory."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepresidual.data.source import EncodedSample
from deepresidual.data.source.base import Row
from deepresidual.errors import DataError

PNG_GRAY, PNG_RGB, PNG_GRAY_ALPHA, PNG_RGBA = 0, 2, 4, 6

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 46830\n"
"""What a clone without Git LFS holds in the place of a file."""


@dataclass(frozen=True)
class InMemory:
    """A split of image files in memory.

    Attributes:
        contents: The bytes of every file.
        targets: Labels, repeated as often as there are files for them.
        keys: Format of the name of a sample, of its number.
        unreadable: Samples whose source fails.
    """

    contents: tuple[bytes, ...]
    targets: Sequence[int] = (0, 1, 2)
    keys: str = "image-{}"
    unreadable: frozenset[int] = frozenset()

    @property
    def labels(self) -> list[int]:
        return [self.targets[index % len(self.targets)] for index in range(len(self))]

    def __len__(self) -> int:
        return len(self.contents)

    def key(self, index: int) -> str:
        return self.keys.format(index)

    def read(self, index: int) -> EncodedSample:
        if index in self.unreadable:
            raise DataError(f"{self.key(index)} cannot be read (Input/output error)")
        return EncodedSample(self.key(index), self.contents[index], self.targets[index % len(self.targets)])

    def rows(self) -> Iterator[Row]:
        keys = (self.key(index) for index in range(len(self)))
        yield from zip(keys, self.labels, map(len, self.contents), strict=True)


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Return ``(H, W, C)`` uint8 pixels without any pattern, the hardest case for every filter."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def waves(height: int, width: int) -> NDArray[np.uint8]:
    """Return ``(H, W, 3)`` uint8 pixels that vary smoothly, as photos do."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (128 + 100 * np.sin(x / 9), 128 + 90 * np.cos(y / 7), (2 * x + y) % 256)
    return np.stack(channels, axis=-1).clip(0, 255).astype(np.uint8)


def encode(picture: Image.Image | NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    """Return the bytes of an image file of ``kind`` as Pillow writes it."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pillow_rgb(content: bytes) -> NDArray[np.uint8]:
    """Return what Pillow alone makes of an ordinary file: the reference."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return one chunk of a PNG file (PNG specification, section 5.3)."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_file(width: int, height: int, depth: int, color: int, rows: bytes, *extra: bytes) -> bytes:
    """Return a PNG file built by hand, for kinds that Pillow does not write.

    ``rows`` are the scan lines, each behind its filter byte; ``extra`` are whole chunks before the pixels.
    """
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    parts = (png_chunk(b"IHDR", header), *extra, pixels, png_chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_row_of_words(color: int, samples: Sequence[int], *extra: bytes) -> bytes:
    """Return a PNG of one row with 16 bits a sample."""
    width = len(samples) // {PNG_GRAY: 1, PNG_RGB: 3, PNG_GRAY_ALPHA: 2, PNG_RGBA: 4}[color]
    return png_file(width, 1, 16, color, b"\0" + struct.pack(f">{len(samples)}H", *samples), *extra)


def with_declared_size(jpeg: bytes, width: int, height: int) -> bytes:
    """Return a baseline JPEG whose header declares another size."""
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :]


def left_over_jpeg(**options: Any) -> bytes:
    """Return a JPEG of which the decoder uses the first three quarters: its header declares fewer rows.

    A flipped bit has the same effect where the codes behind it happen to mean more pixels than before.
    """
    content = encode(waves(64, 80), "JPEG", quality=90, **options)
    return with_declared_size(content, 80, 48)


def png_with_packed(kind: bytes, data: bytes, name: bytes = b"any") -> bytes:
    """Return a PNG of 40×50 px with packed metadata: ``iCCP``, ``zTXt`` or ``iTXt``."""
    head = {b"iCCP": b"\0\0", b"zTXt": b"\0\0", b"iTXt": b"\0\1\0\0\0"}[kind]
    return with_chunk(encode(waves(40, 50), "PNG"), png_chunk(kind, name + head + zlib.compress(data)))


def with_chunk(png: bytes, chunk: bytes) -> bytes:
    """Return a PNG with another chunk behind its header."""
    return png[:33] + chunk + png[33:]  # 8 bytes of signature, 25 of IHDR


def stored(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return how a camera stores ``upright`` under ``orientation`` (EXIF 2.3, section 4.6.4, tag 274)."""
    return np.ascontiguousarray(
        {
            1: upright,
            2: upright[:, ::-1],
            3: upright[::-1, ::-1],
            4: upright[::-1],
            5: upright.swapaxes(0, 1),
            6: np.rot90(upright),
            7: np.rot90(upright, 2).swapaxes(0, 1),
            8: np.rot90(upright, -1),
        }[orientation]
    )
