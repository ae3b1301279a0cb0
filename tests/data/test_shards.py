"""WebDataset tars: layouts, labels, random access, and tars that are refused."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.base import EncodedSample, IgnoredFile, fingerprint_of
from deepresidual.data.source.shards import index as indexing
from deepresidual.data.source.shards import tar
from deepresidual.errors import ConfigurationError, DataError
from tests.data.pictures import encode, noise
from tests.data.splits import smallest_hashes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_PNG = encode(noise(4, 5), "PNG")

Member = tuple[str, bytes] | tarfile.TarInfo


def _tar(path: Path, members: Iterable[Member], kind: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as archive:
        for member in members:
            header = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member[0])
            content = b"" if isinstance(member, tarfile.TarInfo) else member[1]
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path


def _sample(name: str, label: object, image: bytes = _PNG, extension: str = "png") -> list[Member]:
    return [(f"{name}.{extension}", image), (f"{name}.cls", str(label).encode())]


def _samples(*labels: int, first: int = 0) -> list[Member]:
    return [
        member for number, label in enumerate(labels, first) for member in _sample(f"{number:04d}", label)
    ]


def _data(root: Path) -> Path:
    """Write two training tars and one for validation."""
    _tar(root / "train-000000.tar", _samples(0, 1))
    _tar(root / "train-000001.tar", _samples(1, 0, 1, first=2))
    _tar(root / "val-000000.tar", _samples(1, 0, first=9))
    return root


def _keys(source: SampleSource, split: str) -> list[str]:
    return [source.splits[split].key(index) for index in range(len(source.splits[split]))]


# -- layouts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "shards:"])
def test_a_folder_of_tars_is_read_in_the_order_of_its_names(tmp_path: Path, prefix: str) -> None:
    source = open_source(f"{prefix}{_data(tmp_path / 'pets')}")
    assert (source.name, source.classes, source.held_out) == ("pets", ("0", "1"), "")
    assert list(source.splits) == ["train", "val"]
    assert source.splits["train"].labels == [0, 1, 1, 0, 1]
    assert _keys(source, "train")[:3] == [
        "train-000000.tar/0000.png",
        "train-000000.tar/0001.png",
        "train-000001.tar/0002.png",
    ]
    assert source.splits["val"].read(0) == EncodedSample("val-000000.tar/0009.png", _PNG, 1)


@pytest.mark.parametrize(
    ("pattern", "splits"),
    [
        ("train-*.tar", {"train": 5}),
        ("*-000000.tar", {"train": 2, "val": 2}),
        ("train-{000000..000001}.tar", {"train": 5}),
        ("{train,val}-00000{0..0}.tar", {"train": 2, "val": 2}),
        ("{train-000001,val-*}.tar", {"train": 3, "val": 2}),
        ("train-000001.tar", {"train": 3}),
        ("train-00000[1].tar", {"train": 3}),
    ],
)
def test_patterns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, splits: dict[str, int]
) -> None:
    _data(tmp_path)
    source = open_source(f"shards:{tmp_path}/{pattern}")
    assert {name: len(split) for name, split in source.splits.items()} == splits
    monkeypatch.chdir(tmp_path)
    relative = open_source(f"shards:{pattern}")
    for name in splits:
        assert _keys(relative, name) == _keys(source, name)


def test_hidden_tars_and_folders_are_passed_over(tmp_path: Path) -> None:
    _tar(_data(tmp_path) / ".cache" / "train-9.tar", _samples(0, 1))
    (tmp_path / ".train-000002.tar").write_bytes(b"half of a download")
    (tmp_path / ".old.tar.gz").touch()
    assert len(open_source(tmp_path).splits["train"]) == 5


def test_a_folder_above_may_name_the_split(tmp_path: Path) -> None:
    _tar(tmp_path / "data" / "training" / "a-0.tar", _samples(0, 1))
    _tar(tmp_path / "data" / "test" / "a-0.tar", _samples(1, 0))
    source = open_source(tmp_path / "data")
    assert list(source.splits) == ["train", "test"]
    assert _keys(source, "test") == ["test/a-0.tar/0000.png", "test/a-0.tar/0001.png"]


def test_a_single_tar_is_divided_by_name(tmp_path: Path) -> None:
    file = _tar(tmp_path / "pets.tar", _samples(*[number % 2 for number in range(60)]))
    source = open_source(file)
    assert (source.name, source.held_out) == (
        "pets",
        "a fifth of each class is held out by the hash of the file name",
    )
    names = [f"{number:04d}.png" for number in range(60)]
    test = smallest_hashes(names[::2]) | smallest_hashes(names[1::2])
    assert _keys(source, "test") == [f"pets.tar/{name}" for name in names if name in test]
    assert _keys(source, "train") == [f"pets.tar/{name}" for name in names if name not in test]
    for split in source.splits.values():
        for index in range(len(split)):
            sample = split.read(index)
            assert int(sample.key[-8:-4]) % 2 == sample.target == split.labels[index]


def test_some_tars_with_and_some_without_a_split_are_refused(tmp_path: Path) -> None:
    _tar(_data(tmp_path) / "more.tar", _samples(0, 1))
    with pytest.raises(
        DataError,
        match=r"more\.tar does not say which split it belongs to, and train-000000\.tar does; expected the w",
    ):
        open_source(tmp_path)


@pytest.mark.parametrize("bad", [False, True])
def test_many_tars_are_indexed_by_several_processes_to_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: bool
) -> None:
    for number in range(12):
        labels = [(number + place) % 3 for place in range(number)]
        _tar(
            tmp_path / f"train-{number:02d}.tar", [("notes.txt", b"x"), *_samples(*labels, first=10 * number)]
        )
    if bad:
        _tar(tmp_path / "train-07.tar", [("../x.png", _PNG)])
        with pytest.raises(DataError, match=r"train-07\.tar: member '\.\./x\.png' leads out of the archive"):
            open_source(tmp_path)
        return
    monkeypatch.setattr(indexing, "usable_cores", lambda: 2)
    parallel = open_source(tmp_path)
    monkeypatch.setattr(indexing, "usable_cores", lambda: 1)
    serial = open_source(tmp_path)
    assert parallel.ignored == serial.ignored
    assert len(serial.ignored) == 12
    one, other = parallel.splits["train"], serial.splits["train"]
    assert len(one) == len(other) == sum(range(12))
    assert fingerprint_of(one) == fingerprint_of(other)
    assert [one.read(index) for index in range(66)] == [other.read(index) for index in range(66)]


# -- what a sample is ------------------------------------------------------------------------------------


def test_every_extension_of_an_image_counts_in_any_case(tmp_path: Path) -> None:
    extensions = ["jpg", "jpeg", "png", "webp", "bmp", "JPG"]
    members = [
        member
        for number, extension in enumerate(extensions)
        for member in _sample(f"{number}", number % 2, extension.encode(), extension)
    ]
    _tar(tmp_path / "train.tar", members)
    split = open_source(tmp_path).splits["train"]
    assert [split.read(index).content for index in range(6)] == [
        extension.encode() for extension in extensions
    ]


def test_names_end_at_the_first_dot_of_the_file_name(tmp_path: Path) -> None:
    members = [("v1.0/a.b/x.seg.png", b"mask"), ("v1.0/a.b/x.jpg", b"1"), ("v1.0/a.b/x.cls", b" 1\n")]
    _tar(tmp_path / "train.tar", [*members, ("v1.0/x.jpg", b"2"), ("v1.0/x.txt", b"t"), ("v1.0/x.cls", b"0")])
    split = open_source(tmp_path).splits["train"]
    assert [(split.read(index).content, split.labels[index]) for index in range(2)] == [(b"1", 1), (b"2", 0)]


@pytest.mark.parametrize(
    ("labels", "listed", "classes", "numbers"),
    [
        ([2, 0], None, ("0", "2"), [1, 0]),
        (["dog", "cat"], None, ("cat", "dog"), [1, 0]),
        ([1, 0], ["dog", "cat"], ("dog", "cat"), [1, 0]),
        (["cat", "dog"], ["dog", "emu", "cat"], ("dog", "emu", "cat"), [2, 0]),
        (["cat", 0], ["dog", "cat"], ("dog", "cat"), [1, 0]),
    ],
)
def test_labels_in_json_are_numbers_or_names(
    tmp_path: Path, labels: list[Any], listed: list[str] | None, classes: tuple[str, ...], numbers: list[int]
) -> None:
    members: list[Member] = []
    for number, label in enumerate(labels):
        document = json.dumps({"label": label, "caption": "x"}).encode()
        members += [(f"{number}.json", document), (f"{number}.jpg", _PNG)]
    _tar(tmp_path / "train.tar", members)
    if listed is not None:
        (tmp_path / "classes.json").write_text(json.dumps(listed))
    source = open_source(tmp_path)
    assert (source.classes, source.splits["train"].labels) == (classes, numbers)


def test_numbers_that_do_not_occur_are_no_classes(tmp_path: Path) -> None:
    # As from a table. The class that labels from 1 on would lack at 0 is nobody's.
    _tar(tmp_path / "train.tar", _samples(1, 2, 10, 2))
    source = open_source(tmp_path)
    assert (source.classes, source.splits["train"].labels) == (("1", "2", "10"), [0, 1, 2, 1])


@pytest.mark.parametrize("listed", [None, ["caf\u00e9", "tea"], ["cafe\u0301", "tea"]])
def test_splits_in_two_unicode_forms_have_the_same_classes(tmp_path: Path, listed: list[str] | None) -> None:
    for split, label in (("train", "caf\u00e9"), ("val", "cafe\u0301")):
        members: list[Member] = []
        for number, name in enumerate((label, "tea")):
            members += [(f"{number}.json", json.dumps({"label": name}).encode()), (f"{number}.jpg", _PNG)]
        _tar(tmp_path / f"{split}.tar", members)
    if listed is not None:
        (tmp_path / "classes.json").write_text(json.dumps(listed))
    source = open_source(tmp_path)
    assert source.classes == tuple(listed or ("caf\u00e9", "tea"))
    assert [split.labels for split in source.splits.values()] == [[0, 1], [0, 1]]


def test_images_that_are_all_called_alike_are_divided_by_their_path(tmp_path: Path) -> None:
    members = [member for number in range(80) for member in _sample(f"{number:03}/image", number % 2)]
    source = open_source(_tar(tmp_path / "pets.tar", members))
    assert len(source.splits["train"]) + len(source.splits["test"]) == 80
    assert 4 <= len(source.splits["test"]) <= 32


@pytest.mark.parametrize("order", [("cls", "json"), ("json", "cls")])
def test_cls_goes_before_json(tmp_path: Path, order: tuple[str, str]) -> None:
    contents = {"cls": b"1", "json": b'{"label": 0}'}
    members: list[Member] = [*_sample("a", 0), ("b.png", _PNG)]
    _tar(
        tmp_path / "train.tar", [*members, *((f"b.{extension}", contents[extension]) for extension in order)]
    )
    assert open_source(tmp_path).splits["train"].labels == [0, 1]


def test_members_that_belong_to_no_sample_are_named_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("images")
    folder.type = tarfile.DIRTYPE
    members: list[Member] = [folder, ("README", b"x"), ("notes.txt", b"x"), ("._0000.png", b"mac")]
    _tar(tmp_path / "train.tar", [*members, *_samples(0, 1), (".hidden.png", b"x"), ("last.txt", b"x")])
    source = open_source(tmp_path)
    assert len(source.splits["train"]) == 2
    reason = "neither an image nor a label, nor beside one"
    assert source.ignored == tuple(
        IgnoredFile(f"train.tar/{name}", reason) for name in ("README", "notes.txt", "last.txt")
    )


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_odd_names_are_read(tmp_path: Path, kind: int) -> None:
    names = ["n" * 240, "d/" * 90 + "x", "caf\u00e9", os.fsdecode(b"caf\xe9"), "new\nline"]
    members = [member for number, name in enumerate(names) for member in _sample(name, number % 2)]
    _tar(tmp_path / "train.tar", members, kind)
    source = open_source(tmp_path)
    assert _keys(source, "train") == [f"train.tar/{name}.png" for name in names]
    assert len(fingerprint_of(source.splits["train"])) == 32


# -- reading ---------------------------------------------------------------------------------------------


def test_samples_are_read_at_random_from_where_they_lie(tmp_path: Path) -> None:
    contents = [bytes([number]) * (number * 300) for number in range(20)]
    members = [
        member
        for number, content in enumerate(contents)
        for member in _sample(f"{number}", number % 2, content)
    ]
    _tar(tmp_path / "train-0.tar", members[:20])
    _tar(tmp_path / "train-1.tar", members[20:])
    split = open_source(tmp_path).splits["train"]
    for index in (19, 0, 7, 7, 10, 9):
        assert split.read(index).content == contents[index]


def test_a_split_reads_the_same_in_another_process(tmp_path: Path) -> None:
    split = open_source(_data(tmp_path)).splits["train"]
    copy = pickle.loads(pickle.dumps(split))  # noqa: S301  # made on this line; what `spawn` does
    assert [copy.read(index) for index in range(5)] == [split.read(index) for index in range(5)]


def test_what_a_split_keeps_lies_in_arrays_and_does_not_grow_with_the_images(tmp_path: Path) -> None:
    members = [
        member for number in range(400) for member in _sample(f"{number:06d}", number % 2, bytes(5_000))
    ]
    _tar(tmp_path / "train.tar", members)
    tracemalloc.start()
    source = open_source(tmp_path)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(source.splits["train"]) == 400
    # 3 + 1 + 1 numbers of 8 bytes and a name of 10; the images alone have 5,000
    assert kept < 400 * 200 + 50_000


def test_the_fingerprint_is_the_same_in_another_place_and_changes_with_the_samples(tmp_path: Path) -> None:
    first = fingerprint_of(open_source(_data(tmp_path / "one")).splits["train"])
    assert fingerprint_of(open_source(_data(tmp_path / "two")).splits["train"]) == first
    _tar(tmp_path / "two" / "train-000001.tar", _samples(1, 1, 1, first=2))
    assert fingerprint_of(open_source(tmp_path / "two").splits["train"]) != first


def test_a_tar_that_became_shorter_or_vanished_is_named_when_it_is_read(tmp_path: Path) -> None:
    split = open_source(_data(tmp_path)).splits["train"]
    os.truncate(tmp_path / "train-000000.tar", 600)
    with pytest.raises(
        DataError, match=r"^train-000000\.tar/0001\.png cannot be read \(the tar has become short"
    ):
        split.read(1)
    (tmp_path / "train-000000.tar").unlink()
    with pytest.raises(
        DataError, match=r"^train-000000\.tar/0000\.png cannot be read \(No such file or direct"
    ):
        split.read(0)


# -- samples that are refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            [("a.png", _PNG)],
            r"sample 'a' has an image and no label; expected a\.cls or a\.json beside it; put the",
        ),
        (
            [("a.cls", b"0")],
            r"sample 'a' has a label and no image; put the members of a sample one behind the",
        ),
        ([("a.png", _PNG), ("b.png", _PNG), ("a.cls", b"0")], r"sample 'a' has an image and no label"),
        (
            [("a.png", _PNG), ("a.jpg", _PNG), ("a.cls", b"0")],
            r"sample 'a' has two images \(a\.png, a\.jpg\); gi",
        ),
        (_sample("a", "cat"), r"member 'a\.cls' holds b'cat'; expected the number of a class as text"),
        (_sample("a", "-1"), r"member 'a\.cls' holds b'-1'"),
        (_sample("a", "1.0"), r"member 'a\.cls' holds b'1\.0'"),
        (_sample("a", ""), r"member 'a\.cls' holds b''"),
        (_sample("a", "9" * 10), r"member 'a\.cls' holds b'9999999999'"),
        (_sample("a", "1" * 1_000_001), r"member 'a\.cls' has 1,000,001 bytes; expected a label"),
        ([("a.json", b"{"), ("a.png", _PNG)], r"member 'a\.json' is no JSON"),
        ([("a.json", b"[" * 100_000), ("a.png", _PNG)], r"member 'a\.json' is no JSON"),
        ([("a.json", b"\xff"), ("a.png", _PNG)], r"member 'a\.json' is no JSON"),
        ([("a.json", b"{}"), ("a.png", _PNG)], r"sample 'a' has an image and no label"),
        ([("a.json", b"[1]"), ("a.png", _PNG)], r"sample 'a' has an image and no label"),
        (
            [("a.json", b'{"label": true}'), ("a.png", _PNG)],
            r"has the label 'True'; expected a whole number or",
        ),
        (
            [("a.json", b'{"label": 1.5}'), ("a.png", _PNG)],
            r"has the label '1\.5'; expected a whole number or",
        ),
        (
            [("a.json", b'{"label": ""}'), ("a.png", _PNG)],
            r"has the label ''; expected a whole number or the na",
        ),
        (
            [("a.json", b'{"label": -3}'), ("a.png", _PNG)],
            r"train\.tar: member 'a\.json' has the label -3; expected 0 or more$",
        ),
        (
            [("a.json", b'{"label": "x"}'), ("a.png", _PNG)],
            r"some labels are numbers and some are names; use on",
        ),
    ],
)
def test_samples_that_cannot_be_used_are_named(tmp_path: Path, members: list[Member], message: str) -> None:
    _tar(tmp_path / "train.tar", [*_samples(0, 1), *members])
    with pytest.raises(DataError, match=message):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (
            '["cat"]',
            r": train-000000\.tar/0001\.png has the label 1, which is not in classes\.json; expected 0 to 0",
        ),
        ("[]", r"classes\.json is no list of class names; expected \[\"cat\", \"dog\"\] and the like"),
        ('{"cat": 0}', r"classes\.json is no list of class names"),
        ('["cat", 1]', r"classes\.json is no list of class names"),
        ('["cat", ""]', r"classes\.json is no list of class names"),
        ('["cat", "cat"]', r"classes\.json names a class twice"),
        (
            '["cat", "CAT"]',
            r"classes 'cat' and 'CAT' differ only in case or Unicode form; merge or rename them",
        ),
        ('["cat", "\\ud83d"]', r"the class '\\ud83d' is no text; expected whole characters"),
        ("cat\ndog\n", r"classes\.json is no JSON \(Expecting value"),
    ],
)
def test_class_names_that_do_not_fit_are_refused(tmp_path: Path, listed: str, message: str) -> None:
    (_data(tmp_path) / "classes.json").write_text(listed)
    with pytest.raises(DataError, match=message):
        open_source(tmp_path)


def test_two_lists_of_class_names_that_differ_are_refused(tmp_path: Path) -> None:
    for split, names in (("train", ["a", "b"]), ("val", ["b", "a"])):
        _tar(tmp_path / split / "0.tar", _samples(0, 1))
        (tmp_path / split / "classes.json").write_text(json.dumps(names))
    with pytest.raises(DataError, match=r"train/classes\.json and .*val/classes\.json differ; keep one$"):
        open_source(tmp_path)


def test_a_name_that_is_not_in_the_list_is_refused(tmp_path: Path) -> None:
    _tar(tmp_path / "train.tar", [*_samples(0, 1), ("x.json", b'{"label": "emu"}'), ("x.png", _PNG)])
    (tmp_path / "classes.json").write_text('["cat", "dog"]')
    with pytest.raises(
        DataError, match=r": train\.tar/x\.png has the label 'emu', which is not in classes\.json;"
    ):
        open_source(tmp_path)


def test_one_class_is_refused(tmp_path: Path) -> None:
    _tar(tmp_path / "train.tar", _samples(0, 0))
    with pytest.raises(
        DataError, match=r"has only one class \(0\); expected at least 2; add samples of another"
    ):
        open_source(tmp_path)


# -- tars that are refused -------------------------------------------------------------------------------


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (
            _member("../x.png"),
            r"member '\.\./x\.png' leads out of the archive; expected plain files; make the",
        ),
        (_member("a/../../x.png"), r"member 'a/\.\./\.\./x\.png' leads out of the archive"),
        (_member("a\\..\\x.png"), r"member 'a\\\\\.\.\\\\x\.png' leads out of the archive"),
        (_member("/etc/x.png"), r"member '/etc/x\.png' leads out of the archive"),
        (_member("x.png", tarfile.SYMTYPE, "/etc/passwd"), r"member 'x\.png' is a link"),
        (_member("x.png", tarfile.LNKTYPE, "0000.png"), r"member 'x\.png' is a link"),
        (_member("x.png", tarfile.CHRTYPE), r"member 'x\.png' is a device, a pipe or of an unknown kind"),
        (_member("x.png", tarfile.BLKTYPE), r"member 'x\.png' is a device"),
        (_member("x.png", tarfile.FIFOTYPE), r"member 'x\.png' is a device, a pipe"),
    ],
)
@pytest.mark.parametrize("place", [0, 2, 4])
def test_hostile_members_are_refused_by_name_and_nothing_is_written(
    tmp_path: Path, member: tarfile.TarInfo, message: str, place: int
) -> None:
    members = _samples(0, 1)
    members.insert(place, member)
    file = _tar(tmp_path / "in" / "train.tar", members)
    with pytest.raises(DataError, match=rf"^{file}: {message}"):
        open_source(file)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "in", file]


def test_a_name_of_kilobytes_is_refused(tmp_path: Path) -> None:
    _tar(tmp_path / "train.tar", [*_samples(0, 1), *_sample("n" * 1100, 0)], tarfile.PAX_FORMAT)
    with pytest.raises(DataError, match=r"member 'n{80}' has a name of more than 1,024 bytes"):
        open_source(tmp_path)


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "_MAX_MEMBERS", 6)
    _tar(tmp_path / "train.tar", _samples(0, 1, 0, 1))
    with pytest.raises(DataError, match=r"train\.tar has more than 6 members; make smaller shards$"):
        open_source(tmp_path)


@pytest.mark.parametrize("name", ["train.tar", "train-0.tar.gz", "train-0.tgz", "train-0.tar.zst"])
def test_compressed_tars_are_refused_by_name_or_content(tmp_path: Path, name: str) -> None:
    content = _tar(tmp_path / "train-0.tar", _samples(0, 1)).read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content))
    with pytest.raises(
        DataError,
        match=rf"{name} is compressed, so that nothing in it can be found .*; expected plain \.tar files;",
    ):
        open_source(f"shards:{tmp_path}")


@pytest.mark.parametrize("length", [1, 511, 512, 600, 1023, 1024, 1500, 2048, 3072, 4000])
def test_a_tar_that_is_cut_anywhere_is_damaged(tmp_path: Path, length: int) -> None:
    file = _tar(tmp_path / "train.tar", _samples(0, 1))
    assert length < 4 * 1024 < file.stat().st_size
    os.truncate(file, length)
    with pytest.raises(DataError, match=rf"^{file} is damaged or no tar \(.+\); copy or make it again$"):
        open_source(file)


def test_a_damaged_header_in_the_middle_does_not_end_the_tar_quietly(tmp_path: Path) -> None:
    file = _tar(tmp_path / "train.tar", _samples(0, 1))
    content = bytearray(file.read_bytes())
    content[2048 + 5] ^= 0x55  # the third header, in its name: its checksum is wrong now
    file.write_bytes(content)
    with pytest.raises(
        DataError, match=r"is damaged or no tar \(no header, and not the end, at byte 2,048\)"
    ):
        open_source(file)


def test_what_follows_the_end_of_a_tar_is_not_lost_quietly(tmp_path: Path) -> None:
    file = _tar(tmp_path / "train.tar", _samples(0, 1))
    file.write_bytes(file.read_bytes() * 2)
    with pytest.raises(DataError, match=r"is damaged or no tar \(data follow its end, as where two"):
        open_source(file)


@pytest.mark.parametrize("content", [b"", b"Dear reader, this is no tar." * 100, bytes(512), b"\xff" * 2048])
def test_what_is_no_tar_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.tar").write_bytes(content)
    with pytest.raises(DataError, match=r"train\.tar (is damaged or no tar|holds no samples)"):
        open_source(tmp_path / "train.tar")


def _header(name: bytes, size: bytes, kind: bytes) -> bytes:
    """Return a header by hand, for sizes that tarfile does not write."""
    fields = (
        name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size + b"00000000000\0" + b" " * 8 + kind
    )
    block = bytearray((fields + bytes(100) + b"ustar\x0000").ljust(512, b"\0"))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


_NEGATIVE = b"\xff" + struct.pack(">q", -1024).rjust(11, b"\xff")


@pytest.mark.parametrize("kind", [b"0", b"2", b"x", b"L"])
def test_a_negative_size_does_not_lead_backwards_for_ever(tmp_path: Path, kind: bytes) -> None:
    """CVE-2025-8194."""
    file = _tar(tmp_path / "train.tar", _samples(0, 1))
    content = file.read_bytes()[: 4 * 1024]
    file.write_bytes(content + _header(b"x.png", _NEGATIVE, kind) + bytes(2048))
    with pytest.raises(DataError, match=r"is damaged or no tar \(a header declares -1,024 bytes\)"):
        open_source(file)


def test_a_negative_size_in_an_extension_does_not_lead_backwards_for_ever(tmp_path: Path) -> None:
    file = _tar(tmp_path / "train.tar", _samples(0, 1))
    record = b"14 size=-2048\n"
    extension = _header(b"x", b"%011o\0" % len(record), b"x") + record.ljust(512, b"\0")
    file.write_bytes(
        file.read_bytes()[: 4 * 1024] + extension + _header(b"x.png", b"0" * 11 + b"\0", b"0") + bytes(2048)
    )
    with pytest.raises(DataError, match=r"is damaged or no tar \("):
        open_source(file)


def test_an_extension_of_megabytes_is_not_read(tmp_path: Path) -> None:
    """CVE-2024-6232: time that grows with its square."""
    file = _tar(tmp_path / "train.tar", _samples(0, 1))
    extension = _header(b"x", b"%011o\0" % 4_000_000, b"x") + b"1" * 4_000_256
    file.write_bytes(file.read_bytes()[: 4 * 1024] + extension + bytes(2048))
    with pytest.raises(DataError, match=r"is damaged or no tar \(a header declares 4,000,000 bytes\)"):
        open_source(file)


def test_a_chain_of_thousands_of_extensions_is_a_data_error(tmp_path: Path) -> None:
    extension = _header(b"x", b"%011o\0" % 2, b"L") + b"a\0".ljust(512, b"\0")
    (tmp_path / "train.tar").write_bytes(extension * 5_000 + bytes(2048))
    with pytest.raises(DataError, match=r"is damaged or no tar \("):
        open_source(tmp_path / "train.tar")


@given(st.integers(0, 10_239), st.integers(0, 255), st.integers(0, 10_239), st.integers(0, 255))
def test_damaged_headers_give_samples_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int, other: int, length: int
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    file = _tar(folder / "train.tar", _samples(0, 1, 0), tarfile.PAX_FORMAT)
    content = bytearray(file.read_bytes())
    content[place % 6_144] = value
    content[other % 6_144] = length
    file.write_bytes(content)
    with contextlib.suppress(DataError):
        for split in open_source(file).splits.values():
            assert [len(split.read(index).content) for index in range(len(split))]


# -- patterns that are refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [
        "pipe:touch marker",
        "pipe:curl -s http://example.com/train.tar",
        "http://example.com/train-{000..009}.tar",
        "s3://bucket/train.tar",
        "file:///data/train.tar",
        "gs://bucket/x.tar",
    ],
)
def test_commands_and_addresses_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigurationError, match=r"^'.+' is a command or an address; expected tars on this machine; download"
    ):
        open_source(f"shards:{pattern}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        ("", ConfigurationError, r"^nothing stands behind 'shards:'; expected shards:PATH$"),
        (
            "{0..99999999}.tar",
            ConfigurationError,
            r"^\{0\.\.99999999\} is no range; expected up to 1,000,000 asc",
        ),
        ("{9..0}.tar", ConfigurationError, r"^\{9\.\.0\} is no range"),
        (
            "{0..9999}{0..9999}.tar",
            ConfigurationError,
            r"stands for 100,000,000 files; expected at most 1,000,000",
        ),
        (
            "gone-{0..3}.tar",
            DataError,
            r"gone-0\.tar does not exist; expected every tar of gone-\{0\.\.3\}\.tar$",
        ),
        ("gone-*.tar", DataError, r"^no file matches gone-\*\.tar; expected tars such as train-000000\.tar$"),
        ("empty", DataError, r"^empty holds no \.tar files; expected train-000000\.tar and so on$"),
    ],
)
def test_patterns_that_find_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, error: type[Exception], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        open_source(f"shards:{pattern}")


def test_a_missing_tar_of_a_range_is_named(tmp_path: Path) -> None:
    _data(tmp_path)
    with pytest.raises(DataError, match=r"train-000002\.tar does not exist; expected every tar of "):
        open_source(f"shards:{tmp_path}/train-{{000000..000003}}.tar")
