"""An experiment runs, stops, goes on, and refuses to mix with another."""

from __future__ import annotations

import dataclasses
import json
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from matplotlib.figure import Figure

from deepresidual.analysis.experiments import EXPERIMENTS, chosen_arms, experiment, reproduce, runner
from deepresidual.analysis.experiments.errors import curves, measure_errors
from deepresidual.analysis.experiments.experiment import (
    TEST_ERROR,
    Arm,
    DataUse,
    Experiment,
    FinishedRun,
    Measurement,
    Results,
    Scale,
    Verdict,
)
from deepresidual.analysis.experiments.figures import draw_arms
from deepresidual.analysis.experiments.runner import Reproduction
from deepresidual.analysis.experiments.verdicts import gap
from deepresidual.data.loader import Batch
from deepresidual.errors import ConfigurationError, DataError, UnknownNameError
from deepresidual.recipe import Recipe
from deepresidual.tasks import BatchSums
from deepresidual.training.options import TrainOptions
from deepresidual.training.updater import Updater
from tests.conftest import TINY, write_splits
from tests.suites import short
from tests.training.parts import SilentJournal

pytestmark = pytest.mark.usefixtures("no_report")

RECIPE = Recipe(name="tiny", epochs=1, batch_size=16, learning_rate=0.05)
PLAIN = dataclasses.replace(TINY, shortcut="none")


def two_arms(scale: Scale) -> tuple[Arm, ...]:
    del scale
    return (Arm("plain", "plain", PLAIN, RECIPE, 2, 8), Arm("resnet", "residual", TINY, RECIPE, 2, 8))


def draw(results: Results) -> dict[str, Figure]:
    return {"arms": draw_arms(results, "nothing")}


def draw_nothing(results: Results) -> dict[str, Figure]:
    del results
    return {}


def judge(results: Results) -> list[Verdict]:
    return [gap(results, TEST_ERROR, "plain", "resnet", source="nowhere")]


TOY = Experiment(
    name="toy",
    claim="None.",
    source="nowhere",
    arms=two_arms,
    data={"smoke": DataUse(20, 9), "laptop": DataUse(), "paper": DataUse()},
    measure=measure_errors,
    draw=draw_nothing,  # takes longer than to train these networks
    judge=judge,
)
DRAWN = dataclasses.replace(TOY, draw=draw)


def run(
    photos: Path,
    out: Path,
    toy: Experiment = TOY,
    *,
    arms: Sequence[str] = (),
    num_seeds: int | None = None,
    **options: Any,
) -> Reproduction:
    scale = options.pop("scale", "smoke")
    jobs = {name: options.pop(name) for name in ("num_jobs", "resume") if name in options}
    training = TrainOptions(**{"device": "cpu", "num_workers": 0, "precision": "fp32", **options})
    chosen = chosen_arms(toy, scale, arms, num_seeds)
    return reproduce(toy, photos, scale=scale, out=out, arms=chosen, options=training, **jobs)


def document(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "results.json").read_text("utf-8"))
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    """Run the experiment to its end, on images like those of every test."""
    root = tmp_path_factory.mktemp("whole")
    photos = write_splits(root / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepresidual.training.launch.Journal", SilentJournal)
        return run(photos, root / "out", DRAWN)


@pytest.fixture
def finished(whole: Reproduction, tmp_path: Path) -> Path:
    """Return the folder of an experiment that has come to its end: a copy, which a test may change."""
    return Path(shutil.copytree(whole.path, tmp_path / "out"))


def test_it_leaves_results_table_figures_and_runs(whole: Reproduction) -> None:
    result, out = whole, whole.path
    assert (out.name, result.exit_code) == ("out", 0)
    assert sorted(path.name for path in out.iterdir()) == [
        "arms",
        "arms.png",
        "arms.svg",
        "results.json",
        "table.md",
    ]
    found = document(out)
    assert found == json.loads(json.dumps(result.document))
    assert (found["status"], found["experiment"], found["scale"]) == ("finished", "toy", "smoke")
    assert found["data"]["num_samples"] == {"train": 20, "test": 9}
    assert {"command", "date", "versions", "hardware", "claim", "source"} < set(found)
    assert [arm["name"] for arm in found["arms"]] == ["plain", "resnet"]
    for arm in found["arms"]:
        errors = [one["figures"]["test_error"] for one in arm["runs"]]
        assert [one["seed"] for one in arm["runs"]] == [0, 1]
        assert arm["summary"]["test_error"]["mean"] == pytest.approx(sum(errors) / 2)
        for seed, error in enumerate(errors):
            folder = out / "arms" / arm["name"] / f"seed-{seed}"
            evaluation = json.loads((folder / "evaluation.json").read_text("utf-8"))
            assert error == pytest.approx(1 - evaluation["top1"])
            assert json.loads(folder.with_name(f"seed-{seed}.json").read_text("utf-8"))["seconds"] > 0
    table = (out / "table.md").read_text("utf-8")
    assert "| claim | measured | published | tolerance | verdict | source |" in table
    assert "| arm | layers | parameters | training error | test error | published |" in table
    assert found["verdicts"][0]["measured"] in table
    assert "![arms](arms.svg)" in table


def test_what_is_there_is_not_done_again(photos: Path, finished: Path, whole: Reproduction) -> None:
    for place in (finished / "arms" / "plain").glob("seed-1*"):
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    files = {path: path.stat().st_mtime_ns for path in (finished / "arms").rglob("*") if path.is_file()}
    before = run(photos, finished, arms=["resnet"], resume=True)
    after = run(photos, finished, resume=True)
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert before.document["arms"] == whole.document["arms"][1:]
    assert after.document["arms"] == whole.document["arms"]


def stopping_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Send SIGINT when a trainer has done so many updates of all its runs together."""
    gradients, seen = Updater.gradients, [0]

    def counted(self: Updater, batch: Batch, now: int) -> list[BatchSums] | None:
        seen[0] += 1
        if seen[0] == step:
            signal.raise_signal(signal.SIGINT)
        return gradients(self, batch, now)

    monkeypatch.setattr(Updater, "gradients", counted)
    return lambda: monkeypatch.setattr(Updater, "gradients", gradients)


@pytest.mark.parametrize("step", short([1, 3], 3))
def test_one_that_was_stopped_goes_on_to_the_same_figures(
    step: int, photos: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(photos, finished, num_seeds=1, resume=True)
    undo = stopping_at(step, monkeypatch)
    # Apart from the whole one, whose runs it would take over.
    stopped = run(photos, tmp_path / "apart/out", num_seeds=1)
    assert (stopped.exit_code, stopped.document["status"]) == (130, "interrupted")
    assert len(stopped.document["arms"]) == step // 2
    assert "Interrupted" in (tmp_path / "apart/out" / "table.md").read_text("utf-8")
    undo()
    done = run(photos, tmp_path / "apart/out", num_seeds=1, resume=True)
    assert (done.exit_code, done.document["status"]) == (0, "finished")
    assert done.document["arms"] == whole.document["arms"]
    assert done.document["verdicts"] == whole.document["verdicts"]


def test_a_signal_while_measuring_loses_only_the_measurement(photos: Path, tmp_path: Path) -> None:
    def interrupted(measured: FinishedRun) -> Measurement:
        signal.raise_signal(signal.SIGTERM)
        return measure_errors(measured)

    stopped = run(photos, tmp_path / "out", dataclasses.replace(TOY, measure=interrupted), num_seeds=1)
    assert (stopped.exit_code, stopped.document["arms"]) == (143, [])
    done = run(photos, tmp_path / "out", num_seeds=1, resume=True)
    assert done.exit_code == 0
    assert [len(arm["runs"]) for arm in done.document["arms"]] == [1, 1]


def test_a_run_that_diverges_is_a_result(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = [BatchSums(torch.zeros(()), {"right": torch.zeros(())})]
    with monkeypatch.context() as patch:
        patch.setattr(Updater, "gradients", lambda _updater, _batch, step: nothing if step < 1 else None)
        patch.setattr(Updater, "apply", lambda _updater, _step, _rate: None)
        result = run(photos, tmp_path / "out", num_seeds=1)
    assert result.exit_code == 0
    for arm in result.document["arms"]:
        assert arm["runs"][0]["figures"] == {}
        assert arm["runs"][0]["note"].startswith("diverged: loss or gradient is not finite at step")
        assert arm["cells"] == ["diverged", "diverged"]
    assert result.document["verdicts"][0]["verdict"] == "open"
    again = run(photos, tmp_path / "out", num_seeds=1, resume=True)
    assert again.document["arms"] == result.document["arms"]


def test_folders_of_others_are_refused(photos: Path, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "other"
    with pytest.raises(ConfigurationError, match="holds no experiment to resume; leave out --resume"):
        run(photos, out, resume=True)
    assert not out.exists()
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not an empty folder; choose another --out"):
        run(photos, out)
    out = finished
    with pytest.raises(ConfigurationError, match="already holds an experiment; go on with --resume"):
        run(photos, out)
    with pytest.raises(ConfigurationError, match=r"was started differently \(experiment: toy → other\)"):
        run(photos, out, dataclasses.replace(TOY, name="other"), resume=True)
    (photos / "test" / "blue" / "blue-000.png").unlink()
    with pytest.raises(ConfigurationError, match=r"was started differently \(data: photos .*; resume with"):
        run(photos, out, resume=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20].encode(),
        lambda text: text.replace('"note": ""', '"note": 3').encode(),
        lambda _: b"[" * 100_000,
    ],
    ids=["cut", "note", "deep"],
)
def test_a_measurement_that_is_damaged_is_named_and_measured_again(
    photos: Path,
    finished: Path,
    whole: Reproduction,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[str], bytes],
) -> None:
    measured = finished / "arms" / "plain" / "seed-0.json"
    measured.write_bytes(damage(measured.read_text("utf-8")))
    after = run(photos, finished, resume=True)
    assert "seed-0.json is damaged (" in capsys.readouterr().err
    assert (after.exit_code, after.document["arms"]) == (0, whole.document["arms"])


def test_a_measurement_of_something_else_is_refused(photos: Path, finished: Path) -> None:
    measured = finished / "arms" / "plain" / "seed-0.json"
    measured.write_text(measured.read_text("utf-8").replace('"image_px": 8', '"image_px": 9'))
    with pytest.raises(ConfigurationError, match=r"seed-0\.json is of another network, recipe or data set"):
        run(photos, finished, resume=True)


@pytest.mark.parametrize("content", ["{", '{"experiment": "toy", "scale": "smoke", "data": 5}'])
def test_results_that_are_damaged_are_named_and_written_anew(
    photos: Path, finished: Path, whole: Reproduction, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (finished / "results.json").write_text(content)
    after = run(photos, finished, resume=True)
    assert "results.json is damaged (" in capsys.readouterr().err
    assert after.document["arms"] == whole.document["arms"]
    assert json.loads((finished / "results.json").read_text())["status"] == "finished"


def test_curves_lack_the_lines_that_cannot_be_read(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = finished / "arms" / "plain" / "seed-0"
    before = curves(cast("FinishedRun", SimpleNamespace(path=place)))
    lines = (place / "metrics.jsonl").read_bytes()
    (place / "metrics.jsonl").write_bytes(b'{"event": "train", "step": "x"}\n\xff\n' + lines)
    assert curves(cast("FinishedRun", SimpleNamespace(path=place))) == before
    assert "lines left out of the curves: 1, 2 (step is 'x', not a whole number" in capsys.readouterr().err


def test_bad_choices_are_refused_before_anything_is_written(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for options, message in (
        ({"scale": "huge"}, "scale is 'huge'; expected one of smoke, laptop, paper"),
        ({"num_seeds": 0}, "seeds is 0; expected 1 to 1000"),
        ({"arms": ["resnt"]}, r"unknown arm of toy 'resnt' \(nearest: resnet\)"),
        ({"device": "tpu"}, "device 'tpu' is not available"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            run(photos, out, **options)
    with pytest.raises(ConfigurationError, match="toy at scale laptop does not say which data"):
        reproduce(TOY, None, scale="laptop", out=out)
    with pytest.raises(DataError, match="does not exist"):
        run(tmp_path / "nowhere", out)
    assert not out.exists()


def test_runs_are_listed_by_seed_in_whatever_order_they_end(
    photos: Path, finished: Path, whole: Reproduction, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_turn = runner._in_turn
    monkeypatch.setattr(runner, "_in_turn", lambda arms: in_turn(arms)[::-1])
    assert run(photos, finished, resume=True).document["arms"] == whole.document["arms"]


def test_seeds_come_in_turn_so_that_all_arms_are_as_far() -> None:
    from deepresidual.analysis.experiments.runner import _in_turn

    first, second = two_arms("smoke")
    turns = _in_turn((first, dataclasses.replace(second, num_seeds=3)))
    assert [(seed, arm.name) for seed, arm in turns] == [
        (0, "plain"),
        (0, "resnet"),
        (1, "plain"),
        (1, "resnet"),
        (2, "resnet"),
    ]
    others = _in_turn((first, dataclasses.replace(second, first_seed=10)))
    assert [(seed, arm.name) for seed, arm in others][:3] == [(0, "plain"), (10, "resnet"), (1, "plain")]


def test_experiments_are_found_by_name() -> None:
    assert experiment("lesions").name == "lesions"
    with pytest.raises(UnknownNameError, match=r"unknown experiment 'degredation' \(nearest: degradation"):
        experiment("degredation")
    names = [one.name for one in EXPERIMENTS]
    assert len(set(names)) == len(names)
    assert [arm.num_seeds for arm in chosen_arms(experiment("depth"), "paper", ["resnet-1202"])] == [1]


# -- sharing ---------------------------------------------------------------------------------------------


def test_a_run_of_an_experiment_beside_is_measured_where_it_lies(
    photos: Path, finished: Path, whole: Reproduction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("deepresidual.analysis.experiments.trial.train", None)  # would fail
        second = run(photos, tmp_path / "second")
    assert second.document["arms"] == whole.document["arms"]
    noted = json.loads((tmp_path / "second/arms/plain/seed-1.json").read_text("utf-8"))
    assert noted["run"] == f"../../../{finished.name}/arms/plain/seed-1"
    assert not (tmp_path / "second/arms/plain/seed-1").exists()
    # What lies elsewhere is not handed on by the one that measured it.
    (tmp_path / "apart").mkdir()
    (tmp_path / "second").rename(tmp_path / "apart/second")
    third = run(photos, tmp_path / "apart/third", arms=["plain"], num_seeds=1)
    assert (third.path / "arms/plain/seed-0").is_dir()


@pytest.mark.parametrize("differing", ["recipe", "precision", "versions", "unfinished", "damaged"])
def test_a_run_that_differs_in_anything_is_trained(
    photos: Path, finished: Path, tmp_path: Path, differing: str
) -> None:
    place = finished / "arms/plain/seed-0"
    toy, options = TOY, {}
    if differing == "recipe":
        arms = tuple(
            dataclasses.replace(arm, recipe=RECIPE.changed({"momentum": 0.8})) for arm in two_arms("smoke")
        )
        toy = dataclasses.replace(TOY, arms=lambda _scale: arms)
    elif differing == "precision":
        options = {"precision": "auto"}
    else:
        file = place / "run.json"
        document = json.loads(file.read_text("utf-8"))
        document |= {"versions": {"torch": "0.4"}} if differing == "versions" else {"status": "running"}
        file.write_text(json.dumps(document) if differing != "damaged" else "{", "utf-8")
    second = tmp_path / "second"
    run(photos, second, toy, arms=["plain"], num_seeds=1, **options)
    assert (second / "arms/plain/seed-0/run.json").is_file()
