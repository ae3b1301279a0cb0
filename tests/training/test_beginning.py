"""What a run begins with: weights that were asked for, released ones, bundled ones, or nothing."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepresidual.cli import main
from deepresidual.data.source import SampleSource, open_source
from deepresidual.errors import MachineError, ModelFileError
from deepresidual.models import load, weights
from deepresidual.models.weights import ResolvedWeights
from deepresidual.nn import BODY
from deepresidual.recipe import Recipe
from deepresidual.tasks import task_of
from deepresidual.training.beginning import Beginning, begun, settle_beginning, with_held_out
from deepresidual.training.networks import first_network
from deepresidual.training.options import TrainOptions
from deepresidual.training.plan import settle_learning
from tests.conftest import TINY, write_photos
from tests.detectors import TINY_DETECTOR, write_shapes
from tests.fakes.hub import FakeHub
from tests.training.parts import CPU, a_run, a_start, record_of

ONLINE = "online"


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[str]:
    """Have every release in a test that is called online and none in others; return the names asked for."""
    names: list[str] = []
    is_online = ONLINE in request.node.name

    def resolve(given: str | Path) -> ResolvedWeights:
        names.append(str(given))
        if str(given).startswith("resnet56-cifar10") or Path(given).exists():
            return weights.resolve_weights(given)
        if not is_online:
            raise MachineError(f"{given} is not in the cache and the Hugging Face Hub cannot be reached")
        return ResolvedWeights(
            Path("cached"), str(given), "released", licence="MIT", description=f"{given} (…)"
        )

    monkeypatch.setattr("deepresidual.training.beginning.resolve_weights", resolve)
    return names


def photos_of(root: Path, per_class: int, side: int) -> SampleSource:
    write_photos(root / "train", per_class, side=side)
    write_photos(root / "test", 2, side=side, seed=1)
    return open_source(root)


@pytest.fixture
def large(tmp_path: Path) -> SampleSource:
    return photos_of(tmp_path / "large", 3, 100)


def settled(source: SampleSource, model: Any = None, **options: Any) -> Beginning:
    return settle_beginning(source, model, TrainOptions(**options), CPU)


def test_photos_begin_with_released_weights_online(large: SampleSource, asked_for: list[str]) -> None:
    found = settled(large)
    assert asked_for == ["resnet18.tv_in1k"]
    assert (found.weights, found.recipe, found.begins_with) == ("cached", "finetune", "released")
    assert (found.line, found.licence) == ("resnet18.tv_in1k (…)", "MIT")


def test_a_machine_of_many_cores_begins_with_a_larger_network_online(
    large: SampleSource, asked_for: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepresidual.training.beginning.usable_cores", lambda: 8)
    settled(large)
    assert asked_for == ["resnet50.tv_in1k"]


def test_a_network_begins_with_its_default_release_online(large: SampleSource, asked_for: list[str]) -> None:
    found = settled(large, "resnet34")
    assert (asked_for, found.model) == (["resnet34.tv_in1k"], "resnet34")


def test_where_weights_cannot_be_had_the_bundled_network_begins(
    large: SampleSource, asked_for: list[str]
) -> None:
    found = settled(large)
    assert asked_for == ["resnet18.tv_in1k", "resnet56-cifar10"]
    assert (found.begins_with, found.image_px) == ("bundled", 96)
    why = "resnet18.tv_in1k is not in the cache and the Hugging Face Hub cannot be reached"
    assert found.line == f"resnet56-cifar10 (bundled), since {why}"
    assert "run 'residual fetch resnet18.tv_in1k --to resnet18', copy the folder here" in found.notes[0]
    options = begun(TrainOptions(), found)
    assert (options.recipe, options.image_px) == ("finetune", 96)


def test_a_network_whose_weights_cannot_be_had_begins_from_nothing(
    large: SampleSource, asked_for: list[str]
) -> None:
    found = settled(large, "resnet34")
    assert asked_for == ["resnet34.tv_in1k"]
    assert (found.weights, found.recipe) == ("", None)
    assert found.line.startswith("none, since resnet34.tv_in1k is not in the cache and the Hugging Face")
    assert found.notes[0].endswith("--weights resnet34")


def test_small_images_begin_with_the_bundled_network_and_ask_nobody(
    photos: Path, asked_for: list[str]
) -> None:
    found = settled(open_source(photos))
    assert asked_for == ["resnet56-cifar10"]
    assert found.image_px is None


def test_none_begins_from_nothing(large: SampleSource, asked_for: list[str]) -> None:
    assert settled(large, weights="none") == Beginning(line="none, as asked")
    assert not asked_for


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (TINY, {}, "the network is one's own"),
        (None, {"recipe": "cifar"}, "recipe cifar begins from nothing"),
        (None, {"recipe": "rsb_a3"}, "recipe rsb_a3 begins from nothing"),
        (None, {"recipe": "torchvision_v2"}, "recipe torchvision_v2 begins from nothing"),
        (None, {"recipe": Recipe(name="mine")}, "recipe mine begins from nothing"),
        ("resnet20", {}, "there are no released weights of resnet20"),
    ],
)
def test_what_begins_from_nothing_by_its_source_says_so(
    large: SampleSource, asked_for: list[str], model: Any, options: dict[str, Any], reason: str
) -> None:
    assert settled(large, model, **options).line == f"none: {reason}"
    assert not asked_for


def test_data_with_a_recipe_of_its_own_begins_from_nothing(asked_for: list[str]) -> None:
    assert settled(open_source("digits")).line == "none: the recipe for digits begins from nothing"
    assert settled(open_source("digits"), recipe="finetune").begins_with == "bundled"
    assert asked_for == ["resnet56-cifar10"]


def test_weights_that_do_not_exist_are_an_error(large: SampleSource) -> None:
    with pytest.raises(ModelFileError, match="nothing-like-it"):
        settled(large, weights="nothing-like-it")


# -- boxes -----------------------------------------------------------------------------------------------


@pytest.fixture
def boxes(tmp_path: Path) -> SampleSource:
    return open_source(write_shapes(tmp_path / "boxes", 6, 3, height=100))


def test_photos_with_boxes_begin_with_released_weights_online(
    boxes: SampleSource, asked_for: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepresidual.training.beginning.usable_cores", lambda: 8)
    found = settled(boxes)
    assert asked_for == ["resnet18.tv_in1k"]
    # The recipe stays that of photos with boxes.
    assert (found.weights, found.model, found.recipe, found.image_px) == ("cached", None, None, None)
    assert (found.begins_with, found.licence, found.validation) == ("released", "MIT", 0.0)


@pytest.mark.parametrize("model", ["resnet34", "resnet34-fpn", "resnet34-fpn-slim", "resnet34-c4"])
def test_a_detector_begins_with_the_default_release_of_its_network_online(
    boxes: SampleSource, asked_for: list[str], model: str
) -> None:
    found = settled(boxes, model, recipe="detect_1x")
    assert (asked_for, found.model) == (["resnet34.tv_in1k"], model)


def test_weights_that_are_named_leave_the_recipe_of_boxes(boxes: SampleSource, tmp_path: Path) -> None:
    found = settled(boxes, weights=str(a_start(tmp_path / "start")))
    assert (found.weights, found.recipe) == (str(tmp_path / "start"), None)


def test_a_detector_whose_weights_cannot_be_had_begins_from_nothing(
    boxes: SampleSource, asked_for: list[str]
) -> None:
    found = settled(boxes)
    assert asked_for == ["resnet18.tv_in1k"]  # no bundled network has seen photos
    assert (found.weights, found.model, found.recipe, found.image_px) == ("", None, None, None)
    assert found.line.startswith("none, since resnet18.tv_in1k is not in the cache and the Hugging Face Hub")
    assert "run 'residual fetch resnet18.tv_in1k --to resnet18', copy the folder here" in found.notes[0]
    plan = settle_learning(boxes, None, begun(TrainOptions(), found))
    assert (plan.model, plan.recipe.name, plan.recipe.batch_norm) == ("resnet18-fpn-tiny", "detect", "train")


@pytest.mark.test_all
def test_the_release_becomes_the_network_of_the_detector(boxes: SampleSource, hub: FakeHub) -> None:
    hub.add_timm("timm/resnet18.tv_in1k", "resnet18.tv_in1k")
    found = settled(boxes)
    assert (found.begins_with, found.name.partition("@")[0]) == ("released", "resnet18.tv_in1k")
    plan = settle_learning(boxes, None, begun(TrainOptions(), found))
    assert (plan.model, plan.recipe.name, plan.preprocess.fit) == ("resnet18-fpn-slim", "detect", "whole")
    first = first_network(plan, task_of(plan), Path(found.weights)).state_dict()
    theirs = load(found.weights).network.state_dict()
    assert all(torch.equal(first[f"{BODY}{name}"], theirs[name]) for name in theirs if name[:3] != "fc.")


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (TINY_DETECTOR, {}, "the network is one's own"),
        ("resnet18-fpn-tiny", {}, "there are no released weights of resnet18-fpn-tiny"),
        ("resnet20-c4", {}, "there are no released weights of resnet20-c4"),
        (None, {"recipe": "digit_scenes"}, "recipe digit_scenes begins from nothing"),
    ],
)
def test_a_detector_that_begins_from_nothing_says_why(
    boxes: SampleSource, asked_for: list[str], model: Any, options: dict[str, Any], reason: str
) -> None:
    assert settled(boxes, model, **options).line == f"none: {reason}"
    assert not asked_for


def test_small_images_with_boxes_begin_from_nothing(tmp_path: Path, asked_for: list[str]) -> None:
    small = open_source(write_shapes(tmp_path / "boxes", 6, 3))
    assert settled(small).line == "none: there are none for boxes in images of up to 64 px"
    scenes = settled(open_source("digit-scenes"))
    assert scenes.line == "none: the recipe for digit-scenes begins from nothing"
    assert not asked_for


# -- what is held out ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("per_class", "share"), [(29, 0.0), (30, 0.2)])
def test_a_fifth_of_each_class_is_held_out_where_that_is_enough_to_choose_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_class: int, share: float
) -> None:
    monkeypatch.setattr("deepresidual.training.beginning._FEWEST_TO_HOLD_OUT", 30)
    source = photos_of(tmp_path / "photos", per_class, 8)
    found = settled(source)
    assert found.validation == share
    held_out = with_held_out(source, TrainOptions(), found)
    if share:
        assert np.bincount(held_out.split("val").labels).tolist() == [6] * 3
        assert np.bincount(held_out.split("train").labels).tolist() == [24] * 3
        train, val = held_out.split("train"), held_out.split("val")
        keys = [split.key(index) for split in (train, val) for index in range(len(split))]
        assert sorted(keys) == sorted(source.split("train").key(index) for index in range(90))
    else:
        assert held_out is source


def test_nothing_is_held_out_where_the_data_or_the_user_says_how(tmp_path: Path) -> None:
    source = photos_of(tmp_path / "photos", 30, 8)
    assert settled(source, validation=0.1).validation == 0.0
    assert settled(source, recipe="probe").validation == 0.0
    assert settled(source, changes={"keep_model": "last"}).validation == 0.0
    with_val = dataclasses.replace(source, splits={**source.splits, "val": source.split("test")})
    assert settled(with_val).validation == 0.0


# -- the record ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_report")
def test_a_resumed_run_begins_with_what_it_began_with(photos: Path, tmp_path: Path) -> None:
    start = a_start(tmp_path / "start")
    a_run(photos, tmp_path / "run", weights=start, recipe="finetune")
    recorded = record_of(tmp_path / "run")["begins_with"]
    assert (recorded["weights"], recorded["recipe"]) == (str(start), None)
    assert a_run(photos, tmp_path / "run", weights=None, recipe="finetune", resume=True).status == "finished"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_weights_are_fetched_leaves_at_once_and_no_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    fetched: list[str] = []

    def fetch(given: str | Path) -> ResolvedWeights:
        signal.raise_signal(number)
        fetched.append(str(given))
        raise AssertionError("nobody waits for this")

    monkeypatch.setattr("deepresidual.training.beginning.resolve_weights", fetch)
    try:
        left = main(["train", str(photos), "--out", str(tmp_path / "run")])
    except SystemExit as end:
        left = int(end.code or 0)
    assert (left, fetched, (tmp_path / "run").exists()) == (code, [], False)
