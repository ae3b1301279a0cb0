"""Decoding: the bytes of an image file → ``(H, W, 3)`` uint8 RGB, by one rule for every command.

The rule:

- JPEG, PNG, WebP and BMP, recognized by their bytes, never by the name or a content type.
- EXIF orientation is applied.
- Gray becomes three equal channels; a palette becomes its colours; 16-bit samples keep their high byte.
- Transparent pixels are laid over white. (A single transparent colour, PNG's tRNS, counts in 8-bit and
  palette images only, because Pillow compares it before it scales other depths.)
- CMYK becomes RGB by Pillow's formula; colour profiles are not applied.
- Of an animation the first frame counts.
- A damaged or truncated file is an error; nothing is ever substituted for it.
- An image that declares more than 128 megapixels or a side over 16,384 px is refused before any memory
  is taken for it.

Pillow defines the pixels. JPEGs of the ordinary kinds go through simplejpeg, which drives the same
libjpeg-turbo without Pillow's copies and says when data is missing, where Pillow paints gray; a test
holds the two equal.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from residual.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["ACCEPTED", "EXTENSIONS", "decode", "from_pillow", "read_file", "sniff"]

# The format is known from the signature, so its reader is called directly: Image.open would first apply a
# limit of its own, which is global state of Pillow and does not say how large the image claims to be.
_READERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "BMP": BmpImageFile,
}

ACCEPTED = tuple(_READERS)
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp"})

# 128 MP hold the 102 MP of today's largest common sensors and cost 384 MB as RGB; a bomb declares thousands.
_MAX_PIXELS = 128_000_000
_MAX_SIDE = 16_384
_LIMIT = f"{_MAX_PIXELS // 10**6} MP and {_MAX_SIDE:,} px a side"

_EXIF_ORIENTATION = 0x0112

_SIGNATURES = (
    ("JPEG", b"\xff\xd8\xff"),
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("BMP", b"BM"),
    ("GIF", b"GIF8"),
    ("TIFF", b"II*\x00"),
    ("TIFF", b"MM\x00*"),
    ("PSD", b"8BPS"),
    ("PDF", b"%PDF"),
    ("JPEG 2000", b"\x00\x00\x00\x0cjP"),
    ("ICO", b"\x00\x00\x01\x00"),
)


def sniff(content: bytes) -> str:
    """Return the format that the first bytes show: one of :data:`ACCEPTED`, another name, or ``unknown``."""
    for name, signature in _SIGNATURES:
        if content.startswith(signature):
            return name
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if content[4:8] == b"ftyp":
        return "AVIF" if content[8:12] in (b"avif", b"avis") else "HEIC or MP4"
    if content and content[:512].isascii() and all(byte >= 9 for byte in content[:512]):
        return "text"
    return "unknown"


def decode(content: bytes) -> NDArray[np.uint8]:
    """Decode an image file.

    Args:
        content: The whole file.

    Returns:
        ``(H, W, 3)`` uint8, RGB, upright.

    Raises:
        DataError: The bytes are empty, of a format that is not accepted, damaged, truncated or too large.
            The message does not name the file; the caller knows it.
    """
    if not content:
        raise DataError("the file is empty (0 bytes)")
    found = sniff(content)
    if found not in ACCEPTED:
        raise DataError(
            f"not an image that can be used (found {'an unknown format' if found == 'unknown' else found})",
            expected="JPEG, PNG, WebP or BMP",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd EXIF blocks, which are harmless here
            return _decode(content, found)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        # Raised by Pillow's WebP reader, which looks at the canvas before we can.
        raise DataError("the image is too large", expected=f"at most {_LIMIT}") from error
    # Pillow's readers raise nearly anything on damaged input: OSError, SyntaxError, ValueError,
    # struct.error, EOFError, IndexError, OverflowError, zlib.error.
    except Exception as error:
        raise DataError(f"damaged {found} ({_reason(error)})") from error


def from_pillow(image: Image.Image) -> NDArray[np.uint8]:
    """Return a Pillow image as :func:`decode` returns a file: ``(H, W, 3)`` uint8, RGB, upright.

    Raises:
        DataError: The image is damaged, empty or too large.
    """
    try:
        _check_size(*image.size)
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        image.load()
        return _upright(_to_rgb(image), orientation)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"damaged {image.format or 'image'} ({_reason(error)})") from error


def read_file(path: str | Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        DataError: It cannot be read, or is something else: a pipe or a device might never end.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise DataError("not a regular file")
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError("the path holds a null character") from error


def _decode(content: bytes, found: str) -> NDArray[np.uint8]:
    with _READERS[found](io.BytesIO(content)) as image:
        _check_size(*image.size)
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1) if _may_hold_exif(content) else 1
        pixels = _decode_plain_jpeg(content) if found == "JPEG" and image.mode in ("RGB", "L") else None
        if pixels is None:
            if found == "PNG":
                # Decoding alone leaves the checksums of the pixel data unread.
                PngImageFile(io.BytesIO(content)).verify()
            image.load()
            pixels = _to_rgb(image)
    return _upright(pixels, orientation)


def _decode_plain_jpeg(content: bytes) -> NDArray[np.uint8] | None:
    """Decode with simplejpeg, or return ``None`` where libjpeg warns of something that Pillow lets pass."""
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, colorspace="RGB", strict=True)
    except ValueError as error:
        if "premature end" in str(error).casefold():
            raise DataError("damaged JPEG (a part of the image data is missing)") from error
        return None
    return pixels


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise DataError("the image's width or height is zero")
    if width * height > _MAX_PIXELS or max(width, height) > _MAX_SIDE:
        raise DataError(
            f"the image is too large ({width}×{height} px = {width * height / 1e6:,.0f} MP)",
            expected=f"at most {_LIMIT}",
        )


def _may_hold_exif(content: bytes) -> bool:
    # Asking Pillow costs a parse of the whole block; most files of data sets carry none. JPEG and WebP
    # say Exif or EXIF, PNG says eXIf, and ImageMagick's PNGs "Raw profile type exif".
    return any(tag in content for tag in (b"Exif", b"EXIF", b"eXIf", b"Raw profile type exif"))


def _upright(pixels: NDArray[np.uint8], orientation: object) -> NDArray[np.uint8]:
    """Turn an image as its EXIF orientation says (1 to 8; EXIF 2.3, section 4.6.4, tag 274)."""
    match orientation:
        case 2:
            pixels = pixels[:, ::-1]
        case 3:
            pixels = pixels[::-1, ::-1]
        case 4:
            pixels = pixels[::-1]
        case 5:
            pixels = pixels.transpose(1, 0, 2)
        case 6:
            pixels = np.rot90(pixels, -1)
        case 7:
            pixels = pixels[::-1, ::-1].transpose(1, 0, 2)
        case 8:
            pixels = np.rot90(pixels)
    return np.ascontiguousarray(pixels)


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I") or image.mode == "F":
        high = np.asarray(image).astype(np.uint32) >> 8
        return np.repeat(high.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    # Pillow names the in-memory file object where it cannot identify it; that says nothing to a user.
    return "cannot be read" if "BytesIO" in text else text[:120]
