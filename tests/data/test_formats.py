"""TIFF, GIF, AVIF and HEIC: the pixels that went in, upright, once; and what is said of the rest."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from deepresidual.data import formats, readers
from deepresidual.data.decode import decode, from_pillow, read_header
from deepresidual.data.formats import ACCEPTED, EXTENSIONS, ends_early, sniff, suffix_of
from deepresidual.data.readers import reads_avif
from deepresidual.errors import DataError
from tests.data.pictures import encode, noise, stored, waves

HEIC = Path(__file__).with_name("heic")

# Flat blocks of 16 px, which every codec keeps wherever they lie.
_UPRIGHT = np.repeat(np.repeat(noise(2, 3, seed=5), 16, axis=0), 16, axis=1)
_GRAY16 = np.linspace(0, 65_535, 32 * 48).reshape(32, 48).astype(np.uint16)


def _stored(orientation: int) -> NDArray[np.uint8]:
    return stored(_UPRIGHT, orientation)


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _tiff(picture: NDArray[Any], tags: dict[int, int] | None = None, **options: Any) -> bytes:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in (tags or {}).items():
        directory[tag] = value
    return encode(Image.fromarray(picture), "TIFF", tiffinfo=directory, **options)


def _avif(picture: NDArray[np.uint8], **options: Any) -> bytes:
    return encode(picture, "AVIF", quality=100, subsampling="4:4:4", **options)


def _rgba(alpha: int) -> NDArray[np.uint8]:
    return np.dstack([_UPRIGHT, np.full(_UPRIGHT.shape[:2], alpha, np.uint8)])


def _over_white(alpha: int) -> NDArray[np.float64]:
    return 255 + (_UPRIGHT.astype(float) - 255) * alpha / 255


def _as_rgb(gray: NDArray[Any]) -> NDArray[Any]:
    return np.stack([gray] * 3, axis=-1)


_GRAY = _UPRIGHT[:, :, 0].copy()
_TWO_COLOURS = np.where(_UPRIGHT[:, :, :1] > 128, np.uint8(255), np.uint8(0)).repeat(3, axis=2)
_needs_avif = pytest.mark.skipif(not reads_avif(), reason="Pillow before 11.3 reads no AVIF")

# What is made, and what it has to come out as.
_FILES: dict[str, tuple[Callable[[], bytes], NDArray[Any]]] = {
    "tiff": (lambda: _tiff(_UPRIGHT), _UPRIGHT),
    "tiff, LZW": (lambda: _tiff(_UPRIGHT, compression="tiff_lzw"), _UPRIGHT),
    "tiff, deflate": (lambda: _tiff(_UPRIGHT, compression="tiff_adobe_deflate"), _UPRIGHT),
    "tiff, JPEG inside": (lambda: _tiff(_UPRIGHT, compression="jpeg", quality=100), _UPRIGHT),
    "tiff, one bit, G4": (
        lambda: encode(Image.fromarray(_TWO_COLOURS).convert("1"), "TIFF", compression="group4"),
        _TWO_COLOURS,
    ),
    "tiff, gray": (lambda: _tiff(_GRAY), _as_rgb(_GRAY)),
    "tiff, palette": (
        lambda: encode(Image.fromarray(_UPRIGHT).quantize(64), "TIFF"),
        _UPRIGHT,
    ),
    "tiff, alpha": (lambda: _tiff(_rgba(51)), _over_white(51)),
    "tiff, 16-bit gray": (lambda: _tiff(_GRAY16), _as_rgb(_GRAY16 >> 8)),
    "tiff, 16-bit gray, LZW": (lambda: _tiff(_GRAY16, compression="tiff_lzw"), _as_rgb(_GRAY16 >> 8)),
    "tiff, 16-bit gray, negative": (lambda: _tiff(_GRAY16, {262: 0}), _as_rgb(255 - (_GRAY16 >> 8))),
    "png, 16-bit gray": (lambda: encode(Image.fromarray(_GRAY16), "PNG"), _as_rgb(_GRAY16 >> 8)),
    "gif": (lambda: encode(Image.fromarray(_UPRIGHT).quantize(64), "GIF"), _UPRIGHT),
    "gif, gray": (lambda: encode(_GRAY, "GIF"), _as_rgb(_GRAY)),
    "avif": (lambda: _avif(_UPRIGHT), _UPRIGHT),
    "avif, alpha": (lambda: _avif(_rgba(51)), _over_white(51)),
    "heic": (lambda: (HEIC / "upright.heic").read_bytes(), _UPRIGHT),
    "heic, 4:2:0": (lambda: (HEIC / "lossy-420.heic").read_bytes(), _UPRIGHT),
    "heic, ten bits": (lambda: (HEIC / "ten-bit.heic").read_bytes(), _UPRIGHT),
    "heic, alpha": (lambda: (HEIC / "alpha.heic").read_bytes(), _over_white(51)),
    "heic, the second image is the primary": (
        lambda: (HEIC / "second-is-primary.heic").read_bytes(),
        _UPRIGHT,
    ),
    **{
        f"tiff, stored as {orientation}": (
            lambda orientation=orientation: _tiff(_stored(orientation), {274: orientation}),  # type: ignore[misc]
            _UPRIGHT,
        )
        for orientation in range(2, 9)
    },
    **{
        f"avif, stored as {orientation}": (
            lambda orientation=orientation: _avif(_stored(orientation), exif=_exif(orientation)),  # type: ignore[misc]
            _UPRIGHT,
        )
        for orientation in range(2, 9)
    },
    # As iPhones write them: the container turns the picture, and EXIF says so once more.
    **{
        f"heic, stored as {orientation}": (
            lambda orientation=orientation: (HEIC / f"turned-{orientation}.heic").read_bytes(),  # type: ignore[misc]
            _UPRIGHT,
        )
        for orientation in range(2, 9)
    },
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=_needs_avif) if "avif" in name else name for name in _FILES]
)
def test_every_kind_of_file_gives_the_picture_upright(name: str) -> None:
    make, expected = _FILES[name]
    pixels = decode(make())
    assert pixels.dtype == np.uint8
    assert pixels.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(pixels, expected, atol=3)
    assert read_header(make()).upright == pixels.shape[:2]


def test_an_orientation_in_the_exif_of_a_heic_alone_turns_nothing() -> None:
    # The container's rotation counts (ISO/IEC 23008-12, section 6.5.10); libheif has applied it.
    np.testing.assert_allclose(decode((HEIC / "exif-alone.heic").read_bytes()), _UPRIGHT, atol=3)


@_needs_avif
def test_an_orientation_in_the_xmp_of_an_avif_alone_turns_nothing() -> None:
    content = _avif(_UPRIGHT, xmp=b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>')
    np.testing.assert_allclose(decode(content), _UPRIGHT, atol=3)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_tiff_that_was_opened_with_pillow_is_turned_once(orientation: int, compression: str) -> None:
    content = _tiff(_stored(orientation), {274: orientation}, compression=compression)
    with Image.open(io.BytesIO(content)) as image:
        np.testing.assert_array_equal(from_pillow(image), _UPRIGHT)


def test_16_bit_gray_of_a_tiff_is_not_clipped_to_white() -> None:
    picture = np.array([[0x0000, 0x00FF, 0x1234, 0x7FFF, 0xFFFF]], dtype=np.uint16)
    expected = [[[value] * 3 for value in (0, 0, 0x12, 0x7F, 255)]]
    assert decode(_tiff(picture)).tolist() == expected
    big_endian = struct.pack(">2sHI", b"MM", 42, 8) + struct.pack(
        ">H" + "HHII" * 8 + "I",
        8,
        *(256, 3, 1, 5 << 16),
        *(257, 3, 1, 1 << 16),
        *(258, 3, 1, 16 << 16),
        *(259, 3, 1, 1 << 16),
        *(262, 3, 1, 1 << 16),
        *(273, 4, 1, 110),
        *(277, 3, 1, 1 << 16),
        *(279, 4, 1, 10),
        0,
    )
    content = big_endian + picture.astype(">u2").tobytes()
    assert len(big_endian) == 110
    assert decode(content).tolist() == expected


def test_12_bit_gray_of_a_tiff_keeps_its_highest_eight() -> None:
    # Two samples in three bytes: 0x000, 0x123, 0x7FF, 0xFFF.
    packed = bytes.fromhex("0001237fffff")
    header = struct.pack("<2sHI", b"II", 42, 8) + struct.pack(
        "<H" + "HHII" * 8 + "I",
        8,
        *(256, 3, 1, 4),
        *(257, 3, 1, 1),
        *(258, 3, 1, 12),
        *(259, 3, 1, 1),
        *(262, 3, 1, 1),
        *(273, 4, 1, 110),
        *(277, 3, 1, 1),
        *(279, 4, 1, 6),
        0,
    )
    assert decode(header + packed).tolist() == [[[0] * 3, [0x12] * 3, [0x7F] * 3, [255] * 3]]


@pytest.mark.parametrize(
    ("picture", "found"),
    [
        (np.ones((4, 4), np.float32), "a TIFF with floating-point samples, of which nobody knows"),
        (np.full((4, 4), 70_000, np.int32), "a TIFF with 32-bit signed or 32-bit samples, of which nobody"),
    ],
)
def test_a_tiff_whose_white_is_unknown_is_refused(picture: NDArray[Any], found: str) -> None:
    with pytest.raises(
        DataError, match=rf"^{found}.*; expected 8 or 16 bits a sample, as gray, RGB"
    ) as caught:
        decode(_tiff(picture))
    assert caught.value.kind == "unsupported"


def test_a_floating_point_image_of_pillow_is_refused_and_not_black() -> None:
    with pytest.raises(
        DataError, match=r"^an image with floating-point samples, of which nobody knows which"
    ):
        from_pillow(Image.fromarray(np.ones((4, 4), np.float32)))


@pytest.mark.parametrize("tags", [{254: 1}, {50706: 0}])
def test_of_a_camera_s_raw_file_the_thumbnail_is_not_taken_for_the_photo(tags: dict[int, int]) -> None:
    with pytest.raises(DataError, match=r"^a camera's raw file, .*; export it as JPEG or TIFF$"):
        decode(_tiff(_UPRIGHT, tags))


def test_of_several_pages_and_frames_the_first_counts() -> None:
    other = Image.new("RGB", (48, 32), (1, 2, 3))
    first = Image.fromarray(_UPRIGHT)
    several: dict[str, Any] = {"save_all": True, "append_images": [other, other]}
    np.testing.assert_array_equal(decode(encode(first, "TIFF", **several)), _UPRIGHT)
    gif = encode(first.quantize(64), "GIF", **several, duration=50)
    np.testing.assert_array_equal(decode(gif), _UPRIGHT)
    if reads_avif():
        avif = encode(first, "AVIF", quality=100, subsampling="4:4:4", **several, duration=50)
        assert sniff(avif) == "AVIF"
        np.testing.assert_allclose(decode(avif), _UPRIGHT, atol=3)


def test_a_transparent_colour_of_a_gif_becomes_white() -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    assert decode(encode(image, "GIF", transparency=1)).tolist() == [[[10, 20, 30], [255, 255, 255]]]


# -- damage ----------------------------------------------------------------------------------------------


def _whole_files() -> dict[str, bytes]:
    photo = waves(96, 128)
    files = {
        "TIFF": encode(photo, "TIFF"),
        "TIFF with LZW": encode(photo, "TIFF", compression="tiff_lzw"),
        "GIF": encode(Image.fromarray(photo).quantize(200), "GIF"),
        "HEIC": (HEIC / "lossy-420.heic").read_bytes(),
    }
    return files | ({"AVIF": encode(photo, "AVIF")} if reads_avif() else {})


_WHOLE = _whole_files()


@pytest.mark.parametrize("share", [0.03, 0.2, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("name", _WHOLE)
def test_a_file_that_ends_early_is_named_as_damaged(
    name: str, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    content = _WHOLE[name]
    with pytest.raises(DataError, match=rf"^damaged {name.split(maxsplit=1)[0]} \(.+\)$") as caught:
        decode(content[: max(12, int(share * len(content)))])
    assert caught.value.kind in ("truncated", "corrupt")
    if name in ("AVIF", "HEIC") and share > 0.1:  # below, nothing says how long it ought to be
        assert "(the file ends early)" in str(caught.value)
    assert capfd.readouterr() == ("", "")  # nor does a library print anything


@pytest.mark.parametrize("name", _WHOLE)
def test_changed_bytes_are_an_error_or_other_pixels_and_never_another_exception(name: str) -> None:
    content = _WHOLE[name]
    random = np.random.default_rng(0)
    for _ in range(60):
        changed = bytearray(content)
        for place in random.integers(4, len(content), 3):
            changed[place] ^= int(random.integers(1, 256))
        size = None
        try:
            size = read_header(bytes(changed)).upright
        except DataError:
            with pytest.raises(DataError, match=r"\w"):  # whatever the first reader has found
                decode(bytes(changed))
            continue
        try:
            pixels = decode(bytes(changed))
        except DataError:
            continue
        assert size == pixels.shape[:2]
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3


# -- which format, and what it takes to read it ----------------------------------------------------------


def _box(major: bytes, *compatible: bytes) -> bytes:
    return (
        struct.pack(">I4s4sI", 16 + 4 * len(compatible), b"ftyp", major, 0) + b"".join(compatible) + bytes(40)
    )


@pytest.mark.parametrize(
    ("content", "name"),
    [
        *((_box(brand), "HEIC") for brand in (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis")),
        (_box(b"avif"), "AVIF"),
        (_box(b"avis"), "AVIF"),
        (_box(b"mif1", b"mif1", b"heic"), "HEIC"),
        (_box(b"mif1", b"mif1", b"avif", b"miaf"), "AVIF"),
        (_box(b"msf1", b"hevc"), "HEIC"),
        (_box(b"msf1", b"avis"), "AVIF"),
        (_box(b"mif1"), "HEIC"),
        (_box(b"isom", b"mp42"), "MP4"),
        (_box(b"qt  "), "MP4"),
        (_box(b"crx ", b"isom"), "CR3"),
        (b"II*\0\x10\0\0\0CR\x02\0", "CR2"),
        (b"MM\0+\0\x08\0\0", "TIFF"),
        (b"PK\x03\x04", "ZIP"),
    ],
)
def test_formats_are_told_apart_by_their_first_bytes(content: bytes, name: str) -> None:
    assert sniff(content) == name


def test_the_list_of_brands_ends_with_its_box() -> None:
    assert sniff(_box(b"mif1", b"mif1") + b"avif") == "HEIC"
    assert sniff(b"\xff\xff\xff\xff" + _box(b"mif1", b"avif")[4:]) == "AVIF"


def test_every_format_has_a_suffix_that_readers_know() -> None:
    assert {f".{suffix_of(name)}" for name in ACCEPTED} <= EXTENSIONS
    assert {".tif", ".tiff", ".gif", ".avif", ".heic", ".heif"} <= EXTENSIONS


def test_whole_files_do_not_end_early() -> None:
    for content in (*_WHOLE.values(), encode(waves(9, 9), "WEBP"), b""):
        assert not ends_early(content)


def test_heic_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "reads_heic", lambda: False)
    with pytest.raises(
        DataError,
        match=r"^a HEIC photo, as iPhones take them; to read these: pip install 'deepresidual\[heic\]' \(or "
        r"convert: macOS Preview; on an iPhone Settings > Camera > Formats > Most Compatible\)$",
    ) as caught:
        decode((HEIC / "upright.heic").read_bytes())
    assert caught.value.kind == "unsupported"


def test_avif_without_its_codec_names_the_version_of_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "reads_avif", lambda: False)
    with pytest.raises(
        DataError, match=r"^an AVIF image, which Pillow [\d.]+ does not read here; to read these: pip install"
    ):
        decode(_box(b"avif"))


def test_an_installed_pillow_heif_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "pillow_heif" or None)
    formats.reads_heic.cache_clear()
    assert formats.reads_heic()
    formats.reads_heic.cache_clear()
