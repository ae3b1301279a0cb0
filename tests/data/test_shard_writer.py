"""Writing shards: the same bytes of images, the same bytes of tars, whole or not at all."""

from __future__ import annotations

import gc
import hashlib
import tarfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import webdataset

from deepresidual.data.decode import decode
from deepresidual.data.shard_writer import write_shards
from deepresidual.data.source import SampleSource, open_source
from deepresidual.errors import ConfigurationError, DataError, RunError
from tests.data.pictures import InMemory, encode, noise

_KINDS = ("PNG", "JPEG", "WEBP", "BMP")


def _split(contents: Sequence[bytes], keys: str = "cat/photo.{}.png", **fields: Any) -> InMemory:
    return InMemory(tuple(contents), (0, 1), keys, **fields)


def _pictures(count: int) -> InMemory:
    return _split([encode(noise(9, 8, seed=seed), _KINDS[seed % 4]) for seed in range(count)])


def _source(train: int = 10, test: int = 3) -> SampleSource:
    return SampleSource("pets", ("cat", "dog"), {"train": _pictures(train), "test": _pictures(test)})


def _pairs(source: SampleSource, split: str) -> list[tuple[bytes, str]]:
    samples = (source.splits[split].read(index) for index in range(len(source.splits[split])))
    return [(sample.content, source.classes[sample.target]) for sample in samples]


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_what_is_written_is_read_with_the_same_bytes_labels_and_classes(tmp_path: Path) -> None:
    source = _source()
    shards = write_shards(source, tmp_path / "out")
    assert [(shard.name, shard.num_samples) for shard in shards] == [
        ("train-000000.tar", 10),
        ("test-000000.tar", 3),
    ]
    assert all((tmp_path / "out" / shard.name).stat().st_size == shard.num_bytes for shard in shards)
    found = open_source(tmp_path / "out")
    assert found.classes == source.classes
    for split in ("train", "test"):
        assert sorted(_pairs(found, split)) == sorted(_pairs(source, split))


def test_without_a_seed_the_order_stays_and_with_one_it_is_another(tmp_path: Path) -> None:
    source = _source()
    write_shards(source, tmp_path / "in-order", seed=None)
    assert _pairs(open_source(tmp_path / "in-order"), "train") == _pairs(source, "train")
    orders = []
    for seed in (0, 1):
        write_shards(source, tmp_path / f"{seed}", seed=seed)
        orders.append(_pairs(open_source(tmp_path / f"{seed}"), "train"))
    assert orders[0] != orders[1] != _pairs(source, "train") != orders[0]


def test_the_bytes_are_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards(_source(), tmp_path / "one", max_samples=4)
    monkeypatch.setattr("time.time", lambda: 2e9)
    write_shards(_source(), tmp_path / "two", max_samples=4)
    assert _hashes(tmp_path / "one") == _hashes(tmp_path / "two")
    with tarfile.open(tmp_path / "one" / "train-000000.tar") as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert (member.mode, member.isfile()) == (0o644, True)


def test_names_are_numbers_with_what_can_be_kept_of_the_file_name(tmp_path: Path) -> None:
    split = _split(_pictures(2).contents, keys="../a b/ca\u00df.t\n.{}.png")
    source = replace(_source(), splits={"train": split})
    write_shards(source, tmp_path / "out", seed=None)
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as archive:
        assert archive.getnames() == [
            "00000000-ca__t__0.png",
            "00000000-ca__t__0.cls",
            "00000001-ca__t__1.jpg",
            "00000001-ca__t__1.cls",
        ]


def test_shards_hold_so_many_samples_at_most(tmp_path: Path) -> None:
    shards = write_shards(_source(10, 3), tmp_path / "out", max_samples=4)
    assert [(shard.name, shard.num_samples) for shard in shards] == [
        ("train-000000.tar", 4),
        ("train-000001.tar", 4),
        ("train-000002.tar", 2),
        ("test-000000.tar", 3),
    ]
    assert len(open_source(tmp_path / "out").splits["train"]) == 10


def test_shards_have_so_many_megabytes_at_most_and_a_larger_sample_has_one_for_itself(tmp_path: Path) -> None:
    small, large = encode(noise(300, 300), "BMP"), encode(noise(700, 600), "BMP")
    assert len(small) < 300_000 < 1_000_000 < len(large)
    source = SampleSource(
        "pets", ("cat", "dog"), {"train": _split([small, small, large, small, small, small, small])}
    )
    shards = write_shards(source, tmp_path / "out", max_mb=1, seed=None)
    assert [shard.num_samples for shard in shards] == [2, 1, 3, 1]
    assert [shard.num_bytes <= 1_000_000 for shard in shards] == [True, False, True, True]
    assert _pairs(open_source(tmp_path / "out"), "train") == _pairs(source, "train")


def test_an_empty_folder_may_be_there_and_progress_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    told: list[int] = []
    write_shards(_source(), tmp_path / "out", on_sample=told.append)
    assert told == list(range(1, 14))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [0, 5])
def test_a_sample_that_cannot_be_read_leaves_nothing_behind(tmp_path: Path, at: int) -> None:
    split = _split(_pictures(10).contents, unreadable=frozenset([at]))
    source = replace(_source(), splits={"train": split})
    with pytest.raises(DataError, match=rf"^cat/photo\.{at}\.png cannot be read \(Input/output error\)$"):
        write_shards(source, tmp_path / "out", seed=None)
    assert list(tmp_path.iterdir()) == []


def test_a_sample_that_is_no_image_is_named_and_leaves_nothing_behind(tmp_path: Path) -> None:
    source = replace(_source(), splits={"train": _split([b"%PDF-1.7"])})
    with pytest.raises(
        DataError,
        match=r"photo\.0\.png is not an image that can be used \(found PDF\); expected JPEG, PNG, WebP, ",
    ):
        write_shards(source, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(ConfigurationError, match=r"out is not empty; expected a new or an empty folder$"):
        write_shards(_source(), tmp_path / "out")
    with pytest.raises(ConfigurationError, match=r"mine\.txt is a file; expected a new or an empty folder$"):
        write_shards(_source(), tmp_path / "out" / "mine.txt")
    assert (tmp_path / "out" / "mine.txt").read_text() == "x"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_samples": 0}, r"^max_samples is 0; expected a whole number from 1 on$"),
        ({"max_mb": -1}, r"^max_mb is -1; expected a whole number from 1 on$"),
        ({"seed": -1}, r"^seed is -1; expected a whole number from 0 to 2\^63 - 1$"),
    ],
)
def test_options_out_of_range(tmp_path: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        write_shards(_source(), tmp_path / "out", **options)  # type: ignore[arg-type]  # one option at a time
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(
        RunError, match=r"^cannot write .*out \(No space left on device; [\d,]+ bytes are free there\)"
    ):
        write_shards(_source(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# -- the reference ---------------------------------------------------------------------------------------


def _as_webdataset_reads(pattern: str) -> list[tuple[bytes, int, bytes]]:
    """Return what webdataset makes of shards: the bytes of every image, its label, its pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves the last tar open
        raw = list(webdataset.WebDataset(pattern, shardshuffle=False))
        pixels = list(
            webdataset.WebDataset(pattern, shardshuffle=False)
            .decode("pil")
            .to_tuple("jpg;png;webp;bmp", "cls")
        )
        gc.collect()
    contents = [
        next(sample[kind] for kind in ("jpg", "png", "webp", "bmp") if kind in sample) for sample in raw
    ]
    return [
        (content, label, image.tobytes()) for content, (image, label) in zip(contents, pixels, strict=True)
    ]


@pytest.mark.parametrize(("split", "last"), [("train", 4), ("test", 0)])
def test_webdataset_reads_our_shards_to_the_same_bytes(tmp_path: Path, split: str, last: int) -> None:
    write_shards(_source(23, 4), tmp_path / "out", max_samples=5)
    ours = open_source(tmp_path / "out").splits[split]
    theirs = _as_webdataset_reads(str(tmp_path / "out" / f"{split}-{{000000..{last:06d}}}.tar"))
    assert len(theirs) == len(ours) > 0
    for index, (content, label, pixels) in enumerate(theirs):
        sample = ours.read(index)
        assert (content, label) == (sample.content, sample.target)
        assert pixels == decode(sample.content).tobytes()


def test_we_read_the_shards_of_webdataset(tmp_path: Path) -> None:
    source = _source(12)
    with webdataset.ShardWriter(str(tmp_path / "train-%06d.tar"), maxcount=5, verbose=0) as writer:
        for index, (content, name) in enumerate(_pairs(source, "train")):
            kind = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "BMP": "bmp"}[_KINDS[index % 4]]
            label = source.classes.index(name)
            writer.write({"__key__": f"sample{index:04d}", kind: content, "cls": label})
    (tmp_path / "classes.json").write_text('["cat", "dog"]')
    assert _pairs(open_source(tmp_path), "train") == _pairs(source, "train")
