"""The benchmark of a folder of photos with commands that do nothing; times themselves are not tested."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from benchmarks import folder
from benchmarks.folder import benchmark_folder
from deepresidual.benchmarks import folder as alone
from deepresidual.benchmarks.folder import Case, Commands, FolderSizes, agreement, cases, read_classes
from deepresidual.errors import RunError

SIZES = FolderSizes(models=("resnet18",), num_photos=3, image_px=32)

# Stands for a command: a class for every photo below a folder, by its place.
_PROGRAM = """
import csv, pathlib, sys
paths, out, shift = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
files = sorted(paths.rglob("*.jpg")) if paths.is_dir() else [paths]
with open(out, "w", newline="") as file:
    rows = [[str(path), f"class {number + shift}"] for number, path in enumerate(files)]
    csv.writer(file).writerows([["path", "class"], *rows])
"""


def command(commands: Commands, shift: int, paths: Path | None = None) -> list[str]:
    """Return a command that writes predictions."""
    return [sys.executable, "-c", _PROGRAM, str(paths or commands.photos), str(commands.out), str(shift)]


@pytest.fixture
def shifts(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Commands that do nothing in place of ours and the script; by what their classes are shifted."""
    found: dict[str, int] = {}

    def of_case(commands: Commands, case: Case) -> list[str]:
        return command(commands, found.get(case.way, 0), commands.files[0] if case.is_photo else None)

    monkeypatch.setattr(Commands, "of_case", of_case)
    monkeypatch.setattr(folder, "_script", lambda commands, _: command(commands, 0))
    return found


def test_both_sides_are_measured_as_commands(shifts: dict[str, int]) -> None:
    pytest.importorskip("torchvision")
    rows = benchmark_folder(repetitions=2, sizes=SIZES).rows
    by_name = {row.name: row for row in rows}
    assert set(by_name) >= {
        "resnet18-torch",
        "resnet18-fp32",
        "photo-fp32",
        "photo-fp32-memory",
        "photo-torch",
    }
    compared = by_name["resnet18-fp32"]
    assert compared.ratio is not None
    assert compared.ratio.count == 2
    assert (compared.details["agreement"], compared.details["photos"]) == (1.0, 3)
    assert set(compared.details["ours"]) == {"wall_s", "cpu_s", "peak_bytes"}
    assert (by_name["photo-fp32"].against, by_name["photo-fp32"].is_met) == ("1.5 s", True)
    memory = by_name["photo-fp32-memory"]
    assert (memory.against, memory.is_met, memory.unit) == ("250 MB", True, "bytes")
    assert by_name["photo-torch"].target is None


def test_sides_that_see_other_classes_are_not_timed(shifts: dict[str, int]) -> None:
    pytest.importorskip("torchvision")
    shifts["fp32"] = 1
    with pytest.raises(
        RunError, match=r"resnet18-fp32 agrees with torchvision's side on 0\.0% of the photos"
    ):
        benchmark_folder(rows=["resnet18-fp32"], repetitions=1, sizes=SIZES)


def test_targets_are_those_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case("resnet50", "fp32")
    for flags, target in ((("avx2", "avx512_vnni"), 3.0), (("avx2",), 1.5), ((), None)):
        monkeypatch.setattr(folder, "telling_flags", lambda flags=flags: flags)
        assert folder._target(case) == target
        assert folder._target(Case("resnet18", "fp32")) is None
        assert folder._target(Case("resnet50", "torch")) is None


def test_commands_are_measured_alone(shifts: dict[str, int], photos: Path) -> None:
    del shifts
    with pytest.raises(RunError, match="0 photos have a class; expected all 63"):
        alone.benchmark_folder(photos, rows=["resnet18-fp32"], repetitions=1, sizes=SIZES)  # they are PNG
    rows = alone.benchmark_folder(rows=["photo-fp32"], repetitions=1, sizes=SIZES).rows
    assert [(row.name, row.reason) for row in rows] == [("photo-fp32", "measured alone")]


def test_what_is_missing_is_named(shifts: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    del shifts
    found = importlib.util.find_spec
    monkeypatch.setattr(folder, "find_spec", lambda name: None if name == "torchvision" else found(name))
    (row,) = benchmark_folder(rows=["resnet18-fp32"], repetitions=1, sizes=SIZES).rows
    assert row.reason == "unmeasured: torchvision is not installed"


def test_commands_are_those_of_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with alone.opened_commands(None, SIZES) as commands:
        monkeypatch.setattr(
            type(commands.exports), "folder", lambda _, model, kind: tmp_path / f"{model}-{kind}"
        )
        words = commands.of_case(cases(SIZES)[1])
        assert words[1:4] == ["-m", "deepresidual", "predict"]
        assert words[4:6] == [str(tmp_path / "resnet18-fp32"), str(commands.photos)]
        assert len(commands.files) == 3


def test_a_photo_without_a_class_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    file.write_text("path,class\na/1.jpg,cat\na/2.jpg,\n")
    with pytest.raises(RunError, match="1 photos have a class; expected all 2"):
        read_classes(file, 2)
    file.write_text("path,class\na/1.jpg,cat\na/2.jpg,dog\n")
    assert agreement(read_classes(file, 2), {"1.jpg": "cat", "2.jpg": "cat"}) == 0.5


# -- the whole, with real commands ---------------------------------------------------------------------------


@pytest.mark.test_all  # seven processes that load networks
def test_real_commands_agree() -> None:
    pytest.importorskip("torchvision")
    (row,) = benchmark_folder(rows=["resnet18-fp32"], repetitions=1, sizes=SIZES).rows
    assert row.ratio is not None
    assert row.details["agreement"] == 1.0
