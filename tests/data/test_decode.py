"""Decoding: one rule, golden pixels for every kind of file, and nothing but DataError for the rest."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import sys
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from deepresidual.data.decode import _decode_with_simplejpeg, decode, from_pillow, open_image
from deepresidual.data.formats import EXPECTED, sniff
from deepresidual.errors import DataError
from tests.conftest import examples
from tests.data.pictures import (
    LFS_POINTER,
    PNG_GRAY,
    PNG_GRAY_ALPHA,
    PNG_RGB,
    PNG_RGBA,
    encode,
    left_over_jpeg,
    noise,
    pillow_rgb,
    png_chunk,
    png_file,
    png_row_of_words,
    png_with_packed,
    stored,
    waves,
    with_chunk,
    with_declared_size,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

_ORIENTATION = 0x0112
_PHOTO = waves(96, 128)


def _palette() -> Image.Image:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    return image


def _bmp_header(layout: str, *fields: int) -> bytes:
    """Return a BMP file without its pixels."""
    end = 14 + struct.calcsize(layout)
    return b"BM" + struct.pack("<IHHI", end, 0, 0, end) + struct.pack(layout, *fields) + bytes(24)


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return exif


# -- the kinds of pixels ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_lossless_files_give_the_pixels_that_went_in(kind: str) -> None:
    pixels = noise(7, 5)
    decoded = decode(encode(pixels, kind, lossless=True) if kind == "WEBP" else encode(pixels, kind))
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, pixels)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_lossy_files_give_the_pixels_of_pillow(kind: str) -> None:
    content = encode(_PHOTO, kind, quality=90)
    np.testing.assert_array_equal(decode(content), pillow_rgb(content))


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_gray_becomes_three_equal_channels(kind: str) -> None:
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(decode(encode(gray, kind)), np.stack([gray] * 3, axis=-1))


def test_one_bit_becomes_black_and_white() -> None:
    bits = Image.fromarray(np.array([[0, 255, 255]], dtype=np.uint8)).convert("1")
    assert decode(encode(bits, "PNG")).tolist() == [[[0, 0, 0], [255, 255, 255], [255, 255, 255]]]


def test_a_palette_becomes_its_colours() -> None:
    assert decode(encode(_palette(), "PNG")).tolist() == [[[10, 20, 30], [40, 50, 60], [70, 80, 90]]]


def test_a_transparent_entry_of_a_palette_becomes_white() -> None:
    content = encode(_palette(), "PNG", transparency=1)
    assert decode(content).tolist() == [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]


def test_a_half_transparent_entry_of_a_palette_is_blended_with_white() -> None:
    content = encode(_palette(), "PNG", transparency=bytes([255, 128, 0]))
    # 40 · 128/255 + 255 · 127/255 = 147.07, and so on
    assert decode(content).tolist() == [[[10, 20, 30], [147, 152, 157], [255, 255, 255]]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_rgba_is_laid_over_white(kind: str) -> None:
    pixels = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 51]]], dtype=np.uint8)
    content = encode(pixels, kind, lossless=True, exact=True) if kind == "WEBP" else encode(pixels, kind)
    # 51 of 255 is a fifth: 200/5 + 255 · 4/5 = 244, 224, 204
    assert decode(content).tolist() == [[[200, 100, 0], [255, 255, 255], [244, 224, 204]]]


def test_gray_with_alpha_is_laid_over_white() -> None:
    pixels = np.array([[[100, 255], [100, 0], [100, 51]]], dtype=np.uint8)
    assert decode(encode(pixels, "PNG")).tolist() == [[[100] * 3, [255] * 3, [224] * 3]]


def test_a_transparent_colour_of_rgb_becomes_white() -> None:
    rows = bytes([0, 1, 2, 3, 4, 5, 6])
    content = png_file(2, 1, 8, PNG_RGB, rows, png_chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)))
    assert decode(content).tolist() == [[[255] * 3, [4, 5, 6]]]


# The transparent one is the first of two samples; the file says so with a tRNS chunk.
@pytest.mark.parametrize(
    ("content", "second"),
    [
        pytest.param(
            png_file(2, 1, 1, PNG_GRAY, b"\0\x40", png_chunk(b"tRNS", b"\0\0")), [255] * 3, id="1 bit"
        ),
        pytest.param(
            png_file(2, 1, 8, PNG_GRAY, b"\0\x0a\x14", png_chunk(b"tRNS", b"\0\x0a")), [20] * 3, id="8 bits"
        ),
    ],
)
def test_a_transparent_sample_becomes_white_at_one_and_eight_bits(content: bytes, second: list[int]) -> None:
    assert decode(content).tolist() == [[[255] * 3, second]]


def test_cmyk_becomes_rgb_by_the_formula_of_pillow() -> None:
    inks = [(0, 0, 0, 0), (0, 255, 255, 0), (255, 0, 0, 0), (100, 50, 0, 60), (0, 0, 0, 255)]
    for ink in inks:
        decoded = decode(encode(Image.new("CMYK", (16, 16), ink), "JPEG", quality=100))
        light = 255 - ink[3]
        formula = [light - ink[channel] * light / 255 for channel in range(3)]
        np.testing.assert_allclose(decoded, np.broadcast_to(formula, (16, 16, 3)), atol=2)


def test_16_bit_gray_keeps_the_high_byte() -> None:
    content = encode(Image.fromarray(np.array([[0x0000, 0x00FF, 0x1234, 0xFFFF]], dtype=np.uint16)), "PNG")
    assert decode(content).tolist() == [[[0] * 3, [0] * 3, [0x12] * 3, [255] * 3]]


def test_16_bit_rgb_keeps_the_high_byte() -> None:
    content = png_row_of_words(PNG_RGB, [0x1234, 0xABCD, 0x00FF, 0xFF00, 0x8080, 0x7FFF])
    assert decode(content).tolist() == [[[0x12, 0xAB, 0x00], [0xFF, 0x80, 0x7F]]]


def test_16_bit_alpha_is_laid_over_white() -> None:
    gray = png_row_of_words(PNG_GRAY_ALPHA, [0x1234, 0xFFFF, 0x8000, 0x0000])
    assert decode(gray).tolist() == [[[0x12] * 3, [255] * 3]]
    rgba = png_row_of_words(PNG_RGBA, [0x1234, 0xABCD, 0x5678, 0xFFFF, 0, 0, 0, 0])
    assert decode(rgba).tolist() == [[[0x12, 0xAB, 0x56], [255] * 3]]


def test_colour_profiles_are_not_applied() -> None:
    np.testing.assert_array_equal(decode(encode(_PHOTO, "PNG", icc_profile=b"any bytes")), _PHOTO)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encode(first, kind, save_all=True, append_images=[second], duration=100, **options)
    with Image.open(io.BytesIO(content)) as image:
        assert getattr(image, "n_frames", 1) == 2
    np.testing.assert_array_equal(decode(content), np.asarray(first))


def test_of_a_jpeg_with_several_pictures_the_first_counts() -> None:
    content = encode(Image.fromarray(_PHOTO), "MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    np.testing.assert_array_equal(decode(content), decode(encode(_PHOTO, "JPEG")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_bytes_behind_the_image_are_accepted(kind: str) -> None:
    content = encode(_PHOTO, kind)
    np.testing.assert_array_equal(decode(content + b"appended" * 40), decode(content))


def test_the_longest_side_that_is_allowed_is_decoded() -> None:
    strip = np.zeros((1, 16_384), dtype=np.uint8)
    assert decode(encode(strip, "PNG")).shape == (1, 16_384, 3)


# -- orientation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_every_exif_orientation_gives_the_same_upright_picture(kind: str, orientation: int) -> None:
    # Flat blocks of 16 px: JPEG keeps them exactly, wherever they lie.
    upright = np.repeat(np.repeat(noise(2, 3, seed=5), 16, axis=0), 16, axis=1)
    kinds: dict[str, dict[str, int]] = {
        "JPEG": {"quality": 100, "subsampling": 0},
        "PNG": {},
        "WEBP": {"lossless": True},
    }
    options = kinds[kind]
    plain = decode(encode(upright, kind, **options))
    np.testing.assert_allclose(plain, upright, atol=2)
    content = encode(stored(upright, orientation), kind, exif=_exif(orientation), **options)
    np.testing.assert_array_equal(decode(content), plain)


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_changes_nothing(orientation: int) -> None:
    content = encode(_PHOTO, "PNG", exif=_exif(orientation))
    np.testing.assert_array_equal(decode(content), _PHOTO)


def test_an_unreadable_exif_block_changes_nothing() -> None:
    content = encode(_PHOTO, "JPEG", exif=b"Exif\0\0this is no TIFF header")
    np.testing.assert_array_equal(decode(content), decode(encode(_PHOTO, "JPEG")))


def test_orientation_is_found_behind_other_large_segments() -> None:
    content = encode(_PHOTO, "JPEG", exif=_exif(6))
    comment = b"\xff\xfe" + struct.pack(">H", 65_535) + bytes(65_533)
    assert decode(content[:2] + comment + content[2:]).shape == (128, 96, 3)


def test_orientation_is_found_where_imagemagick_6_puts_it_in_a_png() -> None:
    block = b"Exif\0\0" + _exif(6).tobytes().removeprefix(b"Exif\0\0")
    text = f"\nexif\n{len(block):8d}\n{block.hex()}\n".encode()
    profile = png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))
    content = encode(_PHOTO, "PNG")
    header_end = 8 + 25  # the signature and the IHDR chunk
    assert decode(content[:header_end] + profile + content[header_end:]).shape == (128, 96, 3)


_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/"{}</rdf:RDF></x:xmpmeta>'
)
_XMP_FORMS = {
    "attribute": ' tiff:Orientation="{}"/>',
    "element": "><tiff:Orientation>{}</tiff:Orientation></rdf:Description>",
}


def _unrelated_exif() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    return exif


def _with_xmp(kind: str, xmp: str, exif: Image.Exif | bytes | None, *, packed: bool = False) -> bytes:
    options: dict[str, Any] = {} if exif is None else {"exif": exif}
    if kind == "PNG":
        info = PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp, zip=packed)
        return encode(_PHOTO, "PNG", pnginfo=info, **options)
    if kind == "WEBP":
        options["lossless"] = True
    return encode(_PHOTO, kind, xmp=xmp.encode(), **options)


@pytest.mark.parametrize("form", _XMP_FORMS)
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_in_xmp_counts_with_and_without_exif_beside_it(
    kind: str, orientation: int, form: str
) -> None:
    xmp = _XMP.format(_XMP_FORMS[form].format(orientation))
    expected = decode(encode(_PHOTO, kind, exif=_exif(orientation), **_lossless(kind)))
    broken = b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(range(40))
    for exif in (None, _unrelated_exif(), broken):
        content = _with_xmp(kind, xmp, exif)
        np.testing.assert_array_equal(decode(content), expected)
        image = open_image(content)
        assert (image.height, image.width) == expected.shape[:2]
        with Image.open(io.BytesIO(content)) as opened:
            np.testing.assert_array_equal(from_pillow(opened), expected)


def _lossless(kind: str) -> dict[str, bool]:
    return {"lossless": True} if kind == "WEBP" else {}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_of_exif_comes_before_that_of_xmp(kind: str) -> None:
    content = _with_xmp(kind, _XMP.format(_XMP_FORMS["attribute"].format(6)), _exif(3))
    assert decode(content).shape == (96, 128, 3)
    np.testing.assert_array_equal(
        decode(content), decode(encode(_PHOTO, kind, exif=_exif(3), **_lossless(kind)))
    )


def test_packed_xmp_of_a_png_counts() -> None:
    content = _with_xmp("PNG", _XMP.format(_XMP_FORMS["attribute"].format(6)), None, packed=True)
    assert b"tiff:Orientation" not in content
    assert decode(content).shape == (128, 96, 3)


# -- metadata that is large or damaged -------------------------------------------------------------------

_BROKEN_EXIF = {
    "garbage": bytes(range(200)),
    "cut": _exif(6).tobytes()[:15],
    "pointing beyond": b"Exif\0\0II*\0\xf0\xff\xff\x7f",
    "endless": b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x05\0\xff\xff\xff\x7f\xff\xff\xff\x7f" * 3,
    "empty": b"Exif\0\0",
    "wrong type": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0A\0\0\0\0\0\0\0",
}


@pytest.mark.parametrize("broken", _BROKEN_EXIF)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_leaves_the_picture_as_it_is_stored(kind: str, broken: str) -> None:
    content = encode(_PHOTO, kind, exif=_BROKEN_EXIF[broken], **_lossless(kind))
    expected = decode(encode(_PHOTO, kind, **_lossless(kind)))
    np.testing.assert_array_equal(decode(content), expected)
    image = open_image(content)
    assert (image.height, image.width) == (96, 128)
    with Image.open(io.BytesIO(content)) as opened:
        np.testing.assert_array_equal(from_pillow(opened), expected)


@pytest.mark.parametrize("num_bytes", [2_000_000, 4_000_000])
def test_a_png_with_a_large_profile_is_used(num_bytes: int) -> None:
    profile = np.random.default_rng(0).bytes(num_bytes)
    np.testing.assert_array_equal(decode(png_with_packed(b"iCCP", profile)), waves(40, 50))


@pytest.mark.parametrize(
    "kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"pHYs", b"tIME", b"cHRM", b"eXIf"]
)
@pytest.mark.parametrize("damage", ["checksum", "content"])
def test_damaged_metadata_of_a_png_is_passed_over(kind: bytes, damage: str) -> None:
    body = {
        b"tEXt": b"Comment\0any",
        b"iCCP": b"any\0\0any",
        b"gAMA": b"\0\0",
        b"eXIf": _exif(6).tobytes()[6:],
    }
    chunk = png_chunk(kind, body.get(kind, b"any\0\0"))
    if damage == "checksum":
        chunk = chunk[:-1] + bytes([chunk[-1] ^ 1])
    elif kind == b"eXIf":
        chunk = png_chunk(kind, b"MM\0*\xff")
    np.testing.assert_array_equal(decode(with_chunk(encode(_PHOTO, "PNG"), chunk)), _PHOTO)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"abCd"])
def test_a_wrong_checksum_of_what_the_pixels_need_is_an_error(kind: bytes) -> None:
    content = bytearray(with_chunk(encode(_palette(), "PNG", transparency=1), png_chunk(b"abCd", b"unknown")))
    place = content.index(kind)
    content[place + 4 + int.from_bytes(content[place - 4 : place], "big")] ^= 1
    with pytest.raises(DataError, match=rf"^damaged PNG \(the checksum of {kind.decode()} is wrong\)$"):
        decode(bytes(content))


@pytest.mark.filterwarnings("error")
def test_pillow_warns_of_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    palette = encode(_palette(), "PNG", transparency=bytes([255, 128, 0]))
    contents = [palette, *(encode(_PHOTO, "JPEG", exif=exif) for exif in _BROKEN_EXIF.values())]
    for content in contents:
        decode(content)
        open_image(content).decode()
        with Image.open(io.BytesIO(content)) as opened:
            from_pillow(opened)
    assert capfd.readouterr() == ("", "")


# -- simplejpeg is Pillow --------------------------------------------------------------------------------


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (8, 8), (17, 31), (64, 48), (121, 167)])
def test_simplejpeg_gives_the_pixels_of_pillow(height: int, width: int, subsampling: str) -> None:
    for quality in (10, 75, 100):
        for progressive in (False, True):
            for pixels in (noise(height, width), waves(height, width)):
                content = encode(
                    pixels, "JPEG", quality=quality, progressive=progressive, subsampling=subsampling
                )
                _check_against_pillow(content, "RGB")


@pytest.mark.parametrize("progressive", [False, True])
def test_simplejpeg_gives_the_pixels_of_pillow_for_gray(progressive: bool) -> None:
    for pixels in (noise(33, 20)[:, :, 0], waves(121, 167)[:, :, 1]):
        _check_against_pillow(encode(pixels, "JPEG", progressive=progressive), "L")


def test_simplejpeg_gives_the_pixels_of_pillow_for_rare_kinds() -> None:
    _check_against_pillow(encode(_PHOTO, "JPEG", keep_rgb=True), "RGB")
    _check_against_pillow(encode(_PHOTO, "JPEG", restart_marker_blocks=3), "RGB")
    _check_against_pillow(encode(_PHOTO, "JPEG", optimize=True), "RGB")


def _check_against_pillow(content: bytes, mode: str) -> None:
    fast = _decode_with_simplejpeg(content)
    assert fast is not None, "simplejpeg refused an ordinary file"
    reference = pillow_rgb(content)
    np.testing.assert_array_equal(fast, reference)
    np.testing.assert_array_equal(decode(content), reference)


# -- a part, at a smaller size ---------------------------------------------------------------------------


def _hills(height: int, width: int) -> NDArray[np.uint8]:
    """Return a picture that changes by 2 to 3 levels a pixel: another filter keeps it, a displacement not."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (128 + 100 * np.sin(x / 32), 128 + 100 * np.cos(y / 30), 128 + 100 * np.sin((x + y) / 40))
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _whole(content: bytes) -> tuple[float, float, float, float]:
    image = open_image(content)
    return (0.0, 0.0, float(image.width), float(image.height))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_an_open_image_tells_the_size_of_the_upright_picture(kind: str, orientation: int) -> None:
    options = {} if kind == "BMP" else {"exif": _exif(orientation)}
    content = encode(_PHOTO, kind, **options)
    image = open_image(content)
    assert (image.height, image.width) == decode(content).shape[:2]
    np.testing.assert_array_equal(image.decode(), decode(content))


@pytest.mark.parametrize(
    ("side_px", "scale"), [(400, 1), (201, 1), (200, 2), (101, 2), (100, 4), (51, 4), (50, 8), (8, 8)]
)
def test_the_smallest_size_is_taken_at_which_the_part_is_still_as_large_as_its_view(
    side_px: int, scale: int
) -> None:
    content = encode(waves(600, 800), "JPEG")
    pixels, box = open_image(content).decode_part((80.0, 100.0, 640.0, 500.0), side_px)
    assert pixels.shape == (600 // scale, 800 // scale, 3)
    assert box == (80 / scale, 100 / scale, 640 / scale, 500 / scale)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_other_kinds_are_decoded_at_their_size(kind: str) -> None:
    content = encode(waves(96, 128), kind)
    pixels, box = open_image(content).decode_part((8.0, 8.0, 80.0, 90.0), 8)
    np.testing.assert_array_equal(pixels, decode(content))
    assert box == (8, 8, 80, 90)


def test_cmyk_is_decoded_by_pillow_at_its_size() -> None:
    content = encode(Image.new("CMYK", (64, 48), (9, 99, 199, 0)), "JPEG")
    pixels, box = open_image(content).decode_part(_whole(content), 8)
    np.testing.assert_array_equal(pixels, decode(content))
    assert box == (0, 0, 64, 48)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:2:0"}, {"quality": 98}])
@pytest.mark.parametrize(("height", "width"), [(301, 407), (256, 512), (299, 300)])
@pytest.mark.parametrize("gray", [False, True])
def test_a_view_of_a_smaller_decoding_is_that_of_the_whole_one(
    height: int, width: int, options: dict[str, Any], gray: bool
) -> None:
    picture = _hills(height, width)
    content = encode(picture[:, :, 2] if gray else picture, "JPEG", **options)
    for side_px in (120, 60, 30):
        for box in ((0.0, 0.0, float(width), float(height)), (13.0, 5.0, 293.0, 285.0)):
            if box[3] > height:
                continue
            pixels, smaller = open_image(content).decode_part(box, side_px)
            assert pixels.shape[0] < height
            view, expected = (
                _resized(*part, side_px) for part in ((pixels, smaller), (decode(content), box))
            )
            assert np.abs(view - expected).mean() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("height", "width"), [(256, 320), (249, 317), (250, 323)])
def test_a_smaller_decoding_shows_the_same_part_in_every_orientation(
    orientation: int, height: int, width: int
) -> None:
    upright = _hills(height, width)
    content = encode(stored(upright, orientation), "JPEG", exif=_exif(orientation), quality=95)
    image = open_image(content)
    assert (image.height, image.width) == (height, width)
    for box in ((0.0, 0.0, float(width), float(height)), (31.0, 17.0, 231.0, 217.0)):
        for side_px in (100, 50, 25):
            pixels, smaller = image.decode_part(box, side_px)
            assert pixels.shape[0] < height
            assert 0 <= smaller[0] < smaller[2] <= pixels.shape[1]
            assert 0 <= smaller[1] < smaller[3] <= pixels.shape[0]
            view, expected = _resized(pixels, smaller, side_px), _resized(upright, box, side_px)
            # Displaced by half a pixel of the smaller image, a view would differ by more than 2 in the mean.
            assert np.abs(view - expected).mean() < 1


def _resized(
    pixels: NDArray[np.uint8], box: tuple[float, float, float, float], side_px: int
) -> NDArray[np.int64]:
    image = Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.BILINEAR, box)
    return np.asarray(image).astype(np.int64)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_refused_at_every_size(progressive: bool) -> None:
    content = encode(waves(400, 400), "JPEG", progressive=progressive)
    for kept in (content[: len(content) // 2], content[:-200]):
        for side_px in (400, 200, 100, 50):
            image = open_image(kept)
            with pytest.raises(DataError, match=r"^damaged JPEG \((image file is trunc|a part of the image)"):
                image.decode_part(_whole(kept), side_px)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"^the file is empty \(0 bytes\)$"),
        (b"8BPS", r"\(found PSD\); expected JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC$"),
        (encode(_PHOTO, "PNG")[:60], r"^damaged PNG"),
        (b"\xff\xd8\xff", r"^damaged JPEG"),
    ],
)
def test_opening_refuses_what_decoding_refuses(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_image(content)


def test_opening_refuses_an_image_that_declares_too_much_before_memory_is_taken() -> None:
    content = with_declared_size(encode(_PHOTO, "JPEG"), 65_500, 65_500)
    with (
        _growing_at_most(64_000_000),
        pytest.raises(DataError, match=r"^the image is too large \(.* 4,290 MP"),
    ):
        open_image(content)


def test_decoding_leaves_the_filters_of_warnings_to_other_threads() -> None:
    # An EXIF block of which Pillow warns. Taking the filter back would undo what others have set meanwhile.
    content = encode(_PHOTO, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\x7f")
    decode(content)
    before = list(warnings.filters)
    decode(content)
    assert list(warnings.filters) == before
    with pytest.raises(UserWarning, match="still an error"):
        warnings.warn("still an error", UserWarning, stacklevel=1)


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "name"),
    [
        pytest.param(encode(_PHOTO, "PDF"), "PDF", id="PDF"),
        pytest.param(b"8BPS\0\1" + bytes(60), "PSD", id="PSD"),
        pytest.param(encode(Image.fromarray(_PHOTO).resize((32, 32)), "ICO"), "ICO", id="ICO"),
        pytest.param(encode(_PHOTO, "JPEG2000"), "JPEG 2000", id="JPEG 2000"),
        pytest.param(b"\0\0\0\x18ftypmp42" + bytes(60), "MP4", id="MP4"),
        pytest.param(b"<!DOCTYPE html>\n<title>404 Not Found</title>\n", "text", id="HTML"),
        pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg"/>', "text", id="SVG"),
        pytest.param(b"This is a photo.\n", "text", id="text"),
        pytest.param(b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), "an unknown format", id="WAV"),
        pytest.param(bytes(64), "an unknown format", id="zeros"),
    ],
)
def test_other_formats_are_named_by_their_content(content: bytes, name: str) -> None:
    with pytest.raises(DataError, match=rf"\(found {name}\); expected {EXPECTED}$"):
        decode(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_accepted_formats_are_known_by_their_bytes(kind: str) -> None:
    assert sniff(encode(_PHOTO, kind)) == kind


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(DataError, match=r"^the file is empty \(0 bytes\)$"):
        decode(b"")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_refused(progressive: bool) -> None:
    content = encode(_PHOTO, "JPEG", progressive=progressive)
    for kept in (content[: len(content) // 2], content[:-200]):
        with pytest.raises(
            DataError, match=r"^damaged JPEG \((image file is truncated|a part of the image data is missing)"
        ):
            decode(kept)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_a_truncated_file_of_another_kind_is_refused(kind: str) -> None:
    content = encode(_PHOTO, kind)
    for kept in (content[: len(content) // 2], content[:-200]):
        with pytest.raises(DataError, match=rf"^damaged {kind} \("):
            decode(kept)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(encode(waves(24, 32), "JPEG"), id="JPEG"),
        pytest.param(encode(waves(24, 32), "JPEG", progressive=True), id="progressive JPEG"),
        pytest.param(encode(waves(24, 32), "PNG"), id="PNG"),
        pytest.param(encode(waves(24, 32), "WEBP", quality=50), id="WEBP"),
        pytest.param(encode(waves(8, 12), "BMP"), id="BMP"),
    ],
)
def test_a_file_cut_anywhere_is_refused_or_gives_all_its_pixels(content: bytes) -> None:
    whole = decode(content)
    for end in range(len(content)):
        with contextlib.suppress(DataError):
            np.testing.assert_array_equal(decode(content[:end]), whole, err_msg=f"cut at {end}")


@pytest.mark.parametrize("gap", ["end of data", "hole", "zeros"])
def test_a_jpeg_whose_middle_is_missing_is_refused(gap: str) -> None:
    # libjpeg warns "premature end of data segment" and paints the rest gray.
    content = encode(_PHOTO, "JPEG")
    middle = len(content) // 2
    damaged = {
        "end of data": content[:middle] + b"\xff\xd9",
        "hole": content[:middle] + content[middle + 100 :],
        "zeros": content[:middle] + bytes(60) + content[middle + 60 :],
    }[gap]
    with pytest.raises(DataError, match=r"^damaged JPEG"):
        decode(damaged)


def test_a_pointer_of_git_lfs_is_named_with_the_remedy() -> None:
    with pytest.raises(
        DataError, match=r"^the file is a Git LFS pointer instead of the file itself; run 'git lfs pull'"
    ):
        decode(LFS_POINTER)


# -- damage that libjpeg only warns of -------------------------------------------------------------------


def _with_stray_bytes(jpeg: bytes) -> bytes:
    """Put bytes between two segments of the header, of which libjpeg warns first and Pillow gives up."""
    tables = jpeg.index(b"\xff\xdb")
    return jpeg[:tables] + b"stray" + jpeg[tables:]


_KINDS_OF_JPEG = {
    "plain": encode(waves(96, 128), "JPEG", quality=85),
    "gray": encode(waves(96, 128)[:, :, 0], "JPEG", quality=85),
    "progressive": encode(waves(96, 128), "JPEG", quality=85, progressive=True),
    "restart markers": encode(waves(96, 128), "JPEG", quality=85, restart_marker_blocks=5),
    "CMYK": encode(Image.fromarray(waves(96, 128)).convert("CMYK"), "JPEG", quality=85),
    "stray bytes": _with_stray_bytes(encode(waves(96, 128), "JPEG", quality=85)),
    "turned": encode(waves(96, 128), "JPEG", quality=85, exif=_exif(6)),
}


@pytest.mark.parametrize("kind", _KINDS_OF_JPEG)
def test_damage_of_which_libjpeg_warns_is_an_error_at_every_size(kind: str) -> None:
    content = _KINDS_OF_JPEG[kind]
    start = content.index(b"\xff\xda") + 16
    clean = content.replace(b"stray", b"")
    num_refused = 0
    for place in range(start, len(content) - 2, (len(content) - start) // 60):
        damaged = bytearray(content)
        damaged[place] ^= 1 << (place % 8)
        libjpeg_says = _warning_of_libjpeg(bytes(damaged).replace(b"stray", b""), kind)
        if not libjpeg_says:
            continue  # no decoder can know
        if (left_over := re.search(r"(\d+) extraneous bytes before marker 0xd9", libjpeg_says)) and int(
            left_over[1]
        ) <= 4:
            continue
        num_refused += 1
        with pytest.raises(DataError, match=r"^damaged JPEG \("):
            decode(bytes(damaged))
        for side_px in (90, 45, 12):
            with pytest.raises(DataError, match=r"^damaged JPEG \("):  # noqa: PT012  # either may raise
                image = open_image(bytes(damaged))
                image.decode_part((0.0, 0.0, float(image.width), float(image.height)), side_px)
    assert num_refused >= 5
    assert not _warning_of_libjpeg(clean, kind)


def _warning_of_libjpeg(content: bytes, kind: str) -> str:
    try:
        simplejpeg.decode_jpeg(content, colorspace="CMYK" if kind == "CMYK" else "RGB", strict=True)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("progressive", [False, True])
def test_image_data_that_is_left_over_is_damage(progressive: bool) -> None:
    content = left_over_jpeg() if not progressive else _with_data_left_over(_KINDS_OF_JPEG["progressive"])
    with pytest.raises(DataError, match=r"^damaged JPEG \(\d+ bytes of the image data are left over\)$"):
        decode(content)


def _with_data_left_over(jpeg: bytes) -> bytes:
    return jpeg[:-2] + noise(1, 203, 1).tobytes().replace(b"\xff", b"\xfe") + jpeg[-2:]


@pytest.mark.parametrize("padding", [bytes(8), bytes(2_000), b"\xff" * 40, b"\x7f", b"ab", b"\xaa" * 30])
@pytest.mark.parametrize("kind", ["plain", "progressive", "CMYK", "turned"])
def test_padding_before_the_end_of_a_jpeg_is_harmless(kind: str, padding: bytes) -> None:
    content = _KINDS_OF_JPEG[kind]
    padded = content[:-2] + padding + content[-2:]
    np.testing.assert_array_equal(decode(padded), decode(content))
    image = open_image(padded)
    part = image.decode_part((0.0, 0.0, float(image.width), float(image.height)), 24)
    whole = open_image(content).decode_part((0.0, 0.0, float(image.width), float(image.height)), 24)
    np.testing.assert_array_equal(part[0], whole[0])


def _with_odd_jfif(jpeg: bytes) -> bytes:
    return jpeg.replace(b"JFIF\0\1\1", b"JFIF\0\0\0", 1)


def _with_zeros_in_its_scan(jpeg: bytes) -> bytes:
    scan = jpeg.index(b"\xff\xda")
    end = scan + 2 + jpeg[scan + 3]
    assert jpeg[end - 3 : end] == b"\x00\x3f\x00"
    return jpeg[: end - 3] + bytes(3) + jpeg[end:]


def _with_fill_bytes(jpeg: bytes) -> bytes:
    tables = jpeg.index(b"\xff\xdb")
    return jpeg[:tables] + b"\xff" * 5 + jpeg[tables:]


@pytest.mark.parametrize(
    "make_odd", [_with_stray_bytes, _with_odd_jfif, _with_zeros_in_its_scan, _with_fill_bytes]
)
@pytest.mark.parametrize("kind", ["plain", "gray", "turned"])
def test_oddities_of_the_header_of_a_jpeg_are_harmless(make_odd: Callable[[bytes], bytes], kind: str) -> None:
    content = _KINDS_OF_JPEG[kind]
    odd = make_odd(content)
    assert odd != content or (make_odd is _with_odd_jfif and kind == "turned")
    np.testing.assert_array_equal(decode(odd), decode(content))
    image = open_image(odd)
    assert (image.height, image.width) == decode(content).shape[:2]
    # They do not hide damage of the pixels.
    with pytest.raises(DataError, match=r"^damaged JPEG \(\d+ bytes of the image data are left over\)$"):
        decode(_with_data_left_over(odd))
    with pytest.raises(DataError, match=r"^damaged JPEG \(a part of the image data is missing\)$"):
        decode(odd[:-300] + odd[-2:])


def test_stray_bytes_before_the_end_of_a_jpeg_are_harmless() -> None:
    content = encode(_PHOTO, "JPEG")
    np.testing.assert_array_equal(decode(content[:-2] + b"stray" + content[-2:]), decode(content))


def test_a_png_with_a_wrong_byte_among_its_pixels_is_refused() -> None:
    # The chunk's CRC tells; Pillow itself checks it for every chunk but this one.
    content = encode(_PHOTO, "PNG")
    start = content.index(b"IDAT") + 4
    end = content.index(b"IEND") - 8
    for place in range(start, end, (end - start) // 20):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        with pytest.raises(DataError, match=r"^damaged PNG"):
            decode(bytes(damaged))


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt"])
def test_metadata_that_unpacks_to_30_megabytes_is_refused_by_name(kind: bytes) -> None:
    content = png_with_packed(kind, bytes(30_000_000))
    too_large = r"^the metadata of the image is too large; expected at most 16 MB unpacked$"
    with _growing_at_most(16_000_000), pytest.raises(DataError, match=too_large):
        decode(content)


@pytest.mark.parametrize(
    ("kind", "name"), [(b"iTXt", b"XML:com.adobe.xmp"), (b"zTXt", b"Raw profile type exif")]
)
def test_an_orientation_among_megabytes_is_refused_by_name(kind: bytes, name: bytes) -> None:
    # Pillow unpacks it, up to its own limit.
    content = png_with_packed(kind, bytes(4_000_000), name)
    with pytest.raises(DataError, match=r"^the metadata of the image is too large; expected at most 1 MB$"):
        decode(content)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(DataError, match=r"^(damaged PNG|the image's width or height is zero)"):
        decode(png_file(0, 5, 8, PNG_RGB, b""))


@pytest.mark.parametrize(
    ("content", "megapixels"),
    [
        pytest.param(with_declared_size(encode(_PHOTO, "JPEG"), 65_500, 65_500), "4,290", id="JPEG"),
        pytest.param(with_declared_size(encode(_PHOTO, "JPEG"), 65_535, 65_535), "4,295", id="largest JPEG"),
        pytest.param(
            with_declared_size(encode(Image.new("CMYK", (16, 16)), "JPEG"), 20_000, 20_000),
            "400",
            id="CMYK JPEG",
        ),
        pytest.param(png_file(20_000, 20_000, 8, PNG_RGB, b""), "400", id="PNG"),
        pytest.param(_bmp_header("<IiiHH", 40, 20_000, -20_000, 1, 24), "400", id="BMP"),
        pytest.param(_bmp_header("<IHHHH", 12, 40_000, 40_000, 1, 24), "1,600", id="BMP of OS/2"),
        pytest.param(png_file(16_001, 8_000, 8, PNG_RGB, b""), "128", id="just over 128 MP"),
        pytest.param(png_file(1, 20_000, 8, PNG_RGB, b""), "0", id="tall strip"),
        pytest.param(png_file(16_385, 1, 8, PNG_RGB, bytes(1 + 3 * 16_385)), "0", id="wide strip"),
    ],
)
def test_an_image_that_declares_too_much_is_refused_before_memory_is_taken(
    content: bytes, megapixels: str
) -> None:
    # The smallest of the large ones would take 384 MB.
    too_large = (
        rf"^the image is too large \(.*\b{megapixels} MP\); expected at most 128 MP and 16,384 px a side$"
    )
    with _growing_at_most(64_000_000), pytest.raises(DataError, match=too_large):
        decode(content)


def test_a_webp_that_declares_too_much_is_refused() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    content = bytearray(encode(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    content[24:30] = (16_383 - 1).to_bytes(3, "little") * 2  # the canvas, in the chunk VP8X
    with pytest.raises(DataError, match=r"^the image is too large( \(.*\))?; expected at most 128 MP"):
        decode(bytes(content))


@pytest.mark.parametrize("damage", ["cut behind the frame header", "unknown sampling"])
def test_a_damaged_jpeg_that_declares_too_much_is_refused(damage: str) -> None:
    content = with_declared_size(encode(_PHOTO, "JPEG"), 20_000, 20_000)
    frame = content.index(b"\xff\xc0")
    damaged = {
        "cut behind the frame header": content[: frame + 19],
        "unknown sampling": content[: frame + 11] + b"\x33" + content[frame + 12 :],
    }[damage]
    with pytest.raises(DataError, match=r"^(the image is too large|damaged JPEG) \("):
        decode(damaged)


@contextlib.contextmanager
def _growing_at_most(num_bytes: int) -> Iterator[None]:
    """Let this process take ``num_bytes`` more of address space; only Linux can hold it to that."""
    if sys.platform != "linux":
        yield
        return
    import resource

    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


# -- any bytes at all ------------------------------------------------------------------------------------


_SEEDS = (
    encode(waves(24, 32), "JPEG"),
    encode(waves(24, 32), "JPEG", progressive=True, exif=_exif(6)),
    encode(Image.new("CMYK", (16, 16), (9, 99, 199, 0)), "JPEG"),
    encode(waves(24, 32), "PNG", exif=_exif(3)),
    encode(_palette(), "PNG", transparency=bytes([255, 128, 0])),
    png_row_of_words(PNG_GRAY, [0x1234, 0xABCD]),
    encode(waves(24, 32), "WEBP", exif=_exif(8)),
    encode(noise(9, 7, 4), "WEBP", lossless=True),
    encode(waves(24, 32), "BMP"),
    encode(_palette(), "BMP"),
)


@settings(max_examples=examples(200))
@given(
    content=st.sampled_from(_SEEDS),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
    kept=st.just(1.0) | st.floats(0, 1),
)
def test_damage_gives_a_picture_or_a_data_error(
    content: bytes, flips: list[tuple[float, int]], kept: float
) -> None:
    damaged = bytearray(content)
    for place, value in flips:
        damaged[int(place * len(damaged))] = value
    _check_picture_or_error(bytes(damaged[: round(kept * len(damaged))]))


@settings(max_examples=examples(80))
@given(
    start=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF\0\1\0\0WEBPVP8 "]),
    rest=st.binary(max_size=200),
)
def test_any_bytes_give_a_picture_or_a_data_error(start: bytes, rest: bytes) -> None:
    _check_picture_or_error(start + rest)


def _check_picture_or_error(content: bytes) -> None:
    try:
        pixels = decode(content)
    except DataError as error:
        assert str(error)  # noqa: PT017  # either outcome is right; both are checked
        with pytest.raises(DataError):
            open_image(content).decode_part((0.0, 0.0, 8.0, 8.0), 8)
    else:
        image = open_image(content)
        assert (image.height, image.width) == pixels.shape[:2]
        image.decode_part((0.0, 0.0, float(image.width), float(image.height)), 4)
        assert pixels.dtype == np.uint8
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
        assert min(pixels.shape) >= 1
