"""A folder of good pictures with every kind of bad file planted among them."""

from __future__ import annotations

import os
import struct
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from tests.data.pictures import (
    LFS_POINTER,
    PNG_RGB,
    encode,
    left_over_jpeg,
    noise,
    png_file,
    png_with_packed,
    waves,
    with_declared_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_JPEG = encode(waves(60, 80), "JPEG", quality=90)
_PNG = encode(noise(40, 50, seed=501), "PNG")
_WEBP = encode(noise(40, 50, seed=502), "WEBP", lossless=True)
_GIF = encode(noise(40, 50, 1, seed=504)[:, :, 0], "GIF")
_TIFF = encode(noise(40, 50, seed=505), "TIFF")
_HEIC = Path(__file__).with_name("heic").joinpath("lossy-420.heic").read_bytes()
_BMP = encode(noise(40, 50, seed=503), "BMP")


@dataclass(frozen=True)
class Planted:
    """A bad file, and the kind of finding that it has to become."""

    kind: str
    path: str
    plant: Callable[[Path], object]


def _content(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def _with_broken_checksum(png: bytes) -> bytes:
    at = png.index(b"IDAT")
    return png[: at + 40] + bytes([png[at + 40] ^ 1]) + png[at + 41 :]


def _declaring(width: int, height: int) -> bytes:
    return png_file(width, height, 8, PNG_RGB, b"\0" * 10)


def _without_scan_half(jpeg: bytes) -> bytes:
    scan = jpeg.index(b"\xff\xda") + 12
    return jpeg[: scan + (len(jpeg) - scan) // 2] + b"\xff\xd9"


def _bomb(width: int, height: int) -> bytes:
    body = zlib.compress(bytes(1000))
    header = struct.pack(">IIBBBBB", width, height, 8, PNG_RGB, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def good_picture(number: int) -> bytes:
    """Return one of many good files, all different; number 3 has 33×33 pixels and is a BMP."""
    kind = ("JPEG", "PNG", "WEBP", "BMP")[number % 4]
    return encode(noise(30 + number % 9, 33, seed=number), kind)


def good_name(number: int) -> str:
    """Return the name of such a file."""
    return f"{number:03d}.{('jpg', 'png', 'webp', 'bmp')[number % 4]}"


ERRORS = (
    Planted("empty", "train/ant/empty.jpg", _content(b"")),
    Planted("empty", "val/bee/empty.png", _content(b"")),
    Planted("unsupported", "train/ant/letter.jpg", _content(b"Dear reader, this is not a photo.")),
    Planted("unsupported", "train/ant/page.jpg", _content(b"<!DOCTYPE html><html><body>404</body></html>")),
    Planted("unsupported", "train/ant/drawing.png", _content(b"<svg xmlns='http://www.w3.org/2000/svg'/>")),
    Planted("unsupported", "train/ant/document.jpg", _content(b"%PDF-1.7\n" + bytes(100))),
    Planted("unsupported", "train/ant/film.jpg", _content(b"\0\0\0\x18ftypmp42" + bytes(100))),
    Planted("unsupported", "train/ant/measured.tiff", _content(encode(Image.new("F", (20, 20)), "TIFF"))),
    Planted("truncated", "train/ant/cut.gif", _content(_GIF[: len(_GIF) // 2])),
    Planted("truncated", "train/ant/cut.tif", _content(_TIFF[: len(_TIFF) // 2])),
    Planted("truncated", "train/ant/cut.heic", _content(_HEIC[: len(_HEIC) // 2])),
    Planted("unsupported", "train/ant/nothing.jpg", _content(bytes(1000))),
    Planted("unsupported", "train/ant/static.jpg", _content(b"\xfe" + noise(10, 10).tobytes())),
    Planted("truncated", "train/ant/half.jpg", _content(_JPEG[: len(_JPEG) // 2])),
    Planted("truncated", "train/ant/tail.jpg", _content(_JPEG[:-200])),
    Planted("truncated", "train/ant/no-end-mark.jpg", _content(_JPEG[:-2])),
    Planted("truncated", "val/ant/half-and-end-mark.jpg", _content(_without_scan_half(_JPEG))),
    Planted("truncated", "train/ant/headers-only.jpg", _content(_JPEG[:100])),
    Planted("corrupt", "train/ant/left-over.jpg", _content(left_over_jpeg())),
    Planted("unsupported", "train/ant/pointer.jpg", _content(LFS_POINTER)),
    Planted("too-large", "train/ant/metadata.png", _content(png_with_packed(b"iCCP", bytes(20_000_000)))),
    Planted("corrupt", "train/ant/signature-only.jpg", _content(_JPEG[:3])),
    Planted("corrupt", "train/bee/checksum.png", _content(_with_broken_checksum(_PNG))),
    Planted("truncated", "train/bee/cut.png", _content(_PNG[: len(_PNG) // 2])),
    Planted("corrupt", "train/bee/signature-only.png", _content(_PNG[:8])),
    Planted("truncated", "train/bee/cut.webp", _content(_WEBP[: len(_WEBP) // 2])),
    Planted("corrupt", "train/bee/changed.webp", _content(_WEBP[:20] + bytes(40) + _WEBP[60:])),
    Planted("truncated", "train/bee/cut.bmp", _content(_BMP[:-100])),
    Planted("truncated", "train/bee/header.bmp", _content(_BMP[:20])),
    Planted("corrupt", "train/bee/no-width.png", _content(_declaring(0, 10))),
    Planted("corrupt", "train/bee/no-height.bmp", _content(_BMP[:22] + bytes(4) + _BMP[26:])),
    Planted("too-large", "train/bee/huge.jpg", _content(with_declared_size(_JPEG, 65_500, 65_500))),
    Planted("too-large", "train/bee/huge.png", _content(_bomb(20_000, 20_000))),
    Planted("too-large", "train/bee/strip.png", _content(_bomb(1, 100_000))),
    Planted("truncated", os.fsdecode(b"train/bee/caf\xe9.jpg"), _content(_JPEG[:-300])),
    Planted("unsupported", "train/bee/new\nline\x1b[2J.jpg", _content(b"text")),
    *(
        [Planted("unreadable", "train/bee/memory.png", lambda path: path.symlink_to("/proc/self/mem"))]
        if sys.platform == "linux"
        else []
    ),
)
"""Training would stop at each of these."""

WARNINGS = (
    Planted("tiny", "train/ant/pixel.png", _content(encode(noise(1, 1, seed=3), "PNG"))),
    Planted("tiny", "val/ant/ribbon.png", _content(encode(noise(200, 2, seed=4), "PNG"))),
    Planted("duplicate-file", "train/ant/copy.png", _content(good_picture(1))),
    Planted("duplicate-pixels", "train/ant/saved-again.png", _content(encode(noise(33, 33, seed=3), "PNG"))),
    Planted("two-labels", "train/bee/ant-too.jpg", _content(good_picture(4))),
    Planted("leak", "val/ant/trained-on.png", _content(good_picture(5))),
    Planted("leak", "val/bee/trained-on-as-ant.webp", _content(good_picture(6))),
    Planted("ignored", "train/ant/moving.mp4", _content(b"\0\0\0\x18ftypmp42" + bytes(100))),
    Planted("ignored", "train/ant/negative.dng", _content(encode(noise(20, 20, seed=6), "TIFF"))),
    Planted("ignored", "train/ant/notes.txt", _content(b"remember the milk")),
    Planted("ignored", "train/ant/wrong.dat", _content(_PNG)),
    Planted("ignored", "train/outside.jpg", _content(_JPEG)),
    Planted("ignored", "train/ant/pipe.jpg", os.mkfifo),
    Planted("ignored", "train/ant/loop.jpg", lambda path: path.symlink_to(path)),
    Planted("ignored", "train/ant/broken.jpg", lambda path: path.symlink_to(path.with_name("gone"))),
    Planted("ignored", "train/ant/above/", lambda path: path.symlink_to(path.parent.parent)),
)
"""Training passes these over, or learns from them what it should not."""

PASSED_OVER = ("train/ant/.hidden.jpg", "train/ant/._apple.jpg", "train/ant/Thumbs.db", "train/.cache/x.jpg")
"""Hidden files and the litter of systems, which are nobody's samples."""


def plant(root: Path, planted: tuple[Planted, ...]) -> Path:
    """Write 2 × (12 + 3) good pictures, and the bad files."""
    number = 0
    for split, count in (("train", 12), ("val", 3)):
        for name in ("ant", "bee"):
            (root / split / name).mkdir(parents=True)
            for _ in range(count):
                (root / split / name / good_name(number)).write_bytes(good_picture(number))
                number += 1
    for bad in planted:
        bad.plant(root / bad.path)
    for hidden in PASSED_OVER:
        (root / hidden).parent.mkdir(exist_ok=True)
        (root / hidden).write_bytes(b"")
    return root
