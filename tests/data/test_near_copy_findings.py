"""What ``check`` says of near-copies: wrong labels first, then leaks, copies and series."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageOps

from deepresidual.data.check import check
from tests.data.test_near_copies import a_picture, jpeg


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes in train/ and test/, each picture another."""
    for split in ("train", "test"):
        for label in range(2):
            folder = tmp_path / "photos" / split / "ab"[label]
            folder.mkdir(parents=True)
            for number in range(12):
                seed = 1000 * (split == "test") + 100 * label + number
                (folder / f"{number:02}.jpg").write_bytes(jpeg(a_picture(seed)))
    return tmp_path / "photos"


def smaller(seed: int) -> bytes:
    return jpeg(a_picture(seed).resize((80, 60)), 60)


def found(folder: Path) -> list[tuple[str, str, str, str]]:
    return [(item.kind, item.split, item.key, item.detail) for item in check(folder, num_workers=0).findings]


def test_pictures_that_all_differ_have_no_findings(photos: Path) -> None:
    assert found(photos) == []


def test_copies_are_told_by_what_they_spoil(photos: Path) -> None:
    (photos / "train" / "a" / "copy.jpg").write_bytes(smaller(3))
    (photos / "test" / "a" / "seen.jpg").write_bytes(jpeg(ImageOps.mirror(a_picture(5))))
    (photos / "train" / "b" / "other.jpg").write_bytes(smaller(7))
    assert found(photos) == [
        (
            "near-two-labels",
            "train",
            "train/b/other.jpg",
            "b here, and a as train/a/07.jpg: nearly the same picture",
        ),
        ("near-leak", "test", "test/a/seen.jpg", "nearly the same picture as train/a/05.jpg of train"),
        ("near-copy", "train", "train/a/copy.jpg", "nearly the same picture as train/a/03.jpg"),
    ]


def test_the_same_pixels_are_told_once(photos: Path) -> None:
    (photos / "train" / "a" / "again.jpg").write_bytes((photos / "train" / "a" / "03.jpg").read_bytes())
    assert [(kind, key) for kind, _, key, _ in found(photos)] == [("duplicate-file", "train/a/again.jpg")]


def test_a_series_is_one_finding(photos: Path) -> None:
    for number in range(6):
        picture = a_picture(500).resize((100 + number, 80), Image.Resampling.BICUBIC)
        (photos / "train" / "a" / f"frame-{number}.jpg").write_bytes(jpeg(picture))
    assert found(photos) == [
        (
            "series",
            "train",
            "train/a/frame-0.jpg",
            "6 images of a are like one another; if they show one thing, say --group",
        )
    ]
