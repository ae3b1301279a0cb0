"""Image formats: which are read, under which suffixes, and how the first bytes of a file tell them apart.

Every reader of files asks here: folders, tables, shards, archives, ``check`` and ``predict``.

Example:
    >>> sniff(Path("IMG_0094.HEIC").read_bytes())
    'HEIC'
"""

from __future__ import annotations

import functools
import importlib.util
import os

from deepresidual.errors import DISTRIBUTION

_SUFFIXES = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"),
    "PNG": ("png",),
    "WEBP": ("webp",),
    "BMP": ("bmp",),
    "TIFF": ("tif", "tiff"),
    "GIF": ("gif",),
    "AVIF": ("avif", "avifs"),
    "HEIC": ("heic", "heif", "hif"),
}

ACCEPTED = tuple(_SUFFIXES)
"""Names of the formats that are read; what :func:`sniff` returns of them."""

EXTENSIONS = frozenset(f".{suffix}" for suffixes in _SUFFIXES.values() for suffix in suffixes)
"""Suffixes of image files, in small letters, with the dot."""

RAW_EXTENSIONS = frozenset(
    (".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")
)
"""Suffixes of cameras' raw files. Most call themselves TIFF, and hold a thumbnail as their first picture."""

EXPECTED = "JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC"
"""The formats for a message."""

HEIF_LIBRARIES = ("pi_heif", "pillow_heif")
"""Modules that read HEIC, the one of the extra first: it decodes only, and its libraries are LGPL."""

HEIC_MISSING = "a HEIC photo, as iPhones take them"
HEIC_REMEDY = (
    f"to read these: pip install '{DISTRIBUTION}[heic]' (or convert: macOS Preview; on an iPhone "
    "Settings > Camera > Formats > Most Compatible)"
)

_SIGNATURES = (
    ("JPEG", b"\xff\xd8\xff"),
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("BMP", b"BM"),
    ("GIF", b"GIF8"),
    ("CR2", b"II*\x00\x10\x00\x00\x00CR"),  # Canon's raw files call themselves TIFF
    ("TIFF", b"II*\x00"),
    ("TIFF", b"MM\x00*"),
    ("TIFF", b"II+\x00"),  # BigTIFF
    ("TIFF", b"MM\x00+"),
    ("PSD", b"8BPS"),
    ("PDF", b"%PDF"),
    ("JPEG 2000", b"\x00\x00\x00\x0cjP"),
    ("JPEG XL", b"\x00\x00\x00\x0cJXL "),
    ("JPEG XL", b"\xff\x0a"),
    ("ICO", b"\x00\x00\x01\x00"),
    ("ZIP", b"PK\x03\x04"),
)
# Brands of ISO base media files (ISO/IEC 23008-12, annex B; AV1 image file format, section 8).
_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))
# They say that there is an image, not how it is coded.
_STRUCTURAL_BRANDS = frozenset((b"mif1", b"mif2", b"msf1", b"miaf"))
_MAX_BRANDS = 64


def suffix_of(name: str) -> str:
    """Return the usual suffix of a format, without the dot."""
    return _SUFFIXES[name][0]


def is_image_name(name: str) -> bool:
    """Return whether a name has the ending of an image file."""
    return os.path.splitext(name)[1].casefold() in EXTENSIONS  # noqa: PTH122  # called a million times


def is_heic_name(name: str) -> bool:
    """Return whether a file's suffix says HEIC."""
    return name.casefold().endswith(tuple(f".{suffix}" for suffix in _SUFFIXES["HEIC"]))


def sniff(content: bytes) -> str:
    """Return the format that the first bytes show: one of :data:`ACCEPTED`, another name, or ``unknown``."""
    for name, signature in _SIGNATURES:
        if content.startswith(signature):
            return name
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if content[4:8] == b"ftyp":
        return _sniff_brands(content)
    if content and content[:512].isascii() and all(byte >= 9 for byte in content[:512]):
        return "text"
    return "unknown"


def _sniff_brands(content: bytes) -> str:
    """Return what the first box of an ISO base media file says: its brand, or those it is compatible with."""
    end = min(int.from_bytes(content[:4], "big"), len(content), 16 + 4 * _MAX_BRANDS)
    major = content[8:12]
    compatible = {content[place : place + 4] for place in range(16, end, 4)}
    for brands in ({major}, compatible):
        if brands & _AVIF_BRANDS:
            return "AVIF"
        if brands & _HEIC_BRANDS:
            return "HEIC"
    if major == b"crx ":
        return "CR3"
    return "HEIC" if _STRUCTURAL_BRANDS & (compatible | {major}) else "MP4"


def ends_early(content: bytes) -> bool:
    """Return whether a file is shorter than its headers say; of formats whose decoders do not tell."""
    match sniff(content):
        case "WEBP":
            return int.from_bytes(content[4:8], "little") + 8 > len(content)
        case "AVIF" | "HEIC":
            place = 0
            while place + 8 <= len(content):
                size = int.from_bytes(content[place : place + 4], "big")
                if size == 1:  # a box of more than 4 GB, its size behind its name
                    size = int.from_bytes(content[place + 8 : place + 16], "big")
                if size < 8:  # 0: up to the end of the file
                    return False
                place += size
            return place > len(content)
        case _:
            return False


@functools.cache
def reads_heic() -> bool:
    """Return whether a library that reads HEIC is installed; see the extra ``heic``."""
    return any(importlib.util.find_spec(name) for name in HEIF_LIBRARIES)
