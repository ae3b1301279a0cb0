"""A checkpoint with any file damaged is passed over with a warning, or an error if it was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from deepresidual.errors import ModelFileError
from deepresidual.training.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from tests.survival.system_calls import a_checkpoint, said_by

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = (
    "average.safetensors",
    "manifest.json",
    "network.safetensors",
    "optimizer.safetensors",
    "state.json",
)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])  # of the manifest more than the line feed behind it


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"}")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def remove(path: Path) -> None:
    path.unlink()


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Two checkpoints, of steps 1 and 2."""
    for step in (1, 2):
        save_checkpoint(tmp_path / "checkpoints", a_checkpoint(step, step))
    assert sorted(path.name for path in (tmp_path / "checkpoints" / "step-2").iterdir()) == list(FILES)
    return tmp_path / "checkpoints"


@pytest.mark.parametrize(
    "harm", [cut, empty, lengthen, flip, remove, replace_by_a_folder], ids=lambda harm: harm.__name__
)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_an_error_where_it_is_asked_for_and_passed_over_with_a_warning_else(
    checkpoints: Path, name: str, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    harm(checkpoints / "step-2" / name)
    with pytest.raises(ModelFileError, match=r"checkpoint \S+/step-2 cannot be used \(.+\)"):
        load_checkpoint(checkpoints / "step-2")
    newest = newest_checkpoint(checkpoints)
    assert newest is not None
    assert said_by(newest[1]) == (1, 1.0)
    assert "step-2 cannot be used" in capsys.readouterr().err


@pytest.mark.parametrize("name", FILES)
def test_no_flipped_byte_changes_what_is_loaded(checkpoints: Path, name: str) -> None:
    path = checkpoints / "step-2" / name
    content = path.read_bytes()
    refused = 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            loaded = load_checkpoint(checkpoints / "step-2")
        except ModelFileError:
            refused += 1
        else:  # the manifest has blanks, and the number of its format
            assert said_by(loaded) == (2, 2.0), place
            assert name == "manifest.json"
    assert refused > 0.7 * len(content)
    assert name == "manifest.json" or refused == len(content)


def test_two_damaged_checkpoints_leave_none(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (1, 2):
        flip(checkpoints / f"step-{step}" / "network.safetensors")
    assert newest_checkpoint(checkpoints) is None
    said = capsys.readouterr().err
    assert said.index("step-2 cannot be used") < said.index("step-1 cannot be used")
