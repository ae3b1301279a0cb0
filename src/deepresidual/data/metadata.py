"""Read the metadata of image files for the orientation, and keep it away from the decoder.

Profiles, comments and EXIF do not change the pixels, so nothing in them may stop an image from being used:
they are passed over where they are damaged. What does change pixels is left to the decoder, whole.
"""

from __future__ import annotations

import contextlib
import re
import warnings
import zlib
from typing import TYPE_CHECKING

from deepresidual.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

EXIF_ORIENTATION = 0x0112
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')

# Chunks that change no pixel of the first picture (PNG specification, third edition, section 11.3). tRNS is
# not among them.
_PNG_METADATA = frozenset(
    b"cHRM cICP gAMA iCCP mDCV cLLI sBIT sRGB bKGD hIST pHYs sPLT "
    b"eXIf tIME tEXt zTXt iTXt acTL fcTL fdAT".split()
)
# Profiles of printers have 2 to 4 MB.
_MAX_METADATA_BYTES = 16_000_000
# What zlib packs at most into a byte.
_MAX_ZLIB_RATIO = 1032


def ignore_warnings_of_pillow() -> None:
    """Keep what Pillow says of odd metadata and palettes from stderr: it is harmless here.

    The filter stays: taking it back, as ``catch_warnings`` does, replaces the list of filters, which other
    threads are using.
    """
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


# -- orientation -----------------------------------------------------------------------------------------


def may_say_orientation(content: bytes) -> bool:
    """Return whether the bytes hold a name under which an orientation is kept.

    Asking Pillow costs a parse of the whole block, and most files of data sets carry none. JPEG and WebP say
    Exif or EXIF, PNG says eXIf, ImageMagick's PNGs "Raw profile type exif". XMP may be packed in PNG.
    """
    names = (b"Exif", b"EXIF", b"eXIf", b"Raw profile type exif", b"tiff:Orientation", b"XML:com.adobe.xmp")
    return any(name in content for name in names)


def orientation_of(image: Image.Image) -> object:
    """Return the orientation of an opened image: EXIF's, where it has none that of XMP, where neither has, 1.

    So does ``PIL.ImageOps.exif_transpose``, except that an EXIF block that cannot be read counts as none.
    """
    # Broken blocks raise nearly anything: SyntaxError, struct.error, ValueError, KeyError, OverflowError.
    with contextlib.suppress(Exception):
        exif = image.getexif()
        if EXIF_ORIENTATION in exif:
            return exif[EXIF_ORIENTATION]
    xmp = image.info.get("xmp", b"")
    found = _XMP_ORIENTATION.search(xmp) if isinstance(xmp, bytes) else None
    return int(found[1]) if found else 1


# -- JPEG ------------------------------------------------------------------------------------------------


def jpeg_header_end(content: bytes) -> int:
    """Return where the pixels of a JPEG begin, or its end where the segments before them are out of order."""
    place = 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        if marker == 0xDA:  # start of scan
            return place
        if (
            marker < 0xC0 or 0xD0 <= marker <= 0xD9 or marker == 0xFF
        ):  # fill bytes and segments without a size
            break
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    return len(content)


def tidy_jpeg(content: bytes) -> bytes | None:
    """Return a JPEG without the oddities of its header of which libjpeg warns; ``None`` if it has no pixels.

    Those are stray bytes between segments, an unknown version of JFIF, and zeros where the only scan of a
    sequential JPEG names its coefficients. They are harmless, but libjpeg reports only the first of its
    warnings, which would hide one of damaged pixels.
    """
    parts, place, is_sequential = [content[:2]], 2, False
    while True:
        # As libjpeg finds the next marker: a byte of 0xFF, and one that is neither 0x00 nor 0xFF.
        place = content.find(b"\xff", place)
        while 0 <= place < len(content) - 1 and content[place + 1] == 0xFF:
            place += 1
        if place < 0 or place + 4 > len(content):
            return None
        marker = content[place + 1]
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD7:
            place += 2
            continue
        if marker in (0xD8, 0xD9):  # another beginning, or the end
            return None
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        segment = content[place:end]
        if marker == 0xDA:
            if is_sequential:
                segment = segment[:-3] + b"\x00\x3f\x00"
            return b"".join([*parts, segment, content[end:]])
        is_sequential = is_sequential or marker in (0xC0, 0xC1)
        if marker == 0xE0 and segment[4:9] == b"JFIF\0":
            segment = segment[:9] + b"\x01\x01" + segment[11:]
        parts.append(segment)
        place = max(end, place + 4)


# -- PNG -------------------------------------------------------------------------------------------------


def png_without_metadata(content: bytes) -> bytes:
    """Return a PNG with what its pixels and its orientation need; checksums are held against the bytes.

    A wrong one is an error where it concerns the pixels; a chunk of metadata is left out with it.

    Raises:
        DataError: A checksum is wrong, or metadata would unpack to more than 16 MB.
    """
    view = memoryview(content)
    parts: list[bytes | memoryview] = [content[:8]]
    place = 8
    while place + 12 <= len(content):
        end = place + 12 + int.from_bytes(view[place : place + 4], "big")
        if end > len(content):
            break
        kind = content[place + 4 : place + 8]
        is_sound = zlib.crc32(view[place + 4 : end - 4]) == int.from_bytes(view[end - 4 : end], "big")
        if kind not in _PNG_METADATA:
            if not is_sound:
                name = kind.decode("ascii") if kind.isalpha() else "a chunk"
                raise DataError(f"damaged PNG (the checksum of {name} is wrong)")
            parts.append(view[place:end])
        else:
            body = view[place + 8 : end - 4]
            _refuse_bomb(kind, body)
            if is_sound and _says_orientation(kind, body):
                parts.append(view[place:end])
        place = end
        if kind == b"IEND":
            return b"".join(parts)
    # It ends too early; the decoder says where.
    return b"".join([*parts, view[place:]])


def _says_orientation(kind: bytes, body: memoryview) -> bool:
    name = bytes(body[:22]).partition(b"\0")[0]
    return kind == b"eXIf" or name in (b"XML:com.adobe.xmp", b"Raw profile type exif")


def _refuse_bomb(kind: bytes, body: memoryview) -> None:
    """Refuse a chunk that unpacks to more than any honest profile or text has, without keeping it."""
    if kind not in (b"iCCP", b"zTXt", b"iTXt") or len(body) * _MAX_ZLIB_RATIO <= _MAX_METADATA_BYTES:
        return
    # The name ends with a null byte. Then one byte names the packing; of iTXt two, and two more names.
    packed = bytes(body).partition(b"\0")[2][1:]
    if kind == b"iTXt":
        packed = packed[1:].split(b"\0", 2)[-1]
    unpacker, num_bytes = zlib.decompressobj(), 0
    with contextlib.suppress(zlib.error):
        while packed:
            num_bytes += len(unpacker.decompress(packed, 2**20))
            if num_bytes > _MAX_METADATA_BYTES:
                raise DataError(
                    "the metadata of the image is too large",
                    expected=f"at most {_MAX_METADATA_BYTES // 10**6} MB unpacked",
                    kind="too-large",
                )
            packed = unpacker.unconsumed_tail
