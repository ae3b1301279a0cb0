"""Which words and paths name which kind of data set."""

from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING

import pytest

from deepresidual.data.source import open_source
from deepresidual.data.source.csv import open_csv
from deepresidual.data.source.folder import open_folder
from deepresidual.data.source.shards.source import open_shards
from deepresidual.errors import DataError, UnknownNameError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "cifr10:x",
            r"^unknown kind of data 'cifr10' \(nearest: cifar10, cifar100\)$",
        ),
        (
            "shard:x",
            r"^unknown kind of data 'shard' \(nearest: shards\)$",
        ),
        (
            "CSV:x",
            r"^unknown kind of data 'CSV' \(nearest: csv, cvat\)$",
        ),
        ("hub:x/y", r"^unknown kind of data 'hub'; expected one of cifar10, .*, …$"),
        ("https://x.org/a", r"^unknown kind of data 'https'"),
    ],
)
def test_an_unknown_word_before_the_colon_gets_the_nearest(data: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        open_source(data)


@pytest.mark.parametrize("data", ["c:/photos", "photos", "./a:b", "/a/b:c"])
def test_paths_are_not_taken_for_kinds(data: str) -> None:
    with pytest.raises(
        DataError,
        match=r" does not exist; expected 'digits', 'digit-scenes', a folder of images by class, a \.",
    ):
        open_source(data)


def test_a_folder_with_a_colon_in_its_name_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "csv:photos").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"^csv:photos holds no images; expected train/CLASS/IMAGE"):
        open_source("csv:photos")


@pytest.mark.parametrize(
    ("files", "opener"),
    [
        (["a.tar"], open_shards),
        (["data/train-0.TAR", "README.md"], open_shards),
        (["cat/a.jpg", "cat/b.tar"], open_folder),
        (["cat/x.tar.gz"], open_folder),
        (["notes.csv"], open_folder),
        (["banner.png", "data/train-0.tar"], open_shards),
        (["banner.png", "train-0.tar"], open_shards),
        ([".cache/a.jpg", ".cache/b.parquet", "__MACOSX/._a.jpg", "data/train-0.tar"], open_shards),
        (["banner.png", "cat/a.jpg"], open_folder),
    ],
)
def test_a_folder_is_what_its_first_files_are(tmp_path: Path, files: list[str], opener: object) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError) as error:  # each kind of empty data set has its own text
        open_source(tmp_path)
    expected = {
        open_shards: "is damaged or no tar (empty file)",
        open_folder: "has no class folders" if "notes.csv" in files else "class",
    }[opener]  # type: ignore[index]
    assert expected in str(error.value)


@pytest.mark.parametrize("name", ["a.parquet", "a.tar", "a.csv", "a"])
def test_a_pipe_is_refused_and_never_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name} is a file; expected a folder of images by class, or a \."):
        open_source(tmp_path / name)


def test_files_are_known_by_their_extension_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "a.CSV").write_text("x")
    with pytest.raises(DataError, match=r"the header \(row 1\) has no column for the path"):
        open_source(tmp_path / "a.CSV")
    with tarfile.open(tmp_path / "a.Tar", "w"):
        pass
    with pytest.raises(
        DataError, match=r"a\.Tar holds no samples; expected an image and a label of the same"
    ):
        open_source(tmp_path / "a.Tar")
    assert open_csv is not None
