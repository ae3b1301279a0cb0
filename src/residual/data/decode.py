"""Decoding: the bytes of an image file → ``(H, W, 3)`` uint8 RGB, by one rule for every command.

The rule:

- JPEG, PNG, WebP and BMP, recognized by their bytes, never by the name or a content type.
- EXIF orientation is applied.
- Gray becomes three equal channels; a palette becomes its colours; 16-bit samples keep their high byte.
- Transparent pixels are laid over white.
- CMYK becomes RGB by Pillow's formula; colour profiles are not applied.
- Of an animation the first frame counts.
- A damaged or truncated file is an error; nothing is ever substituted for it.
- An image that declares more than 128 megapixels or a side over 16,384 px is refused before any memory
  is taken for it.

Pillow defines the pixels. JPEGs of the ordinary kinds go through simplejpeg, which drives the same
libjpeg-turbo without Pillow's copies; a test holds the two equal.
"""

from __future__ import annotations

import io
import struct
import warnings
from typing import TYPE_CHECKING

import numpy as np
import simplejpeg
from PIL import Image, ImageOps

from residual.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ACCEPTED", "EXTENSIONS", "decode", "sniff"]

ACCEPTED = ("JPEG", "PNG", "WEBP", "BMP")
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp"})

# 128 MP hold the 102 MP of today's largest common sensors and cost 384 MB as RGB; a bomb declares thousands.
_MAX_PIXELS = 128_000_000
_MAX_SIDE = 16_384

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
    with warnings.catch_warnings():
        # Pillow warns of large images (ours is the tighter limit) and of odd EXIF blocks (harmless here).
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(content), formats=ACCEPTED) as image:
                _check_size(*image.size)
                orientation = image.getexif().get(_EXIF_ORIENTATION, 1) if _may_hold_exif(content) else 1
                pixels = (
                    _decode_plain_jpeg(content, image.mode) if found == "JPEG" and orientation == 1 else None
                )
                if pixels is None:
                    image.load()
                    pixels = _to_rgb(ImageOps.exif_transpose(image) if orientation != 1 else image)
        except DataError:
            raise
        except Image.DecompressionBombError as error:
            # Pillow's own guard came first; it knows the number of pixels, not the sides.
            _check_size(*_declared_size(content, found))
            raise DataError(f"the image is too large ({error})") from error
        # Pillow's plugins raise nearly anything on damaged input: OSError, SyntaxError, ValueError,
        # struct.error, EOFError, IndexError, OverflowError, zlib.error, DecompressionBombError.
        except Exception as error:
            raise DataError(f"damaged {found} ({_reason(error)})") from error
    return pixels


def _decode_plain_jpeg(content: bytes, mode: str) -> NDArray[np.uint8] | None:
    """Decode with simplejpeg, or return ``None`` where only Pillow's word counts."""
    if mode not in ("RGB", "L"):
        return None
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, colorspace="RGB", strict=True)
    except ValueError:
        return None  # any warning of libjpeg: Pillow knows the harmless ones from a truncated file
    return pixels


def _declared_size(content: bytes, found: str) -> tuple[int, int]:
    """Return width and height as the header of a JPEG, PNG or BMP declares them; no other is that large."""
    match found:
        case "JPEG":
            height, width, _, _ = simplejpeg.decode_jpeg_header(content, strict=False)
        case "PNG":
            width, height = struct.unpack(">II", content[16:24])
        case _:
            width, height = struct.unpack("<ii", content[18:26])
    return width, abs(height)


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise DataError("the image's width or height is zero")
    if width * height > _MAX_PIXELS or max(width, height) > _MAX_SIDE:
        raise DataError(
            f"the image is too large ({width}×{height} px = {width * height / 1e6:,.0f} MP)",
            expected=f"at most {_MAX_PIXELS // 10**6} MP and {_MAX_SIDE:,} px a side",
        )


def _may_hold_exif(content: bytes) -> bool:
    # Asking Pillow costs a parse of the whole block; most files of data sets carry none.
    return b"Exif" in content[:65_536] or b"eXIf" in content or b"EXIF" in content


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
