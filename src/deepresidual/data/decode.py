"""Decoding: the bytes of an image file → ``(H, W, 3)`` uint8 RGB, by one rule for every command.

The rule:

- JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF and HEIC, recognized by their bytes, never by the name or a content
  type. HEIC needs the extra ``heic``.
- The orientation is applied, once: that of EXIF, and where there is none that of XMP; of HEIC and AVIF that
  of the container.
- Gray becomes three equal channels; a palette becomes its colours; 16-bit samples keep their high byte, and
  TIFFs of 9 to 15 bits their highest eight. Floating-point samples, of which nobody knows which is white, are
  refused.
- Transparent pixels are laid over white. (A single transparent colour, PNG's tRNS, counts in 8-bit and
  palette images only, because Pillow compares it before it scales other depths.)
- CMYK becomes RGB by Pillow's formula; colour profiles are not applied.
- Of an animation the first frame counts, of a TIFF the first page, of a HEIC the primary image.
- A damaged or truncated file is an error; nothing is ever substituted for it. Damaged metadata is
  passed over.
- An image that declares more than 128 megapixels or a side over 16,384 px is refused before any memory
  is taken for it.

Pillow defines the pixels. JPEGs of the ordinary kinds go through simplejpeg, which drives the same
libjpeg-turbo without Pillow's copies and tells what libjpeg warns of, where Pillow paints on; a test
holds the two equal. A warning about the coded pixels is damage: data that is missing, wrong or left over,
except for padding. What libjpeg says of the header is harmless.

Training may take a short cut: :func:`open_image` tells the size of an image before it is decoded, and where
only a small view of it is wanted, :meth:`OpenImage.decode_part` has libjpeg leave out the high frequencies
(half, a quarter or an eighth of the size), most of which the resize behind it would average away. Such views
of photos are a little softer: they move by 3 of 255 levels in the mean, and tests bound how far. Everything
else is the same, the errors included. Prediction does so only where it is asked to (``fast_decode``, with
twice the size that the view needs, which moves it by half a level); evaluation, export and serving never do.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from deepresidual.data.formats import ACCEPTED, EXPECTED, ends_early, sniff
from deepresidual.data.metadata import (
    ignore_warnings_of_pillow,
    jpeg_header_end,
    may_say_orientation,
    orientation_of,
    tidy_jpeg,
)
from deepresidual.data.readers import (
    SIZE_LIMIT,
    ImageHeader,
    check_size,
    decode_with_pillow,
    header_with_pillow,
    to_rgb,
    upright,
)
from deepresidual.data.source.archive import read_bytes
from deepresidual.errors import DataError
from deepresidual.runtime import git_lfs

# Encoders that write whole words leave so many bytes behind the pixels.
_MAX_STRAY_BYTES = 4

# What simplejpeg calls the kinds of JPEG for which libjpeg's RGB is Pillow's.
_PLAIN_JPEG = frozenset({"YCbCr", "RGB", "Gray"})


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
    with _as_data_error(found, content):
        if found == "JPEG":
            header = _plain_jpeg_header(content)
            if header is not None and (pixels := _decode_with_simplejpeg(content)) is not None:
                return upright(pixels, header.orientation)
            return _decode_jpeg_with_pillow(content)
        return decode_with_pillow(content, found)


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
    _jpeg: ImageHeader | None
    _pixels: NDArray[np.uint8] | None

    def decode(self) -> NDArray[np.uint8]:
        """Decode as :func:`decode` does, with its errors."""
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
        with _as_data_error("JPEG", self._content):
            pixels = _decode_with_simplejpeg(self._content, self._jpeg, scale)
            if pixels is None:
                return self.decode(), box
            # The last column or row stands for fewer than `scale` pixels where the size is no multiple of
            # it, and comes first where the image is turned over.
            orientation = self._jpeg.orientation
            pixels = upright(pixels, orientation)
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
    with _as_data_error(found, content):
        header = _plain_jpeg_header(content) if found == "JPEG" else None
    if header is None:
        pixels = decode(content)
        return OpenImage(pixels.shape[0], pixels.shape[1], content, None, pixels)
    return OpenImage(*header.upright, content, header, None)


def read_header(content: bytes) -> ImageHeader:
    """Read the size of an image and how it has to be turned, without decoding it.

    Args:
        content: The whole file.

    Raises:
        DataError: As :func:`decode`, except that damage behind the header does not show.
    """
    found = _accepted_format(content)
    with _as_data_error(found, content):
        header = _plain_jpeg_header(content) if found == "JPEG" else None
        return header or header_with_pillow(content, found)


def from_pillow(image: Image.Image) -> NDArray[np.uint8]:
    """Return a Pillow image as :func:`decode` returns a file: ``(H, W, 3)`` uint8, RGB, upright.

    Raises:
        DataError: The image is damaged, empty or too large.
    """
    ignore_warnings_of_pillow()
    try:
        check_size(*image.size)
        image.load()
        return upright(to_rgb(image), orientation_of(image))
    except DataError:
        raise
    except Exception as error:
        raise _damaged(image.format or "image", error) from error


def read_file(path: str | Path) -> bytes:
    """Return the content of a regular file, or of a file in a zip or tar: ``photos.zip/cats/1.jpg``.

    Raises:
        DataError: It cannot be read, or is something else: a pipe or a device might never end.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise DataError("not a regular file")
        return read_bytes(Path(path))
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError("the path holds a null character") from error


def _accepted_format(content: bytes) -> str:
    if not content:
        raise DataError("the file is empty (0 bytes)", kind="empty")
    found = sniff(content)
    if git_lfs.is_pointer(content):
        raise DataError(f"the file is {git_lfs.FOUND}", remedy=git_lfs.REMEDY, kind="unsupported")
    if found not in ACCEPTED:
        raise DataError(
            f"not an image that can be used (found {'an unknown format' if found == 'unknown' else found})",
            expected=EXPECTED,
            kind="unsupported",
        )
    return found


@contextlib.contextmanager
def _as_data_error(found: str, content: bytes) -> Iterator[None]:
    """Turn whatever a reader raises on damaged input into a :class:`DataError`."""
    try:
        yield
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        # Raised by Pillow's WebP reader, which looks at the canvas before we can.
        raise DataError(
            "the image is too large", expected=f"at most {SIZE_LIMIT}", kind="too-large"
        ) from error
    except ValueError as error:
        if "MAX_TEXT" in str(error):
            # Pillow's limits of what it unpacks of a PNG's texts.
            raise DataError(
                "the metadata of the image is too large", expected="at most 1 MB", kind="too-large"
            ) from error
        raise _damaged(found, error, content) from error
    # Pillow's readers raise nearly anything on damaged input: OSError, SyntaxError, ValueError,
    # struct.error, EOFError, IndexError, OverflowError, zlib.error.
    except Exception as error:
        raise _damaged(found, error, content) from error


def _decode_jpeg_with_pillow(content: bytes) -> NDArray[np.uint8]:
    ignore_warnings_of_pillow()
    may_be_turned = may_say_orientation(content)
    content = tidy_jpeg(content) or content
    with JpegImageFile(io.BytesIO(content)) as image:
        check_size(*image.size)
        if image.mode == "CMYK":
            _decode_with_simplejpeg(content, colorspace="CMYK")  # tells of damage, as Pillow does not
        image.load()
        orientation = orientation_of(image) if may_be_turned else 1
        return upright(to_rgb(image), orientation)


def _plain_jpeg_header(content: bytes) -> ImageHeader | None:
    """Read the header of a JPEG, or return ``None`` where Pillow has to look at it."""
    try:
        height, width, kind, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        tidied = tidy_jpeg(content)
        if tidied is None:
            return None
        try:
            height, width, kind, _ = simplejpeg.decode_jpeg_header(tidied)
        except ValueError:
            return None
    if kind not in _PLAIN_JPEG:
        return None
    check_size(width, height)
    return ImageHeader(height, width, _jpeg_orientation(content))


def _jpeg_orientation(content: bytes) -> object:
    # It lies before the pixels; to search those for its name as well would take a tenth of decoding them.
    if not may_say_orientation(content[: jpeg_header_end(content)]):
        return 1
    ignore_warnings_of_pillow()
    try:
        image = JpegImageFile(io.BytesIO(content))
    except (OSError, SyntaxError):  # stray bytes between segments
        image = JpegImageFile(io.BytesIO(tidy_jpeg(content) or content))
    with image:
        return orientation_of(image)


def _decode_with_simplejpeg(
    content: bytes, header: ImageHeader | None = None, scale: int = 1, colorspace: str = "RGB"
) -> NDArray[np.uint8] | None:
    """Decode with simplejpeg, or return ``None`` where only Pillow can read the file.

    With a header and a ``scale`` of 2, 4 or 8 the result has a ``scale``-th of the size, rounded up.

    Raises:
        DataError: The coded pixels are damaged.
    """
    height, width = (0, 0) if header is None else (header.height, header.width)
    # Of all sizes that libjpeg knows, one is at least so large and reduced at least so much.
    decode_jpeg = functools.partial(
        simplejpeg.decode_jpeg,
        colorspace=colorspace,
        min_height=-(-height // scale),
        min_width=-(-width // scale),
        min_factor=scale,
    )
    pixels: NDArray[np.uint8]
    try:
        pixels = decode_jpeg(content, strict=True)
    except ValueError as error:
        warning = str(error)
    else:
        return pixels
    if not _is_last_warning(warning):
        # The warning may be about the header, and hide another about the pixels.
        content = tidy_jpeg(content) or content
        try:
            pixels = decode_jpeg(content, strict=True)
        except ValueError as error:
            warning = str(error)
        else:
            return pixels
    _refuse_damage(warning, content)
    if _is_last_warning(warning):
        pixels = decode_jpeg(content, strict=False)
        return pixels
    return None


# What libjpeg-turbo says of coded pixels (jerror.h).
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0x([0-9a-f]{2})")
_BAD_CODES = ("bad Huffman code", "bad arithmetic code", "instead of RST", "Inconsistent progression")


def _is_last_warning(warning: str) -> bool:
    """Return whether libjpeg's first warning is about the end of the image, so that no other follows."""
    found = _LEFT_OVER.search(warning)
    return found is not None and found[2] == "d9"


def _refuse_damage(warning: str, content: bytes) -> None:
    """Raise an error where a warning of libjpeg about a JPEG with a tidy header means damaged pixels."""
    if "premature end" in warning.casefold():
        raise DataError("damaged JPEG (a part of the image data is missing)", kind="truncated")
    if any(text in warning for text in _BAD_CODES):
        raise DataError("damaged JPEG (a part of the image data is wrong)", kind="corrupt")
    found = _LEFT_OVER.search(warning)
    if found is None:
        return
    count = int(found[1])
    if found[2] == "d9":
        # Cameras pad; what else is left over was meant to be decoded, and all before it is displaced.
        end = content.find(b"\xff\xd9", jpeg_header_end(content))
        if count <= _MAX_STRAY_BYTES or len(set(content[max(end - count, 0) : end])) == 1:
            return
    raise DataError(f"damaged JPEG ({count:,} bytes of the image data are left over)", kind="corrupt")


# By what Pillow and simplejpeg say of a file that ends early.
_ENDS_EARLY = ("missing", "truncated", "premature", "end of file", "ends", "incomplete", "not enough")


def _damaged(found: str, error: Exception, content: bytes = b"") -> DataError:
    """Return the error for an image that a decoder could not read."""
    text = f"damaged {found} ({'the file ends early' if ends_early(content) else _reason(error)})"
    said = text.casefold()
    is_cut = any(words in said for words in _ENDS_EARLY)
    kind = "too-large" if "too large" in said else "truncated" if is_cut else "corrupt"
    return DataError(text, kind=kind)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    # Pillow names the in-memory file object where it cannot identify it; that says nothing to a user.
    return "cannot be read" if "BytesIO" in text else text[:120]
