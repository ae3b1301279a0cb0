"""Files of a data set: what is passed over, which split a name says, which parts are missing."""

from __future__ import annotations

import errno
import io
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.base import IgnoredFile
from deepresidual.data.source.files import data_files, files_by_split, split_in_name, split_of_file, walk
from deepresidual.errors import DataError
from tests.data.pictures import encode, noise
from tests.data.splits import smallest_hashes

if TYPE_CHECKING:
    from collections.abc import Iterable

_PNG = encode(noise(4, 5), "PNG")
_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 46830571\n".encode()
_KINDS = ("parquet", "tar")


def _touch(root: Path, *names: str) -> list[Path]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return sorted(root / name for name in names)


def _write(path: Path, first: int = 0, count: int = 4) -> Path:
    """Write a parquet file or a tar of pictures of two classes, as its ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = range(first, first + count)
    if path.suffix == ".parquet":
        images = [{"bytes": _PNG, "path": f"{number:04}.png"} for number in numbers]
        pq.write_table(pa.table({"image": images, "label": [number % 2 for number in numbers]}), path)
        return path
    with tarfile.open(path, "w") as archive:
        for number in numbers:
            for name, content in (
                (f"{number:04}.png", _PNG),
                (f"{number:04}.cls", str(number % 2).encode()),
            ):
                header = tarfile.TarInfo(name)
                header.size = len(content)
                archive.addfile(header, io.BytesIO(content))
    return path


def _sizes(source: SampleSource) -> dict[str, int]:
    return {name: len(split) for name, split in source.splits.items()}


def _lock(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make every folder called ``name`` one that may not be read; permissions do not stop root."""
    scandir = os.scandir

    def locked(path: str | Path) -> object:
        if Path(path).name == name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)


# -- splits in names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-000000.tar", "train"),
        ("imagenet-train-0000.tar", "train"),
        ("imagenet-val-0000.tar", "val"),
        ("train_part1.parquet", "train"),
        ("my-validation.parquet", "val"),
        ("pets.valid.parquet", "val"),
        ("pets dev 01.tar", "val"),
        ("train2017.tar", "train"),
        ("2017val.tar", "val"),
        ("pets_TEST(2).parquet", "test"),
        ("pets-testing.tar", "test"),
        ("train-of-the-test-bench.tar", "train"),  # the beginning counts before all others
        ("retraining.tar", None),
        ("trainer-0.tar", None),
        ("contest-0.tar", None),
        ("evaluation-0.tar", None),
        ("trainval.tar", None),
        ("0000.parquet", None),
    ],
)
def test_a_split_is_a_word_of_its_own_in_the_name(tmp_path: Path, name: str, split: str | None) -> None:
    assert split_in_name(name) == split
    assert split_of_file(tmp_path / name, tmp_path) == split


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train/0.tar", "train"),
        ("imagenet-val/0.tar", "val"),
        ("val2017/0.tar", "val"),
        ("train/deep/0.tar", "train"),
        ("val/train/0.tar", "train"),  # the nearest folder
        ("train/my-data/val-0.tar", "val"),  # the name begins with it
        ("train/pets-train-0.tar", "train"),
        ("my-test-set/train/0.tar", "train"),
        ("retraining/0.tar", None),
    ],
)
def test_a_folder_above_may_say_the_split(tmp_path: Path, name: str, split: str | None) -> None:
    assert split_of_file(tmp_path / name, tmp_path) == split


def test_a_name_that_says_two_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"^the name 'my-train-val-0\.tar' says both train and val; rename it"
    ):
        split_in_name("my-train-val-0.tar")
    with pytest.raises(
        DataError,
        match=r"pets-val-0\.tar says val in its name and lies in a folder for train; rename or move",
    ):
        split_of_file(tmp_path / "train" / "pets-val-0.tar", tmp_path)


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize(
    ("train", "other", "split"),
    [
        ("imagenet-train-0000", "imagenet-val-0000", "val"),
        ("train_part1", "my-validation", "val"),
        ("train2017", "test2017", "test"),
        ("set-a-train/0000", "set-a-dev/0000", "val"),
    ],
)
def test_words_inside_names_are_splits_and_never_one_pool(
    tmp_path: Path, kind: str, train: str, other: str, split: str
) -> None:
    _write(tmp_path / f"{train}.{kind}", count=6)
    _write(tmp_path / f"{other}.{kind}", first=50)
    source = open_source(tmp_path)
    assert _sizes(source) == {"train": 6, split: 4}
    assert source.held_out == ""


@pytest.mark.parametrize("kind", _KINDS)
def test_some_names_with_and_some_without_a_split_are_refused(tmp_path: Path, kind: str) -> None:
    _touch(tmp_path, f"imagenet-val-0000.{kind}", f"imagenet-0000.{kind}")
    with pytest.raises(
        DataError,
        match=rf"imagenet-0000\.{kind} does not say which split it belongs to, "
        rf"and imagenet-val-0000\.{kind} does; expected the word train, val or test in every name or in "
        r"none; rename it$",
    ):
        open_source(tmp_path)


# -- what is passed over ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", _KINDS)
def test_hidden_files_and_litter_are_passed_over_in_every_kind_of_data(tmp_path: Path, kind: str) -> None:
    _write(tmp_path / f"train.{kind}", count=6)
    _write(tmp_path / "data" / f"test.{kind}")
    junk = b"\0\5\x16\7" + bytes(100)
    for name in (f"._train.{kind}", f"__MACOSX/train.{kind}", f".cache/train.{kind}", "data/Thumbs.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(junk)
    _write(tmp_path / ".ipynb_checkpoints" / f"train-checkpoint.{kind}")
    source = open_source(tmp_path)
    assert _sizes(source) == {"train": 6, "test": 4}
    assert source.ignored == ()


@pytest.mark.parametrize("kind", [*_KINDS, "png"])
def test_a_hidden_folder_with_data_in_it_is_named(tmp_path: Path, kind: str) -> None:
    if kind == "png":
        for place in ("cat", "dog", ".emu", "cat/.more/deep"):
            for number in range(40):
                (tmp_path / "train" / place).mkdir(parents=True, exist_ok=True)
                (tmp_path / "train" / place / f"{number:03}.png").write_bytes(_PNG)
    else:
        _write(tmp_path / "train" / f"0.{kind}", count=80)
        _write(tmp_path / "train" / ".emu" / f"0.{kind}")
        _write(tmp_path / "train" / "cat" / ".more" / "deep" / f"0.{kind}")
    (tmp_path / "train" / ".empty").mkdir()
    source = open_source(tmp_path)
    assert _sizes(source) == {"train": 80}
    assert set(source.ignored) == {
        IgnoredFile(f"train/{name}/", "a hidden folder; rename it to use what is in it")
        for name in (".emu", "cat/.more")
    }


def test_a_hidden_folder_that_a_system_keeps_to_itself_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "train.tar")
    (tmp_path / ".Trash-0").mkdir()
    _lock(monkeypatch, ".Trash-0")
    assert open_source(tmp_path).ignored == ()


@pytest.mark.parametrize("kind", _KINDS)
def test_links_and_pipes_are_named_and_do_not_hang(tmp_path: Path, kind: str) -> None:
    _write(tmp_path / "data" / f"train.{kind}")
    _write(tmp_path / "elsewhere" / f"train-2.{kind}")
    root = tmp_path / "data"
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "more").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / f"train-3.{kind}").symlink_to(tmp_path / "nowhere")
    (root / f"train-4.{kind}").symlink_to(root / f"train-4.{kind}")
    os.mkfifo(root / f"train-5.{kind}")
    source = open_source(root)
    assert _sizes(source) == {"train": 4}
    assert {file.path: file.reason for file in source.ignored} == {
        "loop/": "a link to a folder, which is not followed",
        "more/": "a link to a folder, which is not followed",
        f"train-3.{kind}": "not a regular file",
        f"train-4.{kind}": "not a regular file",
        f"train-5.{kind}": "not a regular file",
    }


@pytest.mark.parametrize("kind", _KINDS)
def test_endings_count_in_any_case(tmp_path: Path, kind: str) -> None:
    _write(tmp_path / f"train.{kind}").rename(tmp_path / f"TRAIN.{kind.upper()}")
    assert _sizes(open_source(tmp_path)) == {"train": 4}


@pytest.mark.parametrize("kind", _KINDS)
def test_a_file_that_is_reached_twice_counts_once(tmp_path: Path, kind: str) -> None:
    _write(tmp_path / "data" / f"train-0.{kind}")
    (tmp_path / f"train-0.{kind}").symlink_to(tmp_path / "data" / f"train-0.{kind}")
    # In another split it is another sample: what is measured is to be said by 'check', not dropped here.
    (tmp_path / f"test-0.{kind}").symlink_to(tmp_path / "data" / f"train-0.{kind}")
    source = open_source(tmp_path)
    assert _sizes(source) == {"train": 4, "test": 4}
    assert source.ignored == (
        IgnoredFile(f"train-0.{kind}", f"the same file as data/train-0.{kind}, which counts once"),
    )


@pytest.mark.parametrize("pattern", ["{train-*,train-0}.tar", "train-{0..1}*.tar", "{train-0,./train-*}.tar"])
def test_a_pattern_that_gives_a_tar_twice_gives_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    for number in range(2):
        _write(tmp_path / f"train-{number}.tar", first=4 * number)
    monkeypatch.chdir(tmp_path)
    assert _sizes(open_source(f"shards:{pattern}")) == {"train": 8}


def test_brackets_of_a_folder_stand_for_themselves_in_a_pattern(tmp_path: Path) -> None:
    _write(tmp_path / "pets [v2]" / "train-0.tar")
    _write(tmp_path / "pets v" / "train-0.tar")
    assert _sizes(open_source(f"shards:{tmp_path}/pets [v2]/train-*.tar")) == {"train": 4}
    assert _sizes(open_source(f"shards:{tmp_path}/pets*[v]/train-*.tar")) == {"train": 4}


# -- what cannot be read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["cat", "cat/more", "cat/more/deep"])
@pytest.mark.parametrize("kind", [*_KINDS, "png"])
def test_a_folder_that_cannot_be_read_is_an_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, place: str
) -> None:
    for number in range(40):
        for folder in (place, "dog"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / f"{number}.{kind}").write_bytes(_PNG)
    (tmp_path / "cat" / f"0.{kind}").touch()
    _lock(monkeypatch, Path(place).name)
    with pytest.raises(DataError, match=rf"/{place} cannot be read \(Permission denied\); give yourself the"):
        open_source(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_the_right_to_read_it_is_named(tmp_path: Path) -> None:
    _write(tmp_path / "data" / "train.tar")
    (tmp_path / "data").chmod(0)
    try:
        with pytest.raises(DataError, match=r"data cannot be read \(Permission denied\)"):
            open_source(tmp_path)
    finally:
        (tmp_path / "data").chmod(0o700)


def test_an_error_of_the_system_in_opening_is_a_data_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"cannot be read \(File name too long\)$"):
        open_source(str(tmp_path / ("x" * 5000)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("~no-such-user", r"^~no-such-user does not exist; expected 'digits'"),
        ("~no-such-user/pets", r"^~no-such-user/pets does not exist"),
        ("csv:~no-such-user", r"^~no-such-user cannot be read \(No such file or directory\)$"),
        ("shards:~no-such-user", r"^~no-such-user does not exist"),
        ("shards:~no-such-user/*.tar", r"^no file matches ~no-such-user/\*\.tar"),
        ("cifar10:~no-such-user", r"^~no-such-user does not exist"),
    ],
)
def test_the_home_of_an_unknown_user_does_not_exist(data: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(data)


def test_the_home_folder_is_found_by_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _write(tmp_path / "pets" / "train-0.tar")
    for data in ("~/pets", "~/pets/train-0.tar", "shards:~/pets", "shards:~/pets/train-{0..0}.tar"):
        assert _sizes(open_source(data)) == {"train": 4}


def test_the_walk_goes_from_the_top_in_the_order_of_names(tmp_path: Path) -> None:
    _touch(tmp_path, "b/x", "a/2/x", "a/1/x", "a/z", "c")
    assert [listing.folder.relative_to(tmp_path).as_posix() for listing in walk(tmp_path)] == [
        *(".", "a", "a/1", "a/2", "b")
    ]
    assert [path.relative_to(tmp_path).as_posix() for path in data_files(tmp_path, ("x", "z", "c"), [])] == [
        *("a/1/x", "a/2/x", "a/z", "b/x", "c")
    ]


# -- parts -----------------------------------------------------------------------------------------------


def _open_parts(root: Path, names: Iterable[str]) -> None:
    files_by_split(root, _touch(root, *names), [], complete=True)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["train-00000-of-00003", "train-00002-of-00003"],
            r"lacks 1 of 3 parts \(train-00001-of-00003\); copy",
        ),
        (["train-00001-of-00003", "train-00002-of-00003"], r"lacks 1 of 3 parts \(train-00000-of-00003\)"),
        (["train-00000-of-00003"], r"lacks 2 of 3 parts \(train-00001-of-00003, train-00002-of-00003\)"),
        (["train-1-of-3", "train-3-of-3"], r"lacks 1 of 3 parts \(train-2-of-3\)"),  # counted from 1
        (["train_1of3", "train_3of3"], r"lacks 1 of 3 parts \(train_2of3\)"),
        (["train.00.of.02"], r"lacks 1 of 2 parts \(train\.01\.of\.02\)"),
        (["train-00000-of-00002-0a1b"], r"lacks 1 of 2 parts \(train-00001-of-00002\)"),
        (["train-0-of-999999999"], r"lacks 999999998 of 999999999 parts \(train-1-of-999999999, .*, …\)"),
        (
            ["train-0-of-2", "train-1-of-5"],
            r"has parts of 2 and of 5 \(train-0-of-2\.tar, train-1-of-5\.tar\)",
        ),
        (["train-0-of-2", "train-00-of-02"], r"has part 0 of 2 twice \(.+, .+\); keep one$"),
        (["train-0-of-2-aa", "train-0-of-2-bb", "train-1-of-2-cc"], r"has part 0 of 2 twice"),
        (
            ["train-0-of-2", "train-7-of-2"],
            r"train-7-of-2\.tar says that it is part 7 of 2; expected parts 0 to 1",
        ),
        (["train-0-of-1", "test-1-of-2"], r"lacks 1 of 2 parts \(test-0-of-2\)"),
        (["train/a-0-of-1", "test/a-1-of-2"], r"/test lacks 1 of 2 parts \(a-0-of-2\)"),
    ],
)
def test_a_part_that_is_missing_is_named(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _open_parts(tmp_path, [f"{name}.tar" for name in names])


@pytest.mark.parametrize(
    "names",
    [
        ["train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"],
        ["train-1-of-2", "train-2-of-2"],
        ["train-00000-of-00002-0a1b2c3d", "train-00001-of-00002-4e5f6a7b"],
        ["train/a-0-of-1", "test/a-0-of-1"],
        ["train-000000", "train-000007"],  # no total is said
        ["train-best-of-2019-1"],
    ],
)
def test_all_parts_are_there(tmp_path: Path, names: list[str]) -> None:
    _open_parts(tmp_path, [f"{name}.tar" for name in names])


@pytest.mark.parametrize("kind", _KINDS)
def test_a_folder_without_one_of_its_parts_is_refused_and_a_file_alone_is_not(
    tmp_path: Path, kind: str
) -> None:
    path = _write(tmp_path / f"train-00000-of-00002.{kind}")
    with pytest.raises(
        DataError, match=r"lacks 1 of 2 parts \(train-00001-of-00002\); copy what is missing, or"
    ):
        open_source(tmp_path)
    assert _sizes(open_source(path)) == {"train": 4}
    if kind == "tar":
        assert _sizes(open_source(f"shards:{tmp_path}/train-{{00000..00000}}-of-00002.tar")) == {"train": 4}
        with pytest.raises(DataError, match=r"lacks 1 of 2 parts"):
            open_source(f"shards:{tmp_path}/train-*.tar")


# -- pointers of Git LFS ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train.parquet", "train.tar", "train.csv", "photos.zip"])
@pytest.mark.parametrize("alone", [False, True])
def test_a_pointer_in_place_of_the_data_is_named_with_the_remedy(
    tmp_path: Path, name: str, alone: bool
) -> None:
    (tmp_path / name).write_bytes(_POINTER)
    with pytest.raises(
        DataError, match=rf"{name} is a Git LFS pointer instead of the file itself; run 'git lfs pull'"
    ):
        open_source(tmp_path / name if alone or name in ("train.csv", "photos.zip") else tmp_path)


def test_an_archive_of_cifar_that_is_a_pointer_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(_POINTER)
    with pytest.raises(
        DataError, match=r"cifar-10-python\.tar\.gz is a Git LFS pointer .+; run 'git lfs pull'"
    ):
        open_source(f"cifar10:{path}")


# -- names that do not divide ----------------------------------------------------------------------------


def test_images_that_are_all_called_alike_are_divided_by_their_path(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for number in range(40):
            (tmp_path / name / f"{number:03}").mkdir(parents=True)
            (tmp_path / name / f"{number:03}" / "image.png").write_bytes(_PNG)
    source = open_source(tmp_path)
    assert sum(_sizes(source).values()) == 80
    for name in ("cat", "dog"):
        paths = [f"{name}/{number:03}/image.png" for number in range(40)]
        split = source.splits["test"]
        test = {split.key(index) for index in range(len(split))}
        assert test & set(paths) == smallest_hashes(paths)
