"""Contents of samples: those of their bytes, read once as long as a file stays as it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deepresidual.data.contents import contents_of
from deepresidual.data.picture_cache import PictureCache
from deepresidual.data.source import open_source
from deepresidual.data.source.base import EncodedSample
from deepresidual.data.source.validation import Subset
from tests.data.pictures import InMemory


@pytest.fixture
def cache(tmp_path: Path) -> PictureCache:
    return PictureCache(tmp_path / "cache")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the files that are read."""
    from deepresidual.data.source.folder import FolderSplit

    seen: list[str] = []
    read = FolderSplit.read

    def noting(self: FolderSplit, index: int) -> EncodedSample:
        seen.append(self.key(index))
        return read(self, index)

    monkeypatch.setattr(FolderSplit, "read", noting)
    return seen


def sha256(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()[:16]


def test_a_file_is_read_once(photos: Path, cache: PictureCache, reads: list[str]) -> None:
    split = open_source(photos).split("train")
    first = contents_of(split, cache=cache)
    assert first == [sha256(photos / split.key(index)) for index in range(len(split))]
    assert sorted(reads) == [split.key(index) for index in range(len(split))]
    reads.clear()
    assert contents_of(open_source(photos).split("train"), cache=cache) == first
    part = Subset(split, [5, 3])
    assert contents_of(part, cache=cache) == [first[5], first[3]]
    assert reads == []


def test_a_file_that_was_changed_is_read_again(photos: Path, cache: PictureCache, reads: list[str]) -> None:
    split = open_source(photos).split("train")
    before = contents_of(split, cache=cache)
    reads.clear()
    path = photos / split.key(7)
    status = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"\0")  # of the same size,
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # and, as far as it says so, as old
    after = contents_of(split, cache=cache)
    assert reads == [split.key(7)]
    assert after[7] == sha256(path) != before[7]
    assert after[:7] + after[8:] == before[:7] + before[8:]


@pytest.mark.parametrize("damaged", [b"", b"no data base", b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_cache_is_begun_anew(photos: Path, cache: PictureCache, damaged: bytes) -> None:
    split = open_source(photos).split("train")
    assert cache.folder is not None
    cache.folder.mkdir()
    (cache.folder / "hashes.sqlite").write_bytes(damaged)
    first = contents_of(split, cache=cache)
    assert (
        first == contents_of(split, cache=cache) == [sha256(photos / split.key(index)) for index in range(48)]
    )
    assert cache.find("content", split.stamps()[:1]) == {split.stamps()[0]: first[0]}  # type: ignore[attr-defined]


def test_a_cache_that_cannot_be_written_is_no_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    split = open_source(photos).split("train")
    assert all(contents_of(split, cache=PictureCache(tmp_path / "file" / "cache")))


def test_a_cache_that_has_become_too_large_is_begun_anew(
    cache: PictureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.add("content", {bytes([number]): b"value" for number in range(100)})
    monkeypatch.setattr("deepresidual.data.picture_cache.MAX_BYTES", 100)
    cache.add("content", {b"new": b"value"})
    assert cache.find("content", [b"new", b"\1"]) == {b"new": b"value"}


def test_a_sample_that_cannot_be_read_has_no_content(photos: Path, cache: PictureCache) -> None:
    split = open_source(photos).split("train")
    (photos / split.key(3)).unlink()
    contents = contents_of(split, cache=cache)
    assert [index for index, content in enumerate(contents) if not content] == [3]


def test_samples_in_memory_have_contents(damage: Callable[[Path], None]) -> None:
    assert contents_of(InMemory((b"one", b"two"), (0, 1))) == [
        hashlib.sha256(text).digest()[:16] for text in (b"one", b"two")
    ]
