"""Near-copies are found by the hash of their picture, as imagehash computes it, and kept on one side."""

from __future__ import annotations

import io
from pathlib import Path

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from deepresidual.data.near_copies import (
    MOST_BITS,
    NO_HASH,
    grouped,
    near_pairs,
    picture_hash,
    picture_hash_of,
)
from deepresidual.data.picture_cache import PictureCache
from deepresidual.data.source import open_source
from deepresidual.data.source.stratified import unit_of


def a_picture(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Return a picture with large and small shapes in it, each seed another."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def bits(one: tuple[int, int], other: tuple[int, int]) -> int:
    return min((one[0] ^ other[0]).bit_count(), (one[1] ^ other[0]).bit_count())


@pytest.mark.parametrize("seed", range(20))
def test_the_hashes_are_those_of_imagehash(seed: int) -> None:
    gray = a_picture(seed).convert("L")
    ours = picture_hash(gray)
    for number, image in zip(ours, (gray, ImageOps.mirror(gray)), strict=True):
        theirs = int.from_bytes(np.packbits(imagehash.phash(image).hash).tobytes(), "big")
        # Mirrored before or after it is resized: rounding may move a frequency over the median.
        assert (number ^ theirs).bit_count() <= (0 if image is gray else 2)


def test_copies_are_near_and_strangers_are_not() -> None:
    pictures = [a_picture(seed, (640, 480)) for seed in range(12)]
    hashes = [picture_hash_of(jpeg(picture)) for picture in pictures]
    for picture, own in zip(pictures, hashes, strict=True):
        copies = {
            "smaller": jpeg(picture.resize((200, 150))),
            "compressed": jpeg(picture, 20),
            "brighter": jpeg(ImageEnhance.Brightness(picture).enhance(1.2)),
            "gray": jpeg(picture.convert("L")),
            "mirrored": jpeg(ImageOps.mirror(picture)),
        }
        for name, copy in copies.items():
            assert bits(own, picture_hash_of(copy)) <= MOST_BITS, name
    strangers = [bits(one, other) for index, one in enumerate(hashes) for other in hashes[:index]]
    assert min(strangers) > MOST_BITS


def test_small_and_plain_images_have_no_hash() -> None:
    assert picture_hash(a_picture(0, (15, 40)).convert("L")) == NO_HASH
    assert picture_hash(Image.new("L", (200, 200), 90)) == NO_HASH
    faint = np.random.default_rng(0).normal(100, 2, (64, 64)).clip(0, 255).astype(np.uint8)
    assert picture_hash(Image.fromarray(faint)) == NO_HASH
    assert picture_hash(a_picture(0, (16, 16)).convert("L")) != NO_HASH


@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=30), st.data())
def test_all_pairs_are_compared(numbers: list[int], data: st.DataObject) -> None:
    numbers = [*numbers, numbers[0] ^ data.draw(st.integers(0, 1023)), 0]
    hashes = np.array([[number, number ^ 1] if number else [0, 0] for number in numbers], dtype=np.uint64)
    expected = [
        [i, j]
        for i in range(len(numbers))
        for j in range(i + 1, len(numbers))
        if numbers[i]
        and numbers[j]
        and min((numbers[i] ^ numbers[j]).bit_count(), (numbers[i] ^ 1 ^ numbers[j]).bit_count()) <= MOST_BITS
    ]
    assert near_pairs(hashes, cache=PictureCache(Path("/dev/null"))).tolist() == expected


def test_a_mirrored_copy_is_one_either_way_round() -> None:
    # Two photos of ants: 10 bits one way and 12 the other, and nothing alike.
    numbers = [[0x1 << 40, 0xFFF], [0xFFFFFF << 20, 0x1 << 40]]
    for order in ([0, 1], [1, 0]):
        hashes = np.array([numbers[place] for place in order], dtype=np.uint64)
        assert near_pairs(hashes, cache=PictureCache(Path("/dev/null"))).tolist() == []
    both = np.array([[5, 9], [9, 5]], dtype=np.uint64)
    assert near_pairs(both, cache=PictureCache(Path("/dev/null"))).tolist() == [[0, 1]]


def test_pairs_make_groups_and_chains_that_grow_too_large_are_told() -> None:
    chain = np.array([[index, index + 1] for index in range(5)])  # six of a class of ten
    others = np.array([[10, 11], [11, 14]])
    found = grouped(np.concatenate([chain, others]), [0] * 10 + [1] * 90)
    assert (found.groups, found.large) == (((10, 11, 14),), ((0, 1, 2, 3, 4, 5),))
    assert found.count == 2


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=10))
def test_near_copies_join_the_units_of_their_groups_under_the_smallest(pairs: list[tuple[int, int]]) -> None:
    edges = np.array([sorted(pair) for pair in pairs if pair[0] != pair[1]], dtype=np.int64).reshape(-1, 2)
    units = [unit_of(f"{number // 2}.jpg") for number in range(20)]  # two of each unit
    found = grouped(edges, [0] * 20)
    joined = found.merged(units)
    for group in found.groups:
        assert len({joined[index] for index in group}) == 1
    for number in range(0, 20, 2):
        assert joined[number] == joined[number + 1] <= units[number]
    assert set(joined) <= set(units)
    if not found.groups:
        assert joined == units


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of 15 pictures each, and a smaller copy of each of the first ten of one."""
    for label in range(2):
        folder = tmp_path / "photos" / f"class-{label}"
        folder.mkdir(parents=True)
        for number in range(15):
            (folder / f"{number:02}.jpg").write_bytes(jpeg(a_picture(100 * label + number)))
    for number in range(10):
        (tmp_path / "photos" / "class-0" / f"copy-{number:02}.jpg").write_bytes(
            jpeg(a_picture(number).resize((80, 60)), 70)
        )
    return tmp_path / "photos"


def sides(folder: Path) -> dict[str, str]:
    source = open_source(folder)
    return {split.key(index): name for name, split in source.splits.items() for index in range(len(split))}


def test_a_copy_is_on_the_side_of_its_original(photos: Path) -> None:
    source = open_source(photos)
    side = sides(photos)
    for number in range(10):
        assert side[f"class-0/{number:02}.jpg"] == side[f"class-0/copy-{number:02}.jpg"]
    assert source.held_out.endswith("; 10 near-copies are kept on one side")
    assert source.split("test").labels.count(0) == 5
    assert source.split("test").labels.count(1) == 3
    assert source.notes == ()


def test_a_series_of_alike_pictures_is_named_and_not_kept_together(tmp_path: Path) -> None:
    for label in range(2):
        (tmp_path / f"class-{label}").mkdir()
        for number in range(20):
            seed = 999 if label and number < 10 else 100 * label + number
            quality = 90 if number < 2 else 60 + number  # the first two are the same file
            (tmp_path / f"class-{label}" / f"{number:02}.jpg").write_bytes(jpeg(a_picture(seed), quality))
    source = open_source(tmp_path)
    (note,) = source.notes
    assert note.startswith(
        "10 images of class-1 are like one another, as class-1/00.jpg, and not kept on one"
    )
    side = sides(tmp_path)
    assert side["class-1/00.jpg"] == side["class-1/01.jpg"]
    assert source.held_out.endswith("; 1 near-copy is kept on one side")


def test_the_second_opening_decodes_nothing(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sides(photos)

    def refuse(_: bytes) -> tuple[int, int]:
        raise AssertionError("an image was decoded")

    monkeypatch.setattr("deepresidual.data.near_copies.picture_hash_of", refuse)
    assert sides(photos) == first
    monkeypatch.setattr("deepresidual.data.near_copies._near_pairs", refuse)
    assert sides(photos) == first


def test_a_damaged_file_stands_alone(photos: Path) -> None:
    (photos / "class-0" / "damaged.jpg").write_bytes(jpeg(a_picture(3))[:900])
    assert "class-0/damaged.jpg" in sides(photos)


def test_more_images_than_can_be_compared_are_said(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepresidual.data.near_copies.MOST_IMAGES", 20)
    assert open_source(photos).notes == ("more than 20 images: near-copies among them are not looked for",)
