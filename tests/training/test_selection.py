"""What is measured, and which weights are kept for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import deepresidual
from deepresidual.data.source import Split
from deepresidual.evaluation import Evaluation, evaluate_split
from deepresidual.models import TorchClassifier
from deepresidual.training.checkpoint import load_checkpoint
from deepresidual.training.saver import Saver
from deepresidual.training.state import TrainingState
from tests.suites import short
from tests.training.parts import a_run, changed, record_of, rows, weights_of

pytestmark = pytest.mark.usefixtures("no_report")

HELD_OUT = 0.25  # 12 of 48 pictures; the 36 others are 3.6 steps of ten


def with_top1(monkeypatch: pytest.MonkeyPatch, *figures: float) -> list[dict[str, torch.Tensor]]:
    """Let the evaluations on the held-out images come out as told; return the weights that they saw."""
    import dataclasses

    left, seen = list(figures), []

    def told(model: TorchClassifier, split: Split, name: str, **options: Any) -> Evaluation:
        evaluation = evaluate_split(model, split, name, **options)
        if name != "val":
            return evaluation
        seen.append({name: tensor.clone() for name, tensor in model.network.state_dict().items()})
        return dataclasses.replace(evaluation, top1=left.pop(0))

    monkeypatch.setattr("deepresidual.tasks.classification.evaluate_split", told)
    return seen


def evaluation_of(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "evaluation.json").read_text("utf-8"))
    return document


def measured_again(out: Path, photos: Path, split: str) -> dict[str, Any]:
    from deepresidual.data.source import open_source
    from deepresidual.data.source.validation import hold_out

    source = hold_out(open_source(photos), HELD_OUT)
    return deepresidual.evaluate(out, source, split=split, num_workers=0).summary()


@pytest.mark.parametrize(
    ("select", "kept"), [("best", 1), pytest.param("last", 3, marks=pytest.mark.test_all)]
)
def test_the_weights_that_were_chosen_are_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, select: str, kept: int
) -> None:
    seen = with_top1(monkeypatch, 0.5, 0.9, 0.6, 0.8)
    result = a_run(photos, tmp_path / "run", {"epochs": 4.0, "keep_model": select}, validation=HELD_OUT)
    assert len(seen) == 4
    assert changed(seen[kept], weights_of(tmp_path / "run")) == set()
    # The figures in the run folder are those of exactly these weights.
    assert result.evaluation is not None
    assert result.evaluation.split == "test"
    assert result.evaluation.summary() == measured_again(tmp_path / "run", photos, "test")
    document = evaluation_of(tmp_path / "run")
    assert {name: document[name] for name in ("top1", "loss", "count")} == {
        name: result.evaluation.summary()[name] for name in ("top1", "loss", "count")
    }
    assert deepresidual.load(tmp_path / "run").metrics["test"]["top1"] == result.evaluation.summary()["top1"]


def test_the_first_of_equals_is_the_best(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = with_top1(monkeypatch, 0.5, 0.7, 0.7)
    a_run(photos, tmp_path / "run", {"epochs": 3.0, "keep_model": "best"}, validation=HELD_OUT)
    assert changed(seen[1], weights_of(tmp_path / "run")) == set()


def test_the_best_model_says_what_it_was_chosen_by(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_top1(monkeypatch, 0.5, 0.9, 0.6)
    a_run(photos, tmp_path / "run", {"epochs": 3.0, "keep_model": "best"}, validation=HELD_OUT)
    metrics = deepresidual.load(tmp_path / "run").metrics
    assert metrics["val"]["top1"] == 0.9
    assert metrics["val"]["count"] == 12


def test_while_it_runs_the_figures_belong_to_the_weights(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After every evaluation, not only at the end: someone may take the model of a run that goes on.
    pairs: list[tuple[float, float]] = []
    save = Saver.save

    def compared(self: Saver, state: TrainingState, status: str) -> None:
        save(self, state, status)
        kept = deepresidual.load(tmp_path / "run")
        pairs.append((evaluation_of(tmp_path / "run")["loss"], kept.metrics["val"]["loss"]))
        assert measured_again(tmp_path / "run", photos, "val")["loss"] == kept.metrics["val"]["loss"]

    monkeypatch.setattr(Saver, "save", compared)
    a_run(photos, tmp_path / "run", {"epochs": 3.0, "keep_model": "best"}, validation=HELD_OUT)
    assert len(pairs) == 3
    assert all(document == card for document, card in pairs)


def test_without_a_test_split_the_best_stays_as_it_was_measured(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "test").rename(photos / "val")
    seen = with_top1(monkeypatch, 0.5, 0.9, 0.6)
    result = a_run(photos, tmp_path / "run", {"epochs": 3.0, "keep_model": "best"})
    assert result.evaluation is not None
    assert (result.evaluation.split, result.evaluation.summary()["top1"]) == ("val", 0.9)
    assert changed(seen[1], weights_of(tmp_path / "run")) == set()


def test_a_run_ends_after_so_many_evaluations_without_a_gain(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = with_top1(monkeypatch, 0.5, 0.9, 0.8, 0.9, 1.0)
    changes = {"epochs": 50.0, "early_stopping": 2, "keep_model": "best"}
    result = a_run(photos, tmp_path / "run", changes, validation=HELD_OUT)
    assert result.status == "finished"
    assert len(seen) == 4
    assert changed(seen[1], weights_of(tmp_path / "run")) == set()
    record = record_of(tmp_path / "run")
    assert (record["status"], record["step"]) == ("finished", 15)  # 4 epochs of 36 images, by ten


def test_a_run_that_ended_early_stays_ended(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"epochs": 50.0, "early_stopping": 1, "keep_model": "best"}
    with monkeypatch.context() as patch:
        with_top1(patch, 0.9, 0.5)
        first = a_run(photos, tmp_path / "run", changes, validation=HELD_OUT)
    before = rows(tmp_path / "run")
    again = a_run(photos, tmp_path / "run", changes, validation=HELD_OUT, resume=True)
    assert rows(tmp_path / "run") == before
    assert again.evaluation == first.evaluation


def test_a_plateau_lowers_the_rate_of_the_steps_that_follow(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_top1(monkeypatch, 0.5, 0.5, 0.5, 0.9)
    changes = {"epochs": 4.0, "schedule": "plateau", "patience": 2, "step_decay": 0.5}
    a_run(photos, tmp_path / "run", changes, validation=HELD_OUT)
    last = {int(row["epoch"] - 1e-9): row["learning_rate"] for row in rows(tmp_path / "run", "train")}
    assert [last[epoch] for epoch in range(4)] == [0.05, 0.05, 0.05, 0.025]


def test_a_warm_up_ends_by_the_training_error_of_the_run(photos: Path, tmp_path: Path) -> None:
    changes = {
        "warmup": "constant",
        "warmup_learning_rate": 0.01,
        "warmup_until_error": 1.0,
        "warmup_steps": 1000,
        "schedule": "constant",
        "epochs": 5.0,
    }
    a_run(photos, tmp_path / "run", changes)
    lines = rows(tmp_path / "run", "train")
    ended = next(place for place, row in enumerate(lines) if row["top1"] > 0)
    rates = [row["learning_rate"] for row in lines]
    assert rates == [0.01] * (ended + 1) + [0.05] * (len(rates) - ended - 1)
    assert 0.05 in rates


# -- averages ------------------------------------------------------------------------------------------


def test_the_average_is_what_is_measured_and_kept(photos: Path, tmp_path: Path) -> None:
    result = a_run(photos, tmp_path / "run", {"ema_decay": 0.9})
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints" / "step-10")
    kept = weights_of(tmp_path / "run")
    assert changed(checkpoint.average, kept) == set()
    assert changed(checkpoint.network, kept) != set()
    assert result.evaluation is not None
    assert (
        deepresidual.evaluate(tmp_path / "run", photos, num_workers=0).summary()
        == result.evaluation.summary()
    )


def test_without_an_average_the_weights_themselves_are_kept(whole: Path) -> None:
    checkpoint = load_checkpoint(whole / "checkpoints" / "step-10")
    assert checkpoint.average == {}
    assert changed(checkpoint.network, weights_of(whole)) == set()


def test_an_average_does_not_change_what_is_trained(photos: Path, tmp_path: Path, whole: Path) -> None:
    a_run(photos, tmp_path / "averaged", {"ema_decay": 0.9})
    ends = [
        load_checkpoint(run / "checkpoints" / "step-10").network for run in (whole, tmp_path / "averaged")
    ]
    assert changed(*ends) == set()


@pytest.mark.parametrize("ema_decay", short([0.0, 0.9], 0.9))
def test_precise_statistics_change_only_what_is_measured(
    photos: Path, tmp_path: Path, ema_decay: float
) -> None:
    for name, images in (("running", 0), ("precise", 48)):
        a_run(photos, tmp_path / name, {"precise_bn": images, "ema_decay": ema_decay})
    trained = [
        load_checkpoint(tmp_path / name / "checkpoints" / "step-10") for name in ("running", "precise")
    ]
    assert changed(trained[0].network, trained[1].network) == set()
    assert changed(trained[0].average, trained[1].average) == set()
    kept = changed(weights_of(tmp_path / "running"), weights_of(tmp_path / "precise"))
    assert {name for name in kept if "num_batches" not in name} == {
        name for name in trained[0].network if "running" in name
    }
    losses = [[row["loss"] for row in rows(tmp_path / name, "train")] for name in ("running", "precise")]
    assert losses[0] == losses[1]


def test_precise_statistics_leave_frozen_stages_as_they_were(photos: Path, tmp_path: Path) -> None:
    a_run(photos, tmp_path / "run", {"precise_bn": 48, "frozen_stages": 2})
    before = deepresidual.load(photos.parent / "start").network.state_dict()
    moved = {name.split(".")[0] for name in changed(dict(before), weights_of(tmp_path / "run"))}
    assert moved == {"layer2", "fc"}


def test_precise_statistics_are_the_same_every_time(photos: Path, tmp_path: Path) -> None:
    changes = {"precise_bn": 20, "stochastic_depth": 0.5}
    for seed, name in ((1, "first"), (2, "second")):
        torch.manual_seed(seed)
        a_run(photos, tmp_path / name, {**changes, "epochs": 1.0})
    assert changed(weights_of(tmp_path / "first"), weights_of(tmp_path / "second")) == set()


# -- how often -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "steps"),
    [
        pytest.param(1.0, [5, 10, 15], marks=pytest.mark.test_all),
        pytest.param(2.0, [10, 15], marks=pytest.mark.test_all),
        (0.5, [3, 5, 8, 10, 12, 15]),
    ],
)
def test_the_run_is_measured_every_so_many_epochs(
    photos: Path, tmp_path: Path, every: float, steps: list[int]
) -> None:
    a_run(photos, tmp_path / "run", {"epochs": 3.0, "evaluate_every": every})
    assert [row["step"] for row in rows(tmp_path / "run", "evaluation")] == steps


def test_the_metrics_count_every_sample_once(whole: Path) -> None:
    lines = rows(whole, "train")
    assert lines[-1]["step"] == 10
    assert len({line["samples"] for line in lines}) == len(lines)
    assert all(
        set(line) >= {"loss", "top1", "samples", "waiting", "memory_bytes", "learning_rate"} for line in lines
    )
