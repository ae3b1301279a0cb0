"""The benchmark of few images: which images and runs, and what is kept of a stopped one; no accuracies."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks import finetune as beside_peers
from deepresidual.benchmarks import finetune
from deepresidual.benchmarks.finetune import METHODS, Measured, benchmark_finetuning, opened_transfer
from deepresidual.benchmarks.progress import Progress
from deepresidual.benchmarks.transfer_images import TransferImages
from deepresidual.cli import main
from deepresidual.data.source import open_source
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.models import TorchClassifier, create, save
from tests.conftest import SMALL_INPUT, TINY

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A model folder of two classes, one of which is among the photos."""
    network = create(dataclasses.replace(TINY, num_classes=2))
    save(TorchClassifier(network, ("cat", "green"), SMALL_INPUT), tmp_path / "weights")
    return tmp_path / "weights"


@pytest.fixture
def fake_runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int, int]]:
    """Runs that take no time: name, images a class, seed, updates. Up to 40 updates help."""
    runs: list[tuple[str, int, int, int]] = []

    def run(_: object, name: str, num_images: int, seed: int, updates: int, _place: Path) -> Measured:
        runs.append((name, num_images, seed, updates))
        top1 = 0.5 + min(updates, 40) / 100 if name == "scratch" else 0.7 + seed / 10
        return Measured(top1, 1.5, 10 if name == "finetune" else updates)

    monkeypatch.setattr(finetune.Transfer, "_train", run)
    return runs


# -- images ------------------------------------------------------------------------------------------------


def written(folder: Path) -> dict[str, set[str]]:
    """Return the names of the files of every class, ``test/class-0000`` and so on."""
    inside = [path for path in folder.glob("*/*") if path.is_dir()]
    return {str(path.relative_to(folder)): {file.name for file in path.iterdir()} for path in inside}


def test_classes_that_the_weights_know_are_left_out(photos: Path, tmp_path: Path) -> None:
    images = TransferImages.unknown_to(("green", "cat"), open_source(photos))
    assert images.classes == ("blue", "red")
    assert images.num_available == 16
    images.write(tmp_path / "few", 3, seed=0)
    few = written(tmp_path / "few")
    assert {name: len(files) for name, files in few.items()} == {
        "train/class-0000": 3,
        "train/class-0001": 3,
        "test/class-0000": 1,
        "test/class-0001": 1,
    }
    source = open_source(photos).split("train")
    place = int(min(few["train/class-0001"]).removesuffix(".png"))
    assert source.key(place).startswith("train/red/")


def test_fewer_images_are_among_more_and_other_seeds_choose_others(photos: Path, tmp_path: Path) -> None:
    images = TransferImages.unknown_to((), open_source(photos))
    for count, seed in ((3, 0), (6, 0), (3, 1)):
        images.write(tmp_path / f"{count}-{seed}", count, seed)
    few, more, others = (written(tmp_path / name) for name in ("3-0", "6-0", "3-1"))
    trained = [name for name in few if name.startswith("train")]
    assert all(few[name] < more[name] for name in trained)
    assert any(few[name] != others[name] for name in trained)
    assert few["test/class-0000"] == others["test/class-0000"]


def test_the_test_images_are_equally_many_a_class(photos: Path, tmp_path: Path) -> None:
    images = TransferImages.unknown_to((), open_source(photos))
    assert images.write_test(tmp_path / "some", 10) == 9
    assert images.write_test(tmp_path / "all", 1000) == 15


def test_data_without_two_classes_to_learn_are_refused(photos: Path) -> None:
    with pytest.raises(DataError, match="has 1 classes that the weights do not know; expected two or more"):
        TransferImages.unknown_to(("red", "green"), open_source(photos))


# -- measurements that are kept ----------------------------------------------------------------------------


def test_what_was_measured_is_read_again_and_a_cut_line_is_not(tmp_path: Path) -> None:
    result = tmp_path / "new" / "result.json"
    progress = Progress(result, {"a": 1})
    progress.write("x", {"top1": 0.5})
    progress.write("y", {"top1": 0.6})
    parts = result.with_name("result.json.parts")
    parts.write_text(parts.read_text()[:-5])
    again = Progress(result, {"a": 1})
    assert again.read("x") == {"top1": 0.5}
    assert again.read("y") is None
    again.write("y", {"top1": 0.7})
    assert Progress(result, {"a": 1}).read("y") == {"top1": 0.7}


def test_measurements_of_other_settings_are_refused(tmp_path: Path) -> None:
    Progress(tmp_path / "result.json", {"weights": "a"})
    with pytest.raises(ConfigurationError, match=r"result.json.parts holds measurements of other data"):
        Progress(tmp_path / "result.json", {"weights": "b"})


def test_a_benchmark_that_was_stopped_goes_on(
    photos: Path, weights: Path, tmp_path: Path, fake_runs: list[Any]
) -> None:
    options: dict[str, Any] = {"images_per_class": (4,), "out": tmp_path / "result.json", "num_test": 6}
    benchmark_finetuning(photos, weights, rows=["probe-4"], repetitions=2, **options)
    assert fake_runs == [("probe", 4, 0, 0), ("probe", 4, 1, 0)]
    (row,) = benchmark_finetuning(photos, weights, rows=["probe-4"], repetitions=3, **options).rows
    assert fake_runs[2:] == [("probe", 4, 2, 0)]
    assert row.details["top1"] == [0.7, 0.7 + 1 / 10, 0.7 + 2 / 10]
    assert row.ours == pytest.approx(0.8)


# -- rows --------------------------------------------------------------------------------------------------


def test_scratch_has_the_updates_of_fine_tuning_and_then_as_many_as_help(
    photos: Path, weights: Path, fake_runs: list[Any]
) -> None:
    rows = benchmark_finetuning(photos, weights, images_per_class=(4, 8), repetitions=2, num_test=6).rows
    assert [row.name for row in rows] == [f"{method}-{count}" for count in (4, 8) for method in METHODS]
    by_name = {row.name: row for row in rows}
    assert by_name["scratch-4"].details["num_updates"] == [10, 10]
    assert by_name["scratch-4"].ours == pytest.approx(0.6)
    longest = by_name["scratch-long-4"]
    assert longest.details["times the updates of fine-tuning"] == 4  # 80 are no better than 40
    assert longest.ours == pytest.approx(0.9)
    assert by_name["probe-8"].reason.startswith("95 % interval ")
    assert by_name["probe-8"].details["classes"] == ["blue", "red"]
    assert len(fake_runs) == len(set(fake_runs))  # none twice


def test_few_images_of_a_small_data_set_are_all_that_there_are(
    photos: Path, weights: Path, fake_runs: list[Any]
) -> None:
    rows = benchmark_finetuning(photos, weights, rows=["probe-10"], repetitions=1).rows
    assert [row.name for row in rows] == ["probe-10"]
    with pytest.raises(ConfigurationError, match="--images-per-class is 17; expected 1 to 16"):
        benchmark_finetuning(photos, weights, images_per_class=(17,), repetitions=1)
    assert len(fake_runs) == 1


def test_a_run_is_trained_and_measured_with_a_cache_of_its_own(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path))
    with opened_transfer(photos, weights, (4,), 1, None, 6) as transfer:
        run = transfer.run("scratch", 4, 0)
        trained = transfer.run("finetune", 4, 0)
    assert run.num_updates == trained.num_updates > 0
    assert 0 <= run.top1 <= 1
    assert run.cpu_seconds > 0
    assert os.environ["RESIDUAL_CACHE"] == str(tmp_path)
    assert not transfer.folder.exists()


# -- peers -------------------------------------------------------------------------------------------------


# timm's dataset leaves its image files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.parametrize("peer", ["torchvision", pytest.param("timm", marks=pytest.mark.test_all)])
@pytest.mark.filterwarnings("ignore:.*pin_memory.*", "ignore:Detected call of `lr_scheduler.step:UserWarning")
def test_a_loop_of_others_trains_until_it_is_as_good_or_cut_off(
    photos: Path, weights: Path, fake_runs: list[Any], monkeypatch: pytest.MonkeyPatch, peer: str
) -> None:
    pytest.importorskip(peer)
    monkeypatch.setattr(beside_peers, "_WORKERS", 0)
    monkeypatch.setattr(beside_peers, "_CUT_OFF", 0.5)
    (row,) = beside_peers.benchmark_finetuning(
        photos, weights, images_per_class=(4,), rows=[f"time-{peer}-4"], repetitions=1, num_test=6
    ).rows
    assert row.target == 5
    assert row.ratio
    (theirs,) = row.details["theirs"]
    assert theirs["reached"] == (theirs["best_top1"] >= 0.7)
    assert theirs["reached"] or theirs["cpu_seconds"] >= 0.75
    assert theirs["num_epochs"] >= 1


def test_a_peer_that_is_not_installed_is_named(
    photos: Path, weights: Path, fake_runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside_peers, "find_spec", lambda _: None)
    (row,) = beside_peers.benchmark_finetuning(
        photos, weights, images_per_class=(4,), rows=["time-timm-4"], repetitions=1
    ).rows
    assert row.reason == "unmeasured: timm is not installed"
    assert not fake_runs


# -- the command -------------------------------------------------------------------------------------------


def test_the_command_writes_rows(
    photos: Path, weights: Path, tmp_path: Path, fake_runs: list[Any], capsys: Capture
) -> None:
    out = tmp_path / "result.json"
    command = ["benchmark", "finetune", str(photos), "--weights", str(weights), "--images-per-class", "4"]
    assert main([*command, "--rows", "probe-4", "--repetitions", "2", "--out", str(out)]) == 0
    assert "0.75 top-1, 95 % interval" in capsys.readouterr().out
    document = json.loads(out.read_text())
    assert (document["benchmark"], document["repetitions"]) == ("finetune", 2)
    assert [row["name"] for row in document["rows"]] == ["probe-4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["finetune", "--weights", "x"], "the benchmark of fine-tuning has no data; name both"),
        (["finetune", "x"], "the benchmark of fine-tuning has no --weights; name both"),
        (
            ["machine", "--weights", "x"],
            "--weights is given for machine; expected 'residual benchmark finetune'",
        ),
        (["train", "--images-per-class", "3"], "--images-per-class is given for train"),
    ],
)
def test_what_does_not_go_together_is_said(arguments: list[str], message: str, capsys: Capture) -> None:
    assert main(["benchmark", *arguments]) == 2
    assert message in capsys.readouterr().err
