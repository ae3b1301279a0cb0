"""Writing: the old content or the new, never half of one, and errors that name the path."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from deepresidual.errors import RunError
from deepresidual.runtime import files
from deepresidual.runtime.files import (
    FolderLock,
    atomic_file,
    atomic_folder,
    expanded,
    make_folder,
    write_bytes,
    write_json,
    write_tensors,
    write_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def _listing(folder: Path) -> dict[str, str]:
    """Return every file below ``folder`` with its text."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _names(folder: Path) -> list[str]:
    """Return the names in ``folder``, hidden ones included."""
    return sorted(path.name for path in folder.iterdir())


def _disk_full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# -- files -----------------------------------------------------------------------------------------------


def test_bytes_are_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    for content in (b"", b"first", b"\0\xff second"):
        write_bytes(path, content)
        assert path.read_bytes() == content
    assert _names(tmp_path) == ["file.bin"]


def test_a_file_that_grows_is_there_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    write_bytes(path, b"old")
    with atomic_file(path) as file:
        for number in range(3):
            file.write(b"%d\n" % number)
            assert path.read_bytes() == b"old"
    assert _listing(tmp_path) == {"rows.csv": "0\n1\n2\n"}


def test_a_file_that_is_not_finished_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.csv"
    write_bytes(path, b"old")

    def stopped() -> None:
        with atomic_file(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert _listing(tmp_path) == {"rows.csv": "old"}
    monkeypatch.setattr(os, "fsync", _disk_full)
    with (
        pytest.raises(RunError, match=r"cannot write .*rows\.csv \(No space left on device; [\d,]+ bytes"),
        atomic_file(path) as file,
    ):
        file.write(b"new")
    assert _listing(tmp_path) == {"rows.csv": "old"}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.bin"
    write_bytes(path, b"old")
    monkeypatch.setattr(os, "fsync", _disk_full)
    with pytest.raises(
        RunError,
        match=r"cannot write .*file\.bin \(No space left on device; it needs 3 bytes, [\d,]+ bytes are free",
    ):
        write_bytes(path, b"new")
    assert _listing(tmp_path) == {"file.bin": "old"}


def test_the_new_content_is_whole_before_the_name_points_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.bin"
    write_bytes(path, b"old")
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(os, "fsync", lambda _descriptor: seen.append(_listing(tmp_path)))
    write_bytes(path, b"new")
    # first the file is flushed, then the folder that holds its name
    assert seen == [{"file.bin": "old", ".file.bin.tmp": "new"}, {"file.bin": "new"}]


def test_what_a_crash_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".file.bin.tmp").write_bytes(b"half of a fi")
    write_bytes(tmp_path / "file.bin", b"new")
    assert _listing(tmp_path) == {"file.bin": "new"}


def test_text_is_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "Füße\n猫")
    assert (tmp_path / "text").read_bytes() == "Füße\n猫".encode()


def test_json_is_indented_and_ends_with_a_line_feed(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"name": "猫", "values": [1, 2.5]})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert text == '{\n  "name": "猫",\n  "values": [\n    1,\n    2.5\n  ]\n}\n'
    assert json.loads(text) == {"name": "猫", "values": [1, 2.5]}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_know_are_refused_and_the_old_file_stays(
    tmp_path: Path, value: float
) -> None:
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(ValueError, match=r"not JSON compliant"):
        write_json(tmp_path / "x.json", {"loss": value})
    assert _listing(tmp_path) == {"x.json": "1\n"}


def test_a_file_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("stays")
    with pytest.raises(RunError, match=r"cannot write .*plain/inner \(Not a directory\)"):
        write_bytes(tmp_path / "plain" / "inner", b"")
    assert _listing(tmp_path) == {"plain": "stays"}


def test_a_file_cannot_take_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_text("stays")
    with pytest.raises(RunError, match=r"cannot write .*folder \(Is a directory\)"):
        write_bytes(tmp_path / "folder", b"new")
    assert _listing(tmp_path) == {"folder/inner": "stays"}


# -- folders ---------------------------------------------------------------------------------------------


def test_a_folder_is_made_with_its_parents_and_left_empty(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


@pytest.mark.parametrize("below", ["plain", "plain/inner", "plain/inner/deeper"])
def test_a_folder_cannot_be_made_at_or_below_a_file(tmp_path: Path, below: str) -> None:
    (tmp_path / "plain").write_text("stays")
    with pytest.raises(
        RunError,
        match=rf"cannot write {tmp_path / below} \((File exists|Not a directory)\)",
    ):
        make_folder(tmp_path / below)
    assert _listing(tmp_path) == {"plain": "stays"}


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "model"
    with atomic_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("A")
        write_text(folder / "b", "B")
        assert not target.exists()
    assert _listing(tmp_path) == {"deep/model/sub/a": "A", "deep/model/b": "B"}


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for text in ("one", "two", "three"):
        with atomic_folder(target) as folder:
            assert list(folder.iterdir()) == []
            (folder / f"only-in-{text}").write_text(text)
            (folder / "both").write_text(text)
    assert _listing(tmp_path) == {"model/only-in-three": "three", "model/both": "three"}
    assert _names(tmp_path) == ["model"]


def _replace(target: Path, text: str, then: Callable[[], None] = lambda: None) -> None:
    """Write a folder of one file; ``then`` happens inside the block."""
    with atomic_folder(target) as folder:
        (folder / "file").write_text(text)
        then()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, RunError])
def test_an_exception_leaves_the_old_folder_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def stop() -> None:
        raise error("stop")

    _replace(tmp_path / "model", "old")
    with pytest.raises(error, match=r"^stop$"):
        _replace(tmp_path / "model", "new", stop)
    assert _listing(tmp_path) == {"model/file": "old"}
    assert _names(tmp_path) == ["model"]


def test_an_exception_leaves_no_folder_where_there_was_none(tmp_path: Path) -> None:
    def stop() -> None:
        raise ValueError("stop")

    with pytest.raises(ValueError, match=r"^stop$"):
        _replace(tmp_path / "model", "new", stop)
    assert _names(tmp_path) == []


def test_a_full_disk_leaves_the_old_folder_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _replace(tmp_path / "model", "old")
    monkeypatch.setattr(os, "fsync", _disk_full)
    with pytest.raises(
        RunError, match=r"cannot write .*model \(No space left on device; [\d,]+ bytes are free"
    ):
        _replace(tmp_path / "model", "new")
    assert _listing(tmp_path) == {"model/file": "old"}
    assert _names(tmp_path) == ["model"]


def test_what_a_crash_left_beside_a_folder_is_cleared(tmp_path: Path) -> None:
    for leftover in (".model.tmp", ".model.old"):
        (tmp_path / leftover).mkdir()
        (tmp_path / leftover / "half").write_text("half")
    with atomic_folder(tmp_path / "model") as folder:
        assert list(folder.iterdir()) == []
        (folder / "file").write_text("new")
    assert _listing(tmp_path) == {"model/file": "new"}


@pytest.mark.parametrize("below", ["plain/model", "plain/deep/model"])
def test_a_folder_below_a_file_cannot_be_written(tmp_path: Path, below: str) -> None:
    (tmp_path / "plain").write_text("stays")
    with (
        pytest.raises(
            RunError,
            match=rf"cannot write {tmp_path / below} \(.+\); choose another folder",
        ),
        atomic_folder(tmp_path / below),
    ):
        pytest.fail("the block must not be entered")
    assert _listing(tmp_path) == {"plain": "stays"}


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_folder_takes_the_place_of_what_is_no_folder_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    here, target = tmp_path / "here", tmp_path / "here" / "model"
    here.mkdir()
    if kind == "file":
        target.write_text("a file")
    else:
        (tmp_path / "elsewhere").mkdir()
        target.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    # Twice: what the first replacement leaves behind may stop the second.
    _replace(target, "one")
    _replace(target, "two")
    assert _listing(target) == {"file": "two"}
    assert _names(here) == ["model"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o007, 0o077])
def test_tensors_are_readable_for_whom_any_new_file_is(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_tensors(tmp_path / "model.safetensors", {"weight": torch.zeros(3)})
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_tilde_is_the_home_folder_unless_a_file_has_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert expanded("~/pets") == tmp_path / "home" / "pets"
    assert expanded("~") == tmp_path / "home"
    assert expanded("pets/~") == Path("pets/~")
    assert expanded("~no-such-user/pets") == Path("~no-such-user/pets")
    (tmp_path / "~").mkdir()
    (tmp_path / "~no-such-user").mkdir()
    assert expanded("~") == Path("~")
    assert expanded(Path("~no-such-user")) == Path("~no-such-user")


# -- file systems that lack something --------------------------------------------------------------------


@pytest.fixture
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a warning that comes once a process come in this test."""
    monkeypatch.setattr(files, "_SAID", set())


def failing_for_folders(code: int) -> Callable[[int], None]:
    """Return an ``os.fsync`` that fails with ``code`` where a folder is flushed."""
    flush = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        flush(descriptor)

    return fsync


@pytest.mark.usefixtures("nothing_said")
@pytest.mark.parametrize(
    "code",
    [errno.EINVAL, errno.EACCES, errno.EBADF, errno.ENOTSUP, errno.ENOSYS, errno.EPERM],
    ids=errno.errorcode.get,
)
def test_a_file_system_that_cannot_flush_folders_is_said_once_and_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    monkeypatch.setattr(os, "fsync", failing_for_folders(code))
    write_bytes(tmp_path / "file", b"new")
    with atomic_file(tmp_path / "rows") as file:
        file.write(b"rows")
    _replace(tmp_path / "model", "one")
    _replace(tmp_path / "model", "two")
    assert _listing(tmp_path) == {"file": "new", "rows": "rows", "model/file": "two"}
    said = capsys.readouterr().err
    assert said.count("warning: the file system cannot flush") == 1
    assert f"({os.strerror(code)}); a power failure may cost the newest files" in said


@pytest.mark.usefixtures("nothing_said")
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
def test_a_disk_that_is_broken_or_full_stays_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(os, "fsync", failing_for_folders(code))
    with pytest.raises(RunError, match=rf"cannot write .*file \({os.strerror(code)}"):
        write_bytes(tmp_path / "file", b"new")
    with pytest.raises(RunError, match=rf"cannot write .*model \({os.strerror(code)}"):
        _replace(tmp_path / "model", "new")
    assert _names(tmp_path) == ["file"]  # the rename came before


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.usefixtures("nothing_said")
@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.EINVAL], ids=errno.errorcode.get)
def test_tensors_are_written_where_permissions_cannot_be_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    def chmod(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "chmod", chmod)
    for name in ("one", "two"):
        write_tensors(tmp_path / name, {"weight": torch.zeros(3)})
    assert _names(tmp_path) == ["one", "two"]
    assert capsys.readouterr().err.count("warning: the file system cannot set permissions") == 1


# -- locks -----------------------------------------------------------------------------------------------

fcntl = pytest.importorskip("fcntl", reason="locks are POSIX's")


def failing_lock(code: int, *, folders_only: bool = False) -> Callable[[int, int], None]:
    """Return a ``fcntl.flock`` that fails with ``code``."""
    flock = fcntl.flock

    def fail(descriptor: int, operation: int) -> None:
        if folders_only and not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            flock(descriptor, operation)
            return
        raise OSError(code, os.strerror(code))

    return fail


def test_a_folder_is_held_by_one_and_free_again_after_it(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path)
    with pytest.raises(BlockingIOError, match=str(tmp_path)):
        FolderLock(tmp_path)
    lock.release()
    FolderLock(tmp_path).release()
    assert _names(tmp_path) == []


@pytest.mark.usefixtures("nothing_said")
@pytest.mark.parametrize(
    "code",
    [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL, errno.EBADF],
    ids=errno.errorcode.get,
)
def test_a_file_system_without_locks_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing_lock(code))
    for _ in range(2):
        FolderLock(tmp_path).release()
    said = capsys.readouterr().err
    assert said.count("has no locks") == 1
    assert f"{os.strerror(code)}); see that no other process writes there" in said
    assert _names(tmp_path) == []


@pytest.mark.usefixtures("nothing_said")
def test_a_file_is_locked_where_a_folder_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # NFS turns a lock of a whole file into one of its bytes, for which the file must be open for writing.
    monkeypatch.setattr(fcntl, "flock", failing_lock(errno.EBADF, folders_only=True))
    lock = FolderLock(tmp_path)
    with pytest.raises(BlockingIOError, match=str(tmp_path)):
        FolderLock(tmp_path)
    lock.release()
    FolderLock(tmp_path).release()
    assert capsys.readouterr().err == ""


def test_a_lock_that_fails_for_another_reason_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing_lock(errno.EIO))
    with pytest.raises(RunError, match=r"cannot write .* \(Input/output error\)"):
        FolderLock(tmp_path)
