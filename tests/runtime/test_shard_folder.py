"""Folders of shards: begun once, shards whole or not there, shared by processes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.errors import ConfigurationError, DataError, RunError
from deepresidual.runtime.files import cannot_write
from deepresidual.runtime.shard_folder import Manifest, ShardFolder, Share, chosen_shard_size


def a_manifest(num_items: int = 10, shard_size: int = 4, top_k: int = 1) -> Manifest:
    return Manifest("numbers", num_items, shard_size, ".txt", {"top_k": top_k})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@given(num_items=st.integers(0, 200), shard_size=st.integers(1, 50), count=st.integers(1, 20))
def test_every_item_is_in_one_shard_of_one_process(num_items: int, shard_size: int, count: int) -> None:
    manifest = a_manifest(num_items, shard_size)
    items = [
        item
        for index in range(count)
        for number in Share(index, count).numbers(manifest.num_shards)
        for item in manifest.items(number)
    ]
    assert sorted(items) == list(range(num_items))


@given(num_items=st.integers(1, 100_000), count=st.integers(1, 300))
def test_shards_are_chosen_such_that_every_process_has_some(num_items: int, count: int) -> None:
    size = chosen_shard_size(None, num_items, Share(0, count))
    assert 1 <= size <= 4096
    assert a_manifest(num_items, size).num_shards >= min(num_items, count) / 2


@pytest.mark.parametrize(("text", "share"), [("0/1", Share()), ("63/64", Share(63, 64))])
def test_shares_are_counted_from_zero(text: str, share: Share) -> None:
    assert Share.parse(text) == share
    assert share.is_whole == (text == "0/1")


@pytest.mark.parametrize("text", ["", "1", "1/1", "64/64", "-1/2", "a/b", "0/0", "1/2/3", "1.0/2", "0 / 2"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="expected I/N with I from 0 to N − 1, such as"):
        Share.parse(text)


def test_the_first_process_freezes_what_it_was_begun_for(tmp_path: Path) -> None:
    first = ShardFolder.begin(tmp_path / "out", a_manifest(), lambda folder: (folder / "list").touch())
    second = ShardFolder.begin(tmp_path / "out", a_manifest(shard_size=5))
    assert second.manifest == first.manifest == a_manifest_of(tmp_path / "out")
    assert names(tmp_path / "out") == ["_manifest"]
    assert names(tmp_path / "out" / "_manifest") == ["list", "manifest.json"]


def a_manifest_of(folder: Path) -> Manifest:
    found = ShardFolder.find(folder)
    assert found is not None
    return found.manifest


def test_one_that_cannot_be_begun_leaves_no_manifest(tmp_path: Path) -> None:
    def full(_folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RunError, match=r"cannot write \S+/out \(No space left on device; .* bytes are free"):
        ShardFolder.begin(tmp_path / "out", a_manifest(), full)
    assert names(tmp_path / "out") == []
    assert ShardFolder.find(tmp_path / "out") is None


@pytest.mark.parametrize("name", ["photo.jpg", "part-00000.txt", "_SUCCESS"])
def test_a_folder_with_other_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    (tmp_path / "lost+found").mkdir()
    with pytest.raises(ConfigurationError, match=rf"holds other files \(.*{name}.*\); expected an empty"):
        ShardFolder.begin(tmp_path, a_manifest())
    (tmp_path / name).unlink()
    (tmp_path / ".snapshot").mkdir()
    ShardFolder.begin(tmp_path, a_manifest())


def test_a_file_and_too_many_shards_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="file is a file; expected a folder"):
        ShardFolder.begin(tmp_path / "file", a_manifest())
    assert ShardFolder.find(tmp_path / "file") is None
    with pytest.raises(ConfigurationError, match="there would be 200,000 shards; expected 100,000 at"):
        ShardFolder.begin(tmp_path / "out", a_manifest(200_000, 1))


def fill(folder: ShardFolder, number: int, failure: BaseException | None = None) -> None:
    """Write a shard and a file beside it, or half of it before something fails."""
    with folder.writing(number) as path:
        path.write_text("half" if failure else "whole")
        path.with_suffix(".names").write_text("beside")
        if failure:
            raise failure


def test_a_shard_is_whole_or_not_there(tmp_path: Path) -> None:
    folder = ShardFolder.begin(tmp_path, a_manifest())
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(RunError, match=r"cannot write \S+/part-00001.txt \(No space left on device"):
        fill(folder, 1, full)
    wrapped = cannot_write(tmp_path / "hidden", full)
    wrapped.__cause__ = full
    with pytest.raises(RunError, match=r"cannot write \S+/part-00001.txt \(No space left on device"):
        fill(folder, 1, wrapped)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        fill(folder, 1, KeyboardInterrupt("stop"))
    assert names(tmp_path) == ["_manifest"]
    fill(folder, 1)
    assert names(tmp_path) == ["_manifest", "part-00001.names", "part-00001.txt"]
    assert folder.done() == {1}


def test_what_fails_where_another_process_was_faster_is_of_no_account(tmp_path: Path) -> None:
    folder = ShardFolder.begin(tmp_path, a_manifest())
    folder.shard(0).write_text("by another")
    fill(folder, 0, FileNotFoundError(errno.ENOENT, "its folder was swept away"))
    assert folder.shard(0).read_text() == "by another"


def test_the_last_shard_brings_success_and_takes_away_what_was_left(tmp_path: Path) -> None:
    folder = ShardFolder.begin(tmp_path, a_manifest())
    (tmp_path / ".part-00001.txt.0123abcd.tmp").mkdir()
    (tmp_path / ".mine").mkdir()
    for number in (2, 0, 1):
        assert not folder.finish()
        assert not (tmp_path / "_SUCCESS").exists()
        with folder.writing(number) as path:
            path.touch()
    assert folder.finish()
    assert names(tmp_path) == [".mine", "_SUCCESS", "_manifest", *(f"part-0000{n}.txt" for n in range(3))]


def test_what_differs_is_named(tmp_path: Path) -> None:
    folder = ShardFolder.begin(tmp_path / "out", a_manifest())
    folder.require_same("numbers", {"top_k": 1}, shard_size=4, suffix=".txt")
    with pytest.raises(ConfigurationError, match="out holds numbers; expected a folder of letters, or an"):
        folder.require_same("letters", {"top_k": 1})
    with pytest.raises(
        ConfigurationError,
        match=(
            "out was begun with something else: top_k was 1 and is 2, the size of shards was 4 and is 5, "
            "more.b was none and is x; repeat the command that began it, or choose another folder"
        ),
    ):
        folder.require_same("numbers", {"top_k": 2, "more": {"b": "x"}}, shard_size=5)


@pytest.mark.parametrize("content", ["{", "[]", '{"schema_version": 2}', "{}"])
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str) -> None:
    ShardFolder.begin(tmp_path, a_manifest())
    (tmp_path / "_manifest" / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=r"manifest.json is damaged \(.*\); choose another folder"):
        ShardFolder.find(tmp_path)
