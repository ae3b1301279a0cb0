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

Training alone may take a short cut: :func:`open_image` tells the size of an image before it is decoded, and
where only a small view of it is wanted, :meth:`OpenImage.decode_part` has libjpeg leave out the high
frequencies (half, a quarter or an eighth of the size), most of which the resize behind it would average away.
Such views of photos are a little softer: they move by 3 of 255 levels in the mean, and tests bound how far.
Everything else is the same, the errors included; evaluation, prediction, export and serving never do this.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass
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
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

__all__ = [
    "ACCEPTED",
    "EXTENSIONS",
    "OpenImage",
    "decode",
    "from_pillow",
    "open_image",
    "read_file",
    "sniff",
]

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

# What simplejpeg calls the kinds of JPEG for which libjpeg's RGB is Pillow's.
_PLAIN_JPEG = frozenset({"YCbCr", "RGB", "Gray"})

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
    found = _accepted_format(content)
    with _as_data_error(found):
        header = _plain_jpeg_header(content) if found == "JPEG" else None
        if header is not None and (pixels := _decode_plain_jpeg(content)) is not None:
            return _upright(pixels, header.orientation)
        return _decode_with_pillow(content, found)


@dataclass(frozen=True)
class OpenImage:
    """An image file of which the size is known; made by :func:`open_image`.

    Attributes:
        height: Height of the upright image in pixels.
        width: Its width.
    """

    height: int
    width: int
    _content: bytes
    _jpeg: _JpegHeader | None
    _pixels: NDArray[np.uint8] | None

    def decode(self) -> NDArray[np.uint8]:
        """Return what :func:`decode` returns, with its errors."""
        return decode(self._content) if self._pixels is None else self._pixels

    def decode_part(
        self, box: tuple[float, float, float, float], side_px: int
    ) -> tuple[NDArray[np.uint8], tuple[float, float, float, float]]:
        """Decode for a view of a part, at a smaller size where the part is much larger than the view.

        Args:
            box: The part: left, top, right, bottom, in pixels of the upright image.
            side_px: Side of the view in pixels. A smaller size is taken only if the part still has at
                least so many pixels each way.

        Returns:
            ``(H, W, 3)`` uint8 RGB, upright, and where the part lies in it.

        Raises:
            DataError: As :func:`decode`.
        """
        shorter = min(box[2] - box[0], box[3] - box[1])
        scale = next((scale for scale in (8, 4, 2) if shorter >= scale * side_px), 1)
        if self._jpeg is None or scale == 1:
            return self.decode(), box
        with _as_data_error("JPEG"):
            pixels = _decode_plain_jpeg(self._content, self._jpeg, scale)
            if pixels is None:
                return self.decode(), box
            # The last column or row stands for fewer than `scale` pixels where the size is no multiple of
            # it, and comes first where the image is turned over.
            orientation = self._jpeg.orientation
            pixels = _upright(pixels, orientation)
            before_x = pixels.shape[1] - self.width / scale if orientation in (2, 3, 6, 7) else 0
            before_y = pixels.shape[0] - self.height / scale if orientation in (3, 4, 7, 8) else 0
        left, top, right, bottom = (edge / scale for edge in box)
        return pixels, (left + before_x, top + before_y, right + before_x, bottom + before_y)


def open_image(content: bytes) -> OpenImage:
    """Find out the size of an image, for a choice of which part of it to decode.

    Of JPEGs only the header is read; other kinds, and JPEGs out of the ordinary, are decoded.

    Args:
        content: The whole file.

    Raises:
        DataError: As :func:`decode`, except that damage behind the header may show only in decoding.
    """
    found = _accepted_format(content)
    with _as_data_error(found):
        header = _plain_jpeg_header(content) if found == "JPEG" else None
    if header is None:
        pixels = decode(content)
        return OpenImage(pixels.shape[0], pixels.shape[1], content, None, pixels)
    turned = header.orientation in (5, 6, 7, 8)
    height, width = (header.width, header.height) if turned else (header.height, header.width)
    return OpenImage(height, width, content, header, None)


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


def _accepted_format(content: bytes) -> str:
    if not content:
        raise DataError("the file is empty (0 bytes)")
    found = sniff(content)
    if found not in ACCEPTED:
        raise DataError(
            f"not an image that can be used (found {'an unknown format' if found == 'unknown' else found})",
            expected="JPEG, PNG, WebP or BMP",
        )
    return found


@contextlib.contextmanager
def _as_data_error(found: str) -> Iterator[None]:
    """Turn whatever a reader raises on damaged input into a :class:`DataError`."""
    try:
        yield
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        # Raised by Pillow's WebP reader, which looks at the canvas before we can.
        raise DataError("the image is too large", expected=f"at most {_LIMIT}") from error
    # Pillow's readers raise nearly anything on damaged input: OSError, SyntaxError, ValueError,
    # struct.error, EOFError, IndexError, OverflowError, zlib.error.
    except Exception as error:
        raise DataError(f"damaged {found} ({_reason(error)})") from error


def _decode_with_pillow(content: bytes, found: str) -> NDArray[np.uint8]:
    # Pillow warns of odd EXIF blocks, which are harmless here. The filter stays: taking it back, as
    # catch_warnings does, replaces the list of filters, which other threads are using.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
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


@dataclass(frozen=True)
class _JpegHeader:
    """What the beginning of an ordinary JPEG says: its size as stored, and how it is to be turned."""

    height: int
    width: int
    orientation: object


def _plain_jpeg_header(content: bytes) -> _JpegHeader | None:
    """Read the header of a JPEG, or return ``None`` where Pillow has to look at it."""
    try:
        height, width, kind, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    if kind not in _PLAIN_JPEG:
        return None
    _check_size(width, height)
    return _JpegHeader(height, width, _jpeg_orientation(content))


def _jpeg_orientation(content: bytes) -> object:
    # EXIF lies before the pixels; to search those for its name as well would take a tenth of decoding them.
    if not _may_hold_exif(content[: _end_of_jpeg_header(content)]):
        return 1
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    with JpegImageFile(io.BytesIO(content)) as image:
        return image.getexif().get(_EXIF_ORIENTATION, 1)


def _end_of_jpeg_header(content: bytes) -> int:
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


def _decode_plain_jpeg(
    content: bytes, header: _JpegHeader | None = None, scale: int = 1
) -> NDArray[np.uint8] | None:
    """Decode with simplejpeg, or return ``None`` where libjpeg warns of something that Pillow lets pass.

    With a header and a ``scale`` of 2, 4 or 8 the result has a ``scale``-th of the size, rounded up.
    """
    height, width = (0, 0) if header is None else (header.height, header.width)
    try:
        # Of all sizes that libjpeg knows, one is at least so large and reduced at least so much.
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            content,
            colorspace="RGB",
            min_height=-(-height // scale),
            min_width=-(-width // scale),
            min_factor=scale,
            strict=True,
        )
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
