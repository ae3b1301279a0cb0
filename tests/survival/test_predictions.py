"""A folder of predictions whose process was killed goes on, and ends with the rows of one that was not."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from deepresidual.models import save
from tests.suites import short
from tests.survival import plants

if TYPE_CHECKING:
    from deepresidual.models import TorchClassifier
    from tests.commands import Commands

WORDS = ("predict", "model", "photos", "--top-k", "2", "--workers", "0", "--shard-size", "4")


def kill_at_operation() -> None:
    """Arrange for the death of this process, as its environment says."""
    plants.plant({"kill_at_operation": int(os.environ["KILL_AT"])}, Path(os.environ["KILL_IN"]))


@pytest.fixture
def workplace(
    tmp_path: Path, photos: Path, tiny_model: TorchClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder with 15 files, two of them damaged, and a model."""
    monkeypatch.chdir(tmp_path)
    save(tiny_model, "model")
    (photos / "test").rename(photos.parent / "chosen")
    for path in sorted(Path("chosen").rglob("*.png"))[3:13:6]:
        path.write_bytes(path.read_bytes()[:-40])
    photos.rename(photos.parent / "others")
    Path("chosen").rename("photos")


def rows(folder: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder).to_pylist()
    return found


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


@pytest.mark.parametrize("every", short([7, 23], 23))  # operations on files from one kill to the next
def test_killed_at_many_points_and_resumed_the_rows_are_equal(
    workplace: None, commands: Commands, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    assert commands.run(*WORDS, "--out", "whole").code == 3
    whole = rows("whole")
    assert [bool(row["error"]) for row in whole].count(True) == 2
    codes, left = [], set()
    for point in itertools.count(2, every):
        out = f"parts-{point}"
        monkeypatch.setenv("KILL_AT", str(point))
        monkeypatch.setenv("KILL_IN", out)
        codes.append(commands.run(*WORDS, "--out", out, plant=f"{__name__}:kill_at_operation").code)
        shards = [name for name in names(out) if name.startswith("part-")]
        left.add(tuple(shards))
        assert len(shards) == 4 or not (Path(out) / "_SUCCESS").exists()
        resumed = commands.run(*WORDS, "--out", out)
        assert resumed.code == 3, resumed.err
        assert rows(out) == whole
        assert names(out) == names("whole")  # nothing of the killed one is left
        if codes[-1] == 3:
            break
    assert codes.count(-9) >= (10 if every == 7 else 3), codes
    assert len(left) >= (4 if every == 7 else 3)  # the kills lay before, between and behind the shards


def test_processes_that_do_the_same_at_once_do_not_disturb_each_other(
    workplace: None, commands: Commands
) -> None:
    words = [*WORDS[:-1], "1"]
    with Path("said").open("wb") as said:
        stream = said.fileno()
        children = [commands.begin(*words, "--out", "parts", stdout=stream, stderr=stream) for _ in range(3)]
        assert [commands.wait(child) for child in children] == [3, 3, 3], Path("said").read_text()
    assert commands.run(*words, "--out", "whole").code == 3
    assert rows("parts") == rows("whole")
    assert names("parts") == names("whole")
