"""Read image files with Pillow: the reader of every format, what of a file counts, and which way up it is.

Each format keeps its orientation in another place, and some readers have turned the image already. It is
turned once:

- JPEG, PNG, WebP and GIF: EXIF says how, else XMP; nothing is turned by the reader.
- TIFF: Pillow turns it as it loads.
- HEIC: the container says how and libheif does it. An orientation in its EXIF is a copy for other programs.
- AVIF: the container says how, and Pillow hands that on as EXIF.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from deepresidual.data.formats import HEIC_MISSING, HEIC_REMEDY, HEIF_LIBRARIES, reads_heic
from deepresidual.data.metadata import (
    EXIF_ORIENTATION,
    ignore_warnings_of_pillow,
    may_say_orientation,
    orientation_of,
    png_without_metadata,
    tidy_jpeg,
)
from deepresidual.errors import DataError

# The format is known from the signature, so its reader is called directly: Image.open would first apply a
# limit of its own, which is global state of Pillow and does not say how large the image claims to be.
_READERS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "GIF": GifImageFile,
}

# 128 MP hold the 102 MP of today's largest common sensors and cost 384 MB as RGB; a bomb declares thousands.
_MAX_PIXELS = 128_000_000
_MAX_SIDE = 16_384
SIZE_LIMIT = f"{_MAX_PIXELS // 10**6} MP and {_MAX_SIDE:,} px a side"

# Tags of TIFF 6.0, and of DNG 1.7.
_TIFF_SIDES = (256, 257)  # width, height
_SUBFILE_TYPE, _BITS, _PHOTOMETRIC, _DNG_VERSION = 254, 258, 262, 50706
_SUPPORTED_TIFF = "8 or 16 bits a sample, as gray, RGB or CMYK"


def reads_avif() -> bool:
    """Return whether this Pillow reads AVIF; its wheels do from 11.3 on."""
    from PIL import features

    return "avif" in features.modules and bool(features.check("avif"))


def decode_with_pillow(content: bytes, found: str) -> NDArray[np.uint8]:
    """Decode a file of a format other than JPEG.

    Args:
        content: The whole file.
        found: Its format, of :data:`deepresidual.data.formats.ACCEPTED`.

    Returns:
        ``(H, W, 3)`` uint8, RGB, upright.

    Raises:
        DataError: The format needs a library that is not here, or the image is of a kind that is not read,
            too large, or damaged.
        Exception: Nearly anything that Pillow's readers raise on damaged input.
    """
    ignore_warnings_of_pillow()
    may_be_turned = may_say_orientation(content)
    if found == "PNG":
        content = png_without_metadata(content)
    with _opened(content, found) as image:
        check_size(*image.size)
        if found == "TIFF":
            return _tiff_pixels(image)
        image.load()
        match found:
            case "HEIC":
                orientation: object = 1
            case "AVIF":
                orientation = _orientation_in_exif(image)
            case _:
                orientation = orientation_of(image) if may_be_turned else 1
        return upright(to_rgb(image), orientation)


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says of its pixels before them.

    Attributes:
        height: Height in pixels as stored.
        width: Its width.
        orientation: How it has to be turned (EXIF tag 274); another value than 2 to 8: not at all.
    """

    height: int
    width: int
    orientation: object

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width after it is turned."""
        turned = self.orientation in (5, 6, 7, 8)
        return (self.width, self.height) if turned else (self.height, self.width)


def header_with_pillow(content: bytes, found: str) -> ImageHeader:
    """Read the header of a file of any format, for what :func:`decode_with_pillow` makes of it.

    Raises:
        DataError: The format needs a library that is not here, or the image is too large.
        Exception: Nearly anything that Pillow's readers raise on damaged input.
    """
    ignore_warnings_of_pillow()
    may_be_turned = may_say_orientation(content)
    if found == "PNG" and may_be_turned:
        content = png_without_metadata(content)
    elif found == "JPEG":
        content = tidy_jpeg(content) or content
    with _opened(content, found) as image:
        width, height = image.size
        orientation: object = 1
        if found == "TIFF":
            tags: Any = image.tag_v2  # type: ignore[attr-defined]
            # Pillow gives the size of the upright image where it turns one as it loads.
            width, height = (tags.get(tag, 0) for tag in _TIFF_SIDES)
            orientation = orientation_of(image)
        elif found == "AVIF":
            orientation = _orientation_in_exif(image)
        elif found != "HEIC" and may_be_turned:
            orientation = orientation_of(image)
        check_size(width, height)
        return ImageHeader(height, width, orientation)


def _opened(content: bytes, found: str) -> Image.Image:
    if found == "AVIF":
        if not reads_avif():
            raise DataError(
                f"an AVIF image, which Pillow {PIL.__version__} does not read here",
                remedy="to read these: pip install --upgrade 'Pillow>=11.3'",
                kind="unsupported",
            )
        from PIL.AvifImagePlugin import AvifImageFile

        return AvifImageFile(io.BytesIO(content))
    if found == "HEIC":
        return _heif_reader()(io.BytesIO(content))
    return _READERS[found](io.BytesIO(content))


def _heif_reader() -> Callable[[io.BytesIO], Image.Image]:
    if not reads_heic():
        raise DataError(HEIC_MISSING, remedy=HEIC_REMEDY, kind="unsupported")
    for name in HEIF_LIBRARIES:
        with contextlib.suppress(ImportError):
            # Its class is called directly, too: nothing is registered with Pillow for the whole process.
            reader: Callable[[io.BytesIO], Image.Image] = importlib.import_module(
                f"{name}.as_plugin"
            ).HeifImageFile
            return reader
    raise DataError(
        "a HEIC photo, and the library for these cannot be loaded", remedy=HEIC_REMEDY, kind="unsupported"
    )


def _orientation_in_exif(image: Image.Image) -> object:
    """Return the orientation in EXIF alone: XMP says of an AVIF what may have been done already."""
    with contextlib.suppress(Exception):
        exif = Image.Exif()
        exif.load(image.info.get("exif", b""))
        return exif.get(EXIF_ORIENTATION, 1)
    return 1


# -- TIFF ------------------------------------------------------------------------------------------------


def _tiff_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the first page of a TIFF, which Pillow turns as it loads."""
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    if _DNG_VERSION in tags or tags.get(_SUBFILE_TYPE, 0) & 1:
        raise DataError(
            "a camera's raw file, of which only a preview could be read",
            remedy="export it as JPEG or TIFF",
            kind="unsupported",
        )
    num_bits = max(tags.get(_BITS, (1,)))
    is_negative = tags.get(_PHOTOMETRIC) == 0
    if image.mode in ("I", "F", "LAB"):
        kind = {"I": f"{num_bits}-bit signed or 32-bit", "F": "floating-point", "LAB": "CIELAB"}[image.mode]
        raise DataError(
            f"a TIFF with {kind} samples"
            + (", of which nobody knows which is white" if image.mode != "LAB" else ""),
            expected=_SUPPORTED_TIFF,
            remedy="save it so",
            kind="unsupported",
        )
    image.load()
    if not image.mode.startswith("I;16"):
        return np.ascontiguousarray(to_rgb(image))
    high = (np.asarray(image).astype(np.uint32) >> (num_bits - 8)).clip(0, 255).astype(np.uint8)
    # Pillow turns negatives of 8 bits over, and not those of more.
    return _as_rgb(255 - high if is_negative else high)


# -- what is the same for all ----------------------------------------------------------------------------


def check_size(width: int, height: int) -> None:
    """Refuse an image without pixels and one that would take too much memory.

    Raises:
        DataError: A side is 0, or the image is larger than :data:`SIZE_LIMIT`.
    """
    if width < 1 or height < 1:
        raise DataError("the image's width or height is zero", kind="corrupt")
    if width * height > _MAX_PIXELS or max(width, height) > _MAX_SIDE:
        raise DataError(
            f"the image is too large ({width}×{height} px = {width * height / 1e6:,.0f} MP)",
            expected=f"at most {SIZE_LIMIT}",
            kind="too-large",
        )


def upright(pixels: NDArray[np.uint8], orientation: object) -> NDArray[np.uint8]:
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


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of a loaded image as ``(H, W, 3)`` uint8 RGB over white; of 16 bits the high byte."""
    if image.mode == "F":
        raise DataError(
            "an image with floating-point samples, of which nobody knows which is white",
            expected="8 or 16 bits a sample",
            kind="unsupported",
        )
    if image.mode.startswith("I"):
        high = np.asarray(image).astype(np.uint32) >> 8
        return _as_rgb(high.clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.asarray(image.convert("RGB"))


def _as_rgb(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(gray[:, :, None], 3, axis=2)
