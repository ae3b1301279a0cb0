"""A file over several lives of a process: one writes at a time, and what it left the next one continues."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from deepresidual.runtime import partial_file
from deepresidual.runtime.partial_file import PartialFile


def paths(folder: Path) -> tuple[Path, Path]:
    return folder / "file", folder / ".file.incomplete"


def test_what_was_written_and_noted_is_there_for_the_next(tmp_path: Path) -> None:
    with PartialFile(*paths(tmp_path)) as file:
        file.write(b"first ")
        file.note = "of version 1"
    with PartialFile(*paths(tmp_path)) as file:
        assert (file.size, file.note) == (6, "of version 1")
        file.write(b"second")
        file.finish()
    assert (tmp_path / "file").read_bytes() == b"first second"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_note_without_a_file_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / ".file.incomplete.note").write_text("of version 1")
    with PartialFile(*paths(tmp_path)) as file:
        assert file.note == ""


@pytest.mark.parametrize("fails", [False, True])
def test_who_comes_second_waits_and_takes_what_is_there(tmp_path: Path, fails: bool) -> None:
    waits, seen = threading.Event(), list[tuple[bool, int]]()

    def second() -> None:
        with PartialFile(*paths(tmp_path), waits.set) as file:
            seen.append((file.is_there, file.size))

    with PartialFile(*paths(tmp_path)) as file:
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(10)
        file.write(b"whole")
        if not fails:
            file.finish()
    thread.join(10)
    assert seen == [(True, 0) if not fails else (False, 5)]
    assert (tmp_path / ".file.incomplete").exists() is fails


def test_many_at_once_write_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial_file, "_LOOK_SECONDS", 0.001)
    written = list[int]()

    def write() -> None:
        with PartialFile(*paths(tmp_path)) as file:
            if not file.is_there:
                file.write(b"whole")
                time.sleep(0.02)
                file.finish()
                written.append(1)

    threads = [threading.Thread(target=write) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert written == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
