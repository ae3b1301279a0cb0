"""A run that begins with a fitted classifier: what it keeps, and that stopping and timing change no bit."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepresidual.data.source import open_source
from deepresidual.errors import ConfigurationError
from deepresidual.evaluation import Evaluation
from deepresidual.models import load
from deepresidual.recipe import Recipe
from deepresidual.runs.plan import Plan
from deepresidual.training.checkpoint import newest_checkpoint
from deepresidual.training.features import extract_features
from deepresidual.training.launch import train
from deepresidual.training.length import Length, plan_again
from deepresidual.training.loop import RunResult
from deepresidual.training.probe import fit_probe
from deepresidual.training.schedule import num_frozen_stages
from tests.conftest import write_photos
from tests.training.parts import (
    SilentJournal,
    a_plan,
    a_run,
    a_start,
    an_update,
    an_updater,
    changed,
    record_of,
    rows,
    state,
    stop_after,
    weights_of,
)

pytestmark = pytest.mark.usefixtures("no_report")


def of_other_classes(photos: Path) -> Path:
    """Return a model to start from whose classifier is of no use for the photos."""
    start = photos.parent / "start"
    return start if start.exists() else a_start(start, labels=("x", "y", "z"))


def finetuned(photos: Path, out: Path, changes: dict[str, Any] | None = None, **options: Any) -> Any:
    """Fine-tune the tiny network for two epochs, the first of them the warm-up."""
    changes = {"warmup_epochs": 1.0, "early_stopping": 0, **(changes or {})}
    options = {"weights": of_other_classes(photos), **options}
    return a_run(photos, out, changes, recipe="finetune", **options)


# -- the probe -----------------------------------------------------------------------------------------


def test_a_probe_is_the_fit_to_the_features_of_the_first_network(photos: Path, tmp_path: Path) -> None:
    result = a_run(
        photos, tmp_path / "run", {"steps": 0, "flip": True, "head_stages": "last"}, recipe="probe"
    )
    start = load(photos.parent / "start")
    features = extract_features(start, open_source(photos).split("train"))
    probe = fit_probe(features.values, features.labels, 3)
    after = weights_of(tmp_path / "run")
    assert np.array_equal(after["fc.weight"].numpy(), probe.weight)
    assert np.array_equal(after["fc.bias"].numpy(), probe.bias)
    assert changed(state(start.network), after) == {"fc.weight", "fc.bias"}
    assert isinstance(result.evaluation, Evaluation)
    assert (result.status, result.evaluation.split, result.evaluation.count) == ("finished", "test", 15)
    record = record_of(tmp_path / "run")
    assert (record["probe"]["c"], record["probe"]["num_images"]) == (probe.c, 48)
    assert (record["total_steps"], record["status"]) == (0, "finished")


def test_a_head_of_all_stages_is_fitted_saved_and_loaded(photos: Path, tmp_path: Path) -> None:
    a_run(photos, tmp_path / "run", {"steps": 0, "head_stages": "all"}, recipe="probe")
    model = load(tmp_path / "run")
    assert model.network.fc.weight.shape == (3, 2 * (4 + 8))
    config = json.loads((tmp_path / "run/model/config.json").read_text("utf-8"))
    assert config["residual"]["spec"]["head"] == {
        "stages": ["layer1", "layer2"],
        "statistics": ["mean", "std"],
    }


def test_a_probe_that_is_stopped_while_it_looks_goes_on_to_the_same_bits(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_run(photos, tmp_path / "whole", {"steps": 0}, recipe="probe")

    class Stopping(SilentJournal):
        def before(self, label: str, done: int, total: int) -> None:
            if done == 32:
                signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("deepresidual.training.launch.Journal", Stopping)
        stopped = a_run(photos, tmp_path / "run", {"steps": 0}, recipe="probe")
    assert (stopped.status, stopped.exit_code) == ("interrupted", 130)
    finished = a_run(photos, tmp_path / "run", {"steps": 0}, recipe="probe", resume=True)
    assert finished.status == "finished"
    assert not changed(weights_of(tmp_path / "whole"), weights_of(tmp_path / "run"))


# -- what is kept --------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write 30 pictures a class, of which 6 are held out to choose by, and 5 to test."""
    monkeypatch.setattr("deepresidual.training.beginning._FEWEST_TO_HOLD_OUT", 30)
    root = tmp_path / "photos"
    write_photos(root / "train", 30)
    write_photos(root / "test", 5, seed=1)
    return root


def test_the_lowest_held_out_loss_of_probe_epochs_and_average_is_kept(many: Path, tmp_path: Path) -> None:
    result = finetuned(many, tmp_path / "run", {"head_stages": "last"})
    out = tmp_path / "run"
    losses = {row["step"]: row["loss"] for row in rows(out, "evaluation") if row["split"] == "val"}
    (average,) = rows(out, "candidate")
    assert list(losses) == [0, 8, 15]
    model = load(out)
    assert model.metrics["val"]["loss"] == min(*losses.values(), average["loss"])
    assert result.evaluation.split == "test"
    first, kept = state(load(out / "first-model").network), weights_of(out)
    assert changed(first, kept)


def test_few_images_are_all_trained_on_and_the_average_is_kept(photos: Path, tmp_path: Path) -> None:
    # Without a probe to hold it against: on pictures so plain that would be perfect.
    changes = {"average_share": 0.25, "learning_rate": 1e-4, "classifier_init": "random"}
    finetuned(photos, tmp_path / "run", changes)
    out = tmp_path / "run"
    assert record_of(out)["plan"]["recipe"]["keep_model"] == "average"
    assert record_of(out)["plan"]["num_samples"] == 48
    first, kept = state(load(out / "first-model").network), weights_of(out)
    _, checkpoint = newest_checkpoint(out / "checkpoints") or (None, None)
    assert checkpoint is not None
    for name, last in checkpoint.network.items():
        if last.is_floating_point():
            torch.testing.assert_close(kept[name], 0.25 * last + 0.75 * first[name])


def test_a_split_of_ones_own_is_never_chosen_by_where_it_gives_the_final_figure(
    many: Path, tmp_path: Path
) -> None:
    (many / "test").rename(many / "val")
    finetuned(many, tmp_path / "run")
    splits = [row["split"] for row in rows(tmp_path / "run", "evaluation")]
    assert splits == ["tune", "tune", "tune", "val"]


def test_a_collapse_is_noticed_without_images_to_choose_by_and_the_probe_is_kept(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # BN of a network that was never trained has statistics that no batch of images has.
    finetuned(photos, tmp_path / "run", {"head_stages": "last"})
    first, kept = state(load(tmp_path / "run/first-model").network), weights_of(tmp_path / "run")
    assert not changed(first, kept)
    assert "it fits the training images no better than the probe" in " ".join(capsys.readouterr().err.split())


def test_a_classifier_of_the_same_classes_stays(photos: Path, tmp_path: Path) -> None:
    start = a_start(tmp_path / "start")
    finetuned(photos, tmp_path / "run", weights=start)
    first = load(tmp_path / "run/first-model").network
    assert not changed(state(load(start).network), state(first))
    assert "probe" not in record_of(tmp_path / "run")


def test_minutes_give_a_probe_no_updates(photos: Path, tmp_path: Path) -> None:
    a_run(photos, tmp_path / "run", {"steps": 0}, recipe="probe", weights=of_other_classes(photos))
    result = timed(photos, tmp_path / "timed", recipe="probe", minutes=1.0)
    assert (result.status, record_of(tmp_path / "timed")["total_steps"]) == ("finished", 0)
    assert not changed(weights_of(tmp_path / "run"), weights_of(tmp_path / "timed"))


# -- which stages learn --------------------------------------------------------------------------------


def test_stages_open_one_after_the_other() -> None:
    recipe = Recipe(name="tiny", unfreeze_share=0.5)
    frozen = [num_frozen_stages(recipe, 5, step, 90, 10) for step in range(90)]
    assert frozen[:10] == [4] * 10
    assert frozen[10:50] == [3] * 10 + [2] * 10 + [1] * 10 + [0] * 10
    assert set(frozen[50:]) == {0}
    kept = Recipe(name="tiny", unfreeze_share=0.5, frozen_stages=2)
    assert num_frozen_stages(kept, 5, 89, 90, 10) == 2
    assert num_frozen_stages(Recipe(name="tiny", frozen_stages=2), 5, 0, 90, 10) == 2


def test_a_frozen_stage_has_no_gradient_and_keeps_its_statistics() -> None:
    plan = a_plan(unfreeze_share=0.5, steps=8, warmup_steps=2, micro_batch_size=6)
    updater = an_updater(plan)
    moved = []
    for step in range(4):
        before = state(updater.network)
        an_update(updater, plan, step)
        moved.append({name.split(".")[0] for name in changed(before, state(updater.network))})
    assert moved[:2] == [{"layer2", "fc"}] * 2
    assert moved[2] == {"layer1", "layer2", "fc"}


def test_each_stage_learns_at_its_own_rate() -> None:
    updater = an_updater(a_plan(stage_lr_decay=0.5, backbone_lr_scale=0.8))
    rates = {
        name: group["rate"]
        for group in updater.optimizer.param_groups
        for name, parameter in updater.network.named_parameters()
        if any(parameter is one for one in group["params"])
    }
    assert rates["fc.weight"] == 1.0
    assert rates["layer2.0.conv1.weight"] == 0.8
    assert rates["layer1.0.conv1.weight"] == 0.4
    assert rates["conv1.weight"] == 0.2


# -- stopped and timed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 5, 6, 9])
def test_stopped_anywhere_it_goes_on_to_the_same_bits(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    finetuned(photos, tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, step)
        assert finetuned(photos, tmp_path / "run").status == "interrupted"
    assert finetuned(photos, tmp_path / "run", resume=True).status == "finished"
    assert not changed(weights_of(tmp_path / "whole"), weights_of(tmp_path / "run"))
    assert rows(tmp_path / "run", "candidate")[-1]["loss"] == rows(tmp_path / "whole", "candidate")[0]["loss"]


def timed(photos: Path, out: Path, changes: dict[str, Any] | None = None, **options: Any) -> RunResult:
    """Fine-tune the tiny network on 48 pictures for as many of 30 epochs as fit into the minutes."""
    usual = {"weights": of_other_classes(photos), "recipe": "finetune"}
    options = {**usual, "num_workers": 0, "precision": "fp32", **options}
    return train(photos, out=out, changes={"batch_size": 10, **(changes or {})}, **options)


@pytest.fixture
def slow_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an update take 1 s when the run is planned, and 4 s in the warm-up."""
    monkeypatch.setattr("deepresidual.training.length.seconds_a_step", lambda *_args, **_options: 1.0)

    def as_if_slow(
        plan: Plan, length: Length, num_steps: int, _seconds: float, evaluation_seconds: float | None
    ) -> tuple[Plan, Length]:
        return plan_again(plan, length, num_steps, 4.0 * num_steps, evaluation_seconds)

    monkeypatch.setattr("deepresidual.training.launch.plan_again", as_if_slow)


@pytest.mark.usefixtures("slow_updates")
def test_a_run_of_minutes_is_that_of_its_steps_to_the_bit(photos: Path, tmp_path: Path) -> None:
    timed(photos, tmp_path / "timed", minutes=1.0)
    record = record_of(tmp_path / "timed")
    recipe = record["plan"]["recipe"]
    # Of 60 s planned, with what reports and evaluations take; then four times as slow.
    assert (recipe["warmup_steps"], recipe["steps"]) == (5, 14)
    assert (record["step"], record["length"]["is_settled"]) == (14, True)
    lengths = {name: recipe[name] for name in ("steps", "warmup_steps")}
    timed(photos, tmp_path / "counted", lengths)
    assert not changed(weights_of(tmp_path / "timed"), weights_of(tmp_path / "counted"))
    assert [row["loss"] for row in rows(tmp_path / "timed")] == [
        row["loss"] for row in rows(tmp_path / "counted")
    ]


@pytest.mark.usefixtures("slow_updates")
@pytest.mark.parametrize("step", [2, 5, 9])
def test_a_run_of_minutes_goes_on_where_it_was_stopped(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, step)
        assert timed(photos, tmp_path / "run", minutes=1.0).status == "interrupted"
    assert timed(photos, tmp_path / "run", minutes=1.0, resume=True).status == "finished"
    recipe = record_of(tmp_path / "run")["plan"]["recipe"]
    timed(photos, tmp_path / "counted", {name: recipe[name] for name in ("steps", "warmup_steps")})
    assert not changed(weights_of(tmp_path / "run"), weights_of(tmp_path / "counted"))


def test_a_recipe_that_has_nothing_to_choose_by_says_so_where_it_was_asked(
    photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="by the test images would spoil the figure"):
        finetuned(photos, tmp_path / "run", {"keep_model": "best-loss"})
