"""Several seeds: the figures are those of the runs, and a half-done series goes on."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from deepresidual.cli import main
from deepresidual.errors import ConfigurationError
from deepresidual.training.options import TrainOptions
from deepresidual.training.seeds import SeedsResult, train_seeds
from tests.training.parts import a_start, record_of, stop_after

pytestmark = pytest.mark.usefixtures("no_report")

TOP1 = (0.90, 0.94, 0.91, 0.95, 0.80)


def a_result(top1: tuple[float, ...] = TOP1, exit_code: int = 0) -> SeedsResult:
    return SeedsResult(Path("runs"), tuple(range(3, 3 + len(top1))), top1, "test", exit_code)


def test_the_figures_are_those_of_the_papers() -> None:
    figures = a_result().to_dict()
    assert figures["median"] == 0.91
    assert figures["mean"] == pytest.approx(0.90)
    assert figures["std"] == pytest.approx(statistics.stdev(TOP1))
    assert figures["best"] == 0.95
    assert (figures["seeds"], figures["top1"]) == ([3, 4, 5, 6, 7], list(TOP1))


def test_people_read_errors_in_per_cent() -> None:
    text = a_result().to_text()
    assert "seed 4: test top-1 94.00%" in text
    assert "top-1 error: median 9.00%, mean 10.00% ± 5.96%, best 5.00% of 5 runs" in text


def test_of_detectors_people_read_ap() -> None:
    result = SeedsResult(Path("runs"), (3, 4), (0.3, 0.5), "test", figure="ap")
    assert "seed 4: test AP 50.00%" in result.to_text()
    assert "AP: median 40.00%, mean 40.00% ± 14.14%, best 50.00% of 2 runs" in result.to_text()
    assert result.to_dict()["ap"] == [0.3, 0.5]


def test_one_run_has_no_deviation() -> None:
    figures = a_result((0.9,)).to_dict()
    assert (figures["median"], figures["std"]) == (0.9, None)
    assert "median" not in a_result((0.9,)).to_text()


def test_no_run_has_no_figures() -> None:
    result = a_result((), exit_code=130)
    assert {"median", "mean", "std", "best"}.isdisjoint(result.to_dict())
    assert "interrupted; go on with the same command and --resume --out runs" in result.to_text()


def series(photos: Path, out: Path | None, **options: Any) -> SeedsResult:
    start = photos.parent / "start"
    if not start.exists():
        a_start(start)
    usual = TrainOptions(
        weights=start,
        recipe="cifar",
        changes={"epochs": 1.0, "batch_size": 10},
        seed=5,
        num_workers=0,
        precision="fp32",
    )
    options = {"num_seeds": 3, **options}
    return train_seeds(photos, None, out, usual, **options)


def test_the_figures_equal_those_in_the_runs(photos: Path, tmp_path: Path) -> None:
    result = series(photos, tmp_path / "runs")
    names = ["seed-5", "seed-6", "seed-7"]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [*names, "seeds.json"]
    measured = []
    for seed, name in zip((5, 6, 7), names, strict=True):
        run = tmp_path / "runs" / name
        assert record_of(run)["plan"]["seed"] == seed
        measured.append(json.loads((run / "evaluation.json").read_text())["top1"])
    assert (result.seeds, result.measured) == ((5, 6, 7), tuple(measured))
    document = json.loads((tmp_path / "runs" / "seeds.json").read_text())
    assert document == {"schema_version": 1, **result.to_dict()}
    assert document["median"] == statistics.median(measured)


def test_a_series_that_was_stopped_goes_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = series(photos, tmp_path / "whole", num_seeds=2)
    with monkeypatch.context() as patch:
        stop_after(patch, 3, seed=6)
        stopped = series(photos, tmp_path / "parts", num_seeds=2)
    assert (stopped.seeds, stopped.exit_code) == ((5,), 130)
    assert json.loads((tmp_path / "parts" / "seeds.json").read_text())["status"] == "interrupted"
    first = (tmp_path / "parts" / "seed-5" / "metrics.jsonl").read_bytes()
    done = series(photos, tmp_path / "parts", num_seeds=2, resume=True)
    assert (done.seeds, done.measured, done.exit_code) == (whole.seeds, whole.measured, 0)
    assert (tmp_path / "parts" / "seed-5" / "metrics.jsonl").read_bytes() == first
    assert json.loads((tmp_path / "parts" / "seeds.json").read_text())["status"] == "finished"


def test_more_seeds_can_be_added(photos: Path, tmp_path: Path) -> None:
    first = series(photos, tmp_path / "runs", num_seeds=1)
    more = series(photos, tmp_path / "runs", num_seeds=2, resume=True)
    assert more.measured[:1] == first.measured
    assert more.seeds == (5, 6)


@pytest.mark.parametrize("count", [0, -1, 1001, True])
def test_a_number_of_seeds_out_of_range_is_refused(photos: Path, tmp_path: Path, count: int) -> None:
    with pytest.raises(ConfigurationError, match=f"seeds is {count}; expected 1 to 1000"):
        series(photos, tmp_path / "runs", num_seeds=count)


def test_a_series_needs_a_folder(photos: Path) -> None:
    with pytest.raises(ConfigurationError, match="--seeds needs a folder for the runs; name it with --out"):
        series(photos, None)


@pytest.mark.parametrize(("name", "resume"), [("run.json", True), ("thesis.txt", False)])
def test_a_folder_that_holds_something_else_is_left_alone(
    photos: Path, tmp_path: Path, name: str, resume: bool
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / name).write_text("{}")
    with pytest.raises(
        ConfigurationError, match="runs is not an empty folder; go on with --resume, or choose"
    ):
        series(photos, tmp_path / "runs", resume=resume)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [name]


def test_the_command_prints_the_series(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = a_start(tmp_path / "start")
    arguments = ["train", str(photos), "--weights", str(start), "--recipe", "cifar", "--out"]
    arguments += [str(tmp_path / "runs"), "--seeds", "2", "--seed", "9", "--steps", "1", "--batch-size", "6"]
    assert main([*arguments, "--workers", "0", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["seeds"] == [9, 10]
    assert document["status"] == "finished"
    assert main([*arguments, "--workers", "0", "--resume"]) == 0
    assert "seed 9: test top-1 " in capsys.readouterr().out
