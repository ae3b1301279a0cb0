"""Whole runs, small: what they leave behind; that they repeat to the bit and survive interruption."""

from __future__ import annotations

import json
import math
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import deepresidual
from deepresidual.data.loader import Batch
from deepresidual.data.source import SampleSource, open_source
from deepresidual.errors import ConfigurationError, DataError, DivergedError, ModelFileError, RunError
from deepresidual.nn import body_of
from deepresidual.runs.plan import Plan
from deepresidual.runs.read import read_plan
from deepresidual.tasks import BatchSums
from deepresidual.training.launch import train
from deepresidual.training.loop import RunResult
from deepresidual.training.options import TrainOptions
from deepresidual.training.plan import make_plan
from deepresidual.training.updater import Updater
from tests.conftest import TINY, write_splits
from tests.suites import short
from tests.training.parts import SilentJournal, stop_after

pytestmark = pytest.mark.usefixtures("no_report")

EPOCHS = 3
CHANGES = {
    "epochs": float(EPOCHS),
    "batch_size": 10,
    "learning_rate": 0.05,
}  # 48 samples: batches span epochs


def run(photos: Path, out: Path, changes: dict[str, Any] | None = None, **options: Any) -> RunResult:
    changes = {**(changes or {}), **options.pop("changes", {})}
    options = {"image_px": 8, "num_workers": 0, "precision": "fp32", **options}
    model = options.pop("model", TINY)
    return train(photos, model, out=out, changes={**CHANGES, **changes}, **options)


def planned(source: SampleSource, model: str | None = None, **options: Any) -> Plan:
    options = {"precision": "fp32", **options}
    return make_plan(source, model, TrainOptions(**options), torch.device("cpu"))


def weights(out: Path) -> dict[str, torch.Tensor]:
    return deepresidual.load(out).network.state_dict()


def same_bits(first: Path, second: Path) -> bool:
    ours, theirs = weights(first), weights(second)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


CLOCK = {"images_per_second", "waiting", "memory_bytes"}


def metrics(out: Path) -> list[dict[str, Any]]:
    """Return every line of the metrics but for what the clock and the system decide."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in CLOCK} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the same pictures, which no test changes."""
    root = tmp_path_factory.mktemp("whole")
    photos = write_splits(root / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepresidual.training.launch.Journal", SilentJournal)
        run(photos, root / "run")
    return root / "run"


@pytest.fixture
def finished(whole: Path, tmp_path: Path) -> Path:
    """A copy of that run."""
    return shutil.copytree(whole, tmp_path / "run")


def test_a_run_leaves_everything_that_the_contract_names(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = run(photos, out)
    assert (result.status, result.exit_code, result.path) == ("finished", 0, out)
    assert sorted(path.name for path in out.iterdir()) == [
        "best",
        "checkpoints",
        "evaluation.json",
        "heat-maps",
        "metrics.jsonl",
        "mistakes",
        "model",
        "report.html",
        "run.json",
        "samples",
    ]
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["step-10", "step-15"]
    record = json.loads((out / "run.json").read_text())
    assert (record["status"], record["step"], record["total_steps"]) == ("finished", 15, 15)
    assert record["plan"]["classes"] == ["blue", "green", "red"]
    assert record["plan"]["precision"] == "fp32"
    assert record["versions"]["torch"] == torch.__version__.split("+")[0]
    rows = metrics(out)
    assert [row["step"] for row in rows if row["event"] == "evaluation"] == [5, 10, 15]
    assert result.evaluation is not None
    last = {name: rows[-1][name] for name in ("split", "top1", "top5", "loss", "count")}
    assert last == result.evaluation.summary()
    assert last == deepresidual.evaluate(out, photos, num_workers=0).summary()
    model = deepresidual.load(out)
    assert model.label_names == ("blue", "green", "red")
    assert model.metrics["test"]["top1"] == last["top1"]
    assert model.provenance["recipe"] == "cifar"


def test_colors_are_learned(photos: Path, tmp_path: Path) -> None:
    result = run(photos, tmp_path / "run", {"epochs": 8.0, "learning_rate": 0.1})
    assert result.evaluation is not None
    assert result.evaluation.summary()["top1"] == 1


def test_the_same_seed_gives_the_same_bits_with_any_number_of_workers(photos: Path, tmp_path: Path) -> None:
    outs = [tmp_path / f"run{workers}" for workers in (0, 2)]
    for out, workers in zip(outs, (0, 2), strict=True):
        run(photos, out, {"crop": "random-resized"}, num_workers=workers, seed=3)
    assert same_bits(*outs)
    assert metrics(outs[0]) == metrics(outs[1])


def test_another_seed_gives_other_bits(photos: Path, tmp_path: Path, whole: Path) -> None:
    run(photos, tmp_path / "other", seed=1)
    assert not same_bits(whole, tmp_path / "other")


def test_bf16_computes_otherwise_and_keeps_float32_weights(photos: Path, tmp_path: Path, whole: Path) -> None:
    run(photos, tmp_path / "bf16", precision="bf16")
    assert not same_bits(whole, tmp_path / "bf16")
    assert {tensor.dtype for tensor in weights(tmp_path / "bf16").values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize("step", short([1, 4, 5, 7, 14], 5, 7))
def test_an_interrupted_run_resumes_to_the_same_bits(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path, step: int
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, step)
        result = run(photos, tmp_path / "parts")
    assert (result.status, result.exit_code) == ("interrupted", 130)
    assert json.loads((tmp_path / "parts" / "run.json").read_text())["step"] == step
    # The model can be used, and its figures belong to its weights.
    figures = deepresidual.load(tmp_path / "parts").metrics.get("test")
    assert (figures is None) == (step <= 5)  # at step 5 the evaluation is broken off
    if figures is not None:
        measured = deepresidual.evaluate(tmp_path / "parts", photos, num_workers=0).summary()
        assert figures == {name: value for name, value in measured.items() if name != "split"}
    result = run(photos, tmp_path / "parts", resume=True)
    assert (result.status, result.exit_code) == ("finished", 0)
    assert same_bits(whole, tmp_path / "parts")
    assert metrics(whole) == metrics(tmp_path / "parts")


def test_sigterm_is_exit_code_143(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_after(monkeypatch, 2, signal.SIGTERM)
    assert run(photos, tmp_path / "run").exit_code == 143


def test_signals_do_their_usual_work_after_a_run(photos: Path, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    run(photos, tmp_path / "run", {"epochs": 1.0})
    assert signal.getsignal(signal.SIGINT) is before


def test_resuming_a_finished_run_changes_nothing(photos: Path, whole: Path, finished: Path) -> None:
    assert run(photos, finished, resume=True).status == "finished"
    assert metrics(finished) == metrics(whole)
    assert same_bits(finished, whole)


def test_resuming_with_other_options_lists_the_differences(photos: Path, finished: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"recipe\.learning_rate: 0\.05 → 0\.2.*seed: 0 → 4"):
        run(photos, finished, {"learning_rate": 0.2}, seed=4, resume=True)


def test_resuming_with_other_data_is_refused(photos: Path, finished: Path) -> None:
    shutil.copy(photos / "train" / "red" / "red-000.png", photos / "train" / "red" / "more.png")
    with pytest.raises(
        ConfigurationError,
        match="data have changed since .*train/red/more.png is there where train/red/red-000",
    ):
        run(photos, finished, resume=True)


def test_data_without_held_out_samples_is_refused_at_once(photos: Path, tmp_path: Path) -> None:
    shutil.rmtree(photos / "test")
    with pytest.raises(
        DataError, match="photos has only a training split; add a folder or file called 'val'"
    ):
        run(photos, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_resume_needs_a_run(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no run to resume"):
        run(photos, tmp_path / "none", resume=True)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    photos: Path,
    whole: Path,
    finished: Path,
    damage: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(finished / "checkpoints" / "step-15" / "network.safetensors")
    run(photos, finished, resume=True)
    said = capsys.readouterr().err
    assert "step-15 cannot be used (network.safetensors is not what was written); the one before it" in said
    assert "resuming at step 10 of 15" in said
    assert same_bits(whole, finished)
    assert metrics(whole) == metrics(finished)


def test_a_damaged_checkpoint_that_was_asked_for_is_an_error(
    photos: Path, finished: Path, damage: Callable[[Path], None]
) -> None:
    damage(finished / "checkpoints" / "step-15" / "network.safetensors")
    with pytest.raises(ModelFileError, match="step-15 cannot be used .network.safetensors is not what was"):
        run(photos, finished, resume=True, checkpoint=15)


def test_steps_take_the_place_of_epochs(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "run", {"steps": 7})
    assert [row["step"] for row in metrics(tmp_path / "run") if row["event"] == "evaluation"] == [5, 7]


@pytest.mark.parametrize(
    ("changes", "epochs"),
    [
        # A batch of 40 ends 0.67 epochs beyond the first of 48 samples, 0.5 beyond the second.
        ({"batch_size": 40, "epochs": 3.0}, ["1/3", "2/3", "3/3"]),
        ({"batch_size": 10, "epochs": 1.25, "evaluate_every": 0.5}, ["0.5/1.25", "1/1.25", "1.25/1.25"]),
        ({"batch_size": 10, "epochs": 0.2}, ["0.2/0.2"]),
        ({"batch_size": 10, "steps": 7}, ["1/1.46", "1.46/1.46"]),
    ],
)
def test_a_line_says_the_epoch_that_was_reached(
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, Any],
    epochs: list[str],
) -> None:
    run(photos, tmp_path / "run", changes)
    said = [line.split()[1] for line in capsys.readouterr().err.splitlines() if line.startswith("epoch ")]
    assert said == epochs


def test_more_samples_a_batch_than_there_are_is_no_problem(photos: Path, tmp_path: Path) -> None:
    assert run(photos, tmp_path / "run", {"batch_size": 100, "epochs": 2.0}).status == "finished"


def test_validation_is_watched_and_test_is_measured_at_the_end(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "test", photos / "valid")
    run(photos, tmp_path / "run", {"epochs": 2.0})
    splits = [row["split"] for row in metrics(tmp_path / "run") if row["event"] == "evaluation"]
    assert splits == ["val", "val", "test"]


def test_a_learning_rate_out_of_all_proportion_ends_in_divergence(photos: Path, tmp_path: Path) -> None:
    wild = {"learning_rate": 1000.0, "epochs": 200.0, "warmup_epochs": 0.0, "momentum": 0.99}
    with pytest.raises(DivergedError, match="the loss (on test )?is (nan|inf).* lower"):
        run(photos, tmp_path / "run", wild)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "diverged"


def test_a_loss_that_is_not_finite_stops_before_the_update(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients = Updater.gradients

    def poisoned(self: Updater, batch: Batch, step: int) -> list[BatchSums] | None:
        if step == 6:
            torch.nn.init.constant_(body_of(self.network).fc.bias, math.nan)
        return gradients(self, batch, step)

    monkeypatch.setattr(Updater, "gradients", poisoned)
    with pytest.raises(
        DivergedError,
        match=r"loss or gradient is not finite at step 7 \(learning rate 0\.\d+\); samples train/.*start",
    ):
        run(photos, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (record["status"], record["step"]) == ("diverged", 6)
    with pytest.raises(ConfigurationError, match="diverged; start anew in another --out with a lower"):
        run(photos, tmp_path / "run", resume=True)
    assert (
        deepresidual.load(tmp_path / "run").metrics["test"]["count"] == 15
    )  # the model of epoch 1 is untouched


def test_running_out_of_memory_says_what_to_do(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 2 GiB")

    monkeypatch.setattr("deepresidual.training.updater.Updater.gradients", full)
    with pytest.raises(
        RunError, match="out of memory with 10 images of 8 px at a time; choose --batch-size auto"
    ):
        run(photos, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


def test_ctrl_c_in_the_last_evaluation_leaves_only_that_to_do(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 15)
        assert run(photos, tmp_path / "run").status == "interrupted"
    assert run(photos, tmp_path / "run", resume=True).status == "finished"
    assert same_bits(whole, tmp_path / "run")
    assert metrics(whole) == metrics(tmp_path / "run")


def test_a_corrupt_image_stops_the_run_and_is_named(
    photos: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(photos / "train" / "red" / "red-003.png")
    with pytest.raises(
        DataError, match=r"train/red/red-003\.png: damaged PNG .*; repair or remove this file"
    ):
        run(photos, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["status"] == "failed"
    assert "red-003.png" in record["error"]


def test_files_that_are_not_used_are_named_and_recorded(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "train" / "red" / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    run(photos, tmp_path / "run", {"steps": 1})
    assert "train/red/drawing.svg is not used: " in capsys.readouterr().err
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert [file["path"] for file in record["ignored"]] == ["train/red/drawing.svg"]


@pytest.mark.parametrize("occupant", ["run.json", "thesis.txt"])
def test_a_folder_that_holds_something_is_not_overwritten(
    photos: Path, tmp_path: Path, occupant: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / occupant).write_text("{}")
    with pytest.raises(
        ConfigurationError, match="already holds a run; continue it with --resume,|not an empty folder"
    ):
        run(photos, tmp_path / "run")
    assert (tmp_path / "run" / occupant).read_text() == "{}"


@pytest.mark.parametrize("inside", [".", "run", "train/red/run"])
def test_a_run_may_not_lie_inside_its_data(photos: Path, inside: str) -> None:
    with pytest.raises(ConfigurationError, match="lies inside the data .*; choose an --out elsewhere"):
        run(photos, photos / inside)
    assert sorted(path.name for path in photos.iterdir()) == ["test", "train"]


def test_a_run_on_the_bundled_digits_may_lie_in_a_folder_called_digits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train("digits", TINY, "digits/run", changes={"steps": 1}).status == "finished"


def test_only_one_of_two_runs_gets_the_folder(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_process_is_quicker(path: Path) -> None:
        path.mkdir()
        (path / "run.json").write_text("theirs")

    monkeypatch.setattr("deepresidual.runs.folder.make_folder", other_process_is_quicker)
    with pytest.raises(ConfigurationError, match="already holds a run; choose another --out"):
        run(photos, tmp_path / "run")
    assert (tmp_path / "run" / "run.json").read_text() == "theirs"


def test_the_folder_gets_a_name_and_a_number(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = (run(photos, None, {"steps": 1}, model="resnet20").path for _ in range(2))  # type: ignore[arg-type]
    assert (str(first), str(second)) == ("runs/photos-resnet20", "runs/photos-resnet20-2")


def test_the_network_is_chosen_by_the_size_of_the_images(photos: Path) -> None:
    plan = planned(open_source(photos))
    assert (plan.model, plan.recipe.name) == ("resnet20", "cifar")


def test_a_plan_survives_json(photos: Path) -> None:
    source = open_source(photos)
    plan = planned(source, model="resnet18", image_px=64, seed=1, precision="bf16")
    again = type(plan).from_dict(json.loads(json.dumps(plan.to_dict())))
    assert again == plan
    assert plan.differences(again) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1.5}, "seed is 1.5"),
        ({"image_px": 16.5}, "image_px is 16.5; expected a whole number"),
        (
            {"image_px": 4, "changes": {"batch_size": 1}},
            "batch_size 1 at 4 px leaves batch normalization one",
        ),
        ({"device": "meta"}, "device 'meta' is not available"),
        ({"num_workers": 10**6}, "num_workers is 1000000; expected 0 to 256"),
        ({"seed": -1}, "seed is -1"),
        ({"image_px": 0}, "the image size is 0 px"),
        ({"precision": "fp8"}, "precision is 'fp8'; expected one of auto, fp32, bf16, fp16"),
        ({"device": "tpu"}, "device 'tpu' is not available; expected one of auto, cpu"),
        ({"model": "resnet2O"}, "unknown model 'resnet2O'"),
    ],
)
def test_options_out_of_range_are_named_before_anything_is_written(
    photos: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run(photos, tmp_path / "run", **{"model": "resnet20", **options})
    assert not (tmp_path / "run").exists()


def test_the_loss_curve_is_the_golden_one(photos: Path, tmp_path: Path) -> None:
    # Guards refactorings. The network is so small that rounding stays rounding: kernels of AVX-512, AVX2 and
    # SSE and one thread or two differ by 3e-7 at the end. Of a ResNet-20 at 8 px two processors were a sixth
    # of the loss apart after ten steps; and with seed 7 of this one an activation is so near to 0 that one
    # kernel of MKL for one thread takes it for positive, and the curves part by 0.4 %.
    run(photos, tmp_path / "run", {"epochs": 2.0}, seed=11)
    losses = [row["loss"] for row in metrics(tmp_path / "run") if row["event"] == "train"]
    golden = json.loads((Path(__file__).parent.parent / "golden" / "loss_curve.json").read_text())
    assert losses == pytest.approx(golden, rel=1e-4)
    assert not any(math.isnan(loss) for loss in losses)


def test_a_folder_without_splits_is_trained_and_tested_on_a_fixed_fifth(photos: Path, tmp_path: Path) -> None:
    result = run(photos / "train", tmp_path / "run", {"steps": 1})
    assert result.evaluation is not None
    assert result.evaluation.split == "test"
    assert read_plan(tmp_path / "run")[0].num_samples + result.evaluation.summary()["count"] == 48
