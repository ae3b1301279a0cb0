"""The plan: what is settled before a run begins, what is refused, what is not settled again on resume."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional

from deepresidual import zoo
from deepresidual.backends.classifier import SettledPrecision
from deepresidual.data.loader import training_view
from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.validation import hold_out
from deepresidual.errors import ConfigurationError, DataError, MissingDependencyError
from deepresidual.models import TorchClassifier, create, save
from deepresidual.preprocess import MeanImage
from deepresidual.recipe import Augment, Recipe
from deepresidual.recipe.recipes import NAMES, named_recipe
from deepresidual.runs.plan import Plan
from deepresidual.runtime.random import SampleRandom
from deepresidual.tasks import Classification
from deepresidual.training.compiling import resolve_compile
from deepresidual.training.options import TrainOptions
from deepresidual.training.plan import make_plan, usual_side_px
from tests.conftest import COLORS, SMALL_INPUT, TINY
from tests.recipe.test_recipe import in_old_names
from tests.training.parts import CPU, a_plan, a_start


@pytest.fixture
def source(photos: Path) -> SampleSource:
    return open_source(photos)


def planned(source: SampleSource, recorded: Plan | None = None, **options: Any) -> Plan:
    model = options.pop("model", "resnet20")
    asked = TrainOptions(**{"image_px": 8, "precision": "fp32", **options})
    return make_plan(source, model, asked, CPU, recorded=recorded)


# -- recipes -------------------------------------------------------------------------------------------


def test_weights_are_fine_tuned_where_no_recipe_is_named(source: SampleSource, tmp_path: Path) -> None:
    plan = planned(source, weights=a_start(tmp_path / "start"), model=None, image_px=None)
    assert plan.recipe.name == "finetune"


def test_a_recipe_of_ones_own_is_taken_as_it_is(source: SampleSource) -> None:
    own = Recipe(name="own", epochs=3, train_px=12)
    assert planned(source, recipe=own).recipe == own


def test_fields_of_the_recipe_reach_the_network(source: SampleSource) -> None:
    plan = planned(
        source,
        model="resnet18",
        image_px=32,
        changes={"stochastic_depth": 0.2, "zero_init_last_bn": True},
        activation_checkpointing=True,
    )
    assert plan.backbone.stochastic_depth == 0.2
    assert plan.backbone.zero_init_last_bn
    assert plan.backbone.activation_checkpointing


def test_a_run_goes_on_with_the_network_that_its_name_meant_when_it_began(source: SampleSource) -> None:
    now = planned(source, model="resnet164.preact")
    assert now.backbone.stride_on == "1x1"
    fields = now.to_dict()
    before = Plan.from_dict({**fields, "spec": {**fields["spec"], "stride_on": "3x3"}})
    again = planned(source, model="resnet164.preact", recorded=before)
    assert again.backbone.stride_on == "3x3"
    assert before.differences(again) == []
    other = planned(source, model="resnet164", recorded=before)
    assert other.backbone.stride_on == "1x1"


def test_options_of_the_network_are_not_taken_from_the_record(source: SampleSource) -> None:
    before = planned(source, changes={"stochastic_depth": 0.2}, activation_checkpointing=True)
    again = planned(source, recorded=before)
    assert again.backbone.stochastic_depth == 0
    assert not again.backbone.activation_checkpointing


# -- filters ------------------------------------------------------------------------------------------


def test_a_recipes_filter_is_that_of_training_and_of_evaluation(source: SampleSource) -> None:
    plan = planned(source, model="resnet18", recipe="fb90", image_px=None, changes={"epochs": 1.0})
    assert plan.preprocess.interpolation == "bicubic"
    assert (plan.preprocess.crop_px, plan.preprocess.resize_px) == (224, 256)
    changed = planned(source, model="resnet18", recipe="fb90", changes={"interpolation": "bilinear"})
    assert changed.preprocess.interpolation == "bilinear"


def test_a_recipe_without_a_filter_leaves_that_of_the_weights(source: SampleSource, tmp_path: Path) -> None:
    for interpolation in ("bilinear", "bicubic"):
        record = dataclasses.replace(SMALL_INPUT, interpolation=interpolation)
        start = tmp_path / interpolation
        save(TorchClassifier(create(TINY), tuple(COLORS), record), start)
        plan = planned(source, weights=start, model=None, image_px=None)
        assert plan.preprocess.interpolation == interpolation


@pytest.mark.parametrize("recipe", ["rsb_a2", "fb90"])
def test_training_views_are_resized_by_the_recipes_filter(source: SampleSource, recipe: str) -> None:
    plan = planned(source, model="resnet18", recipe=recipe, image_px=None)
    linear = dataclasses.replace(plan.preprocess, interpolation="bilinear")
    augment = Augment("random-resized")
    content = source.split("train").read(0).content
    random = SampleRandom(0, 0, 0)
    cubic = training_view(content, augment, random, plan.preprocess, 64)
    assert not np.array_equal(cubic, training_view(content, augment, random, linear, 64))


# -- runs of earlier versions -------------------------------------------------------------------------


def earlier(plan: Plan, **recipe: Any) -> Plan:
    """Return a plan as it was recorded before recipes had a filter, a fill and a mean of BCE."""
    fields = json.loads(json.dumps(plan.to_dict()))
    fields["recipe"].update(recipe)
    for name in ("interpolation", "bce_sum"):
        fields["recipe"].pop(name, None)
    fields["recipe"]["augment"].pop("pad_fill", None)
    return Plan.from_dict(fields)


def test_a_record_under_old_names_is_the_same_plan(source: SampleSource) -> None:
    plan = planned(source, changes={"growth_share": 0.7, "step_decay": 0.2})
    fields = json.loads(json.dumps(plan.to_dict()))
    fields["recipe"] = in_old_names(fields["recipe"])
    assert {"growing", "decay"} < set(fields["recipe"])
    assert plan.differences(Plan.from_dict(fields)) == []
    assert Plan.from_dict(fields).recipe.fingerprint() == plan.recipe.fingerprint()


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("rsb", "resnet1k"))])
def test_fields_that_came_later_are_not_in_the_record_of_recipes_without_them(
    source: SampleSource, name: str
) -> None:
    fields = named_recipe(name, zoo.entry("resnet20").spec).to_dict()
    assert "bce_sum" not in fields
    assert "pad_fill" not in fields["augment"]
    assert ("interpolation" in fields) == (name == "fb90")


def test_a_missing_field_has_the_meaning_of_then(source: SampleSource) -> None:
    before = earlier(planned(source))
    assert (before.recipe.interpolation, before.recipe.augment.pad_fill) == (None, "black")
    assert not before.recipe.bce_sum
    summed = earlier(planned(source, changes={"loss": "bce"}))
    assert summed.recipe.bce_sum


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("cifar2016", {"norm_weight_decay": None, "bias_weight_decay": None, "subtract_mean": "channel"}),
        ("imagenet2016", {"norm_weight_decay": None, "bias_weight_decay": None}),
        ("fb90", {}),
        ("rsb_a1", {"clip_norm": None, "zero_init_last_bn": False, "resize_px": 236}),
        ("rsb_a3", {"clip_norm": None, "zero_init_last_bn": False, "resize_px": 236}),
    ],
)
def test_a_run_of_a_recipe_that_was_mended_goes_on_as_it_began(
    source: SampleSource, name: str, fields: dict[str, Any]
) -> None:
    options: dict[str, Any] = {"model": "resnet18", "recipe": name, "image_px": None}
    now = planned(source, **options)
    preprocess: dict[str, Any] = {"interpolation": "bilinear"}
    if "resize_px" in fields:
        preprocess["resize_px"] = fields["resize_px"]
    before = earlier(
        dataclasses.replace(
            now,
            spec=dataclasses.replace(now.backbone, zero_init_last_bn=False),
            preprocess=dataclasses.replace(now.preprocess, **preprocess),
        ),
        **fields,
    )
    assert before.differences(planned(source, recorded=before, **options)) == []
    other = planned(source, recorded=before, **{**options, "changes": {"learning_rate": 0.3}})
    assert any("learning_rate" in line for line in before.differences(other))


def test_a_run_with_smoothed_bce_goes_on_with_the_loss_that_it_had(source: SampleSource) -> None:
    changes = {"loss": "bce", "label_smoothing": 0.1, "bce_threshold": 0.2}
    before = earlier(planned(source, changes=changes))
    assert before.differences(planned(source, changes=changes, recorded=before)) == []
    task = Classification(a_plan(**{name: getattr(before.recipe, name) for name in (*changes, "bce_sum")}))
    logits = torch.tensor([[0.5, -0.5, 0.25]])
    for share in (0.15, 0.18, 0.19, 0.21, 0.5):
        targets = torch.tensor([[share, 1 - share, 0.0]])
        smoothed = targets * 0.9 + 0.1 / 3
        then = functional.binary_cross_entropy_with_logits(logits, (smoothed > 0.2).float(), reduction="sum")
        assert float(task.loss_of(logits, targets)) == pytest.approx(float(then), rel=1e-6)


def test_zero_init_is_refused_before_a_run_in_plain_networks(source: SampleSource) -> None:
    with pytest.raises(ConfigurationError, match="zero_init_last_bn is true and shortcut is 'none'"):
        planned(source, model="plain20", changes={"zero_init_last_bn": True})


def test_a_run_with_zero_init_from_before_it_was_refused_goes_on(source: SampleSource) -> None:
    changes = {"zero_init_last_bn": True}
    fields = planned(source, model="resnet20").to_dict()
    recipe = {**fields["recipe"], **changes}
    before = Plan.from_dict({**fields, "recipe": recipe, "spec": {**fields["spec"], **changes}})
    assert before.differences(planned(source, changes=changes, recorded=before)) == []


# -- sizes of images -----------------------------------------------------------------------------------


def test_training_images_are_as_large_as_evaluated_ones_unless_told(source: SampleSource) -> None:
    assert planned(source).train_px == 8
    plan = planned(source, changes={"train_px": 12})
    assert (plan.train_px, plan.preprocess.crop_px) == (12, 8)


def test_the_sizes_of_a_recipe_are_those_of_its_run(source: SampleSource) -> None:
    plan = planned(source, recipe="rsb_a3", model="resnet18", image_px=None)
    assert (plan.train_px, plan.preprocess.crop_px, plan.preprocess.resize_px) == (160, 224, 235)


def test_another_input_takes_the_place_of_the_sizes_of_a_named_recipe(source: SampleSource) -> None:
    # Else a network for 32 px would be trained on 176 px, in silence.
    plan = planned(source, recipe="torchvision_v2", model="resnet18", image_px=32)
    assert (plan.train_px, plan.preprocess.crop_px) == (32, 32)


def test_the_input_that_a_recipe_is_for_keeps_its_sizes(source: SampleSource) -> None:
    plan = planned(source, recipe="cifar_fast", image_px=28)
    assert (plan.recipe.start_px, plan.train_px) == (12, 28)
    assert planned(source, recipe="cifar_fast", image_px=None).recipe == plan.recipe


def test_images_that_are_smaller_than_the_start_of_a_named_recipe_do_not_grow(source: SampleSource) -> None:
    smaller = {"crop_px": 8, "resize_px": 8}
    plan = planned(source, recipe="cifar_fast", image_px=None, changes=smaller)
    assert {plan.side_px(step) for step in range(plan.total_steps)} == {8}


def test_a_recipe_of_ones_own_cannot_shrink_its_images(source: SampleSource) -> None:
    with pytest.raises(
        ConfigurationError, match="start_px is 16 and training images end with 12 px; expected"
    ):
        planned(source, recipe=Recipe(name="own", start_px=16, train_px=12))


def test_sizes_that_are_asked_for_beside_the_input_stay(source: SampleSource) -> None:
    plan = planned(
        source,
        recipe="torchvision_v2",
        model="resnet18",
        image_px=32,
        changes={"train_px": 24, "resize_px": 40},
    )
    assert (plan.train_px, plan.preprocess.crop_px, plan.preprocess.resize_px) == (24, 32, 40)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_px": 16}, "image_px is 8 and crop_px is 16; expected one of both"),
        (
            {"start_px": 16},
            "start_px is 16 and training images end with 8 px; expected a start_px of at most 8",
        ),
        (
            {"subtract_mean": "pixel", "train_px": 12},
            "subtract_mean is 'pixel', and training images have 12 px and evaluated ones 8 px; expected",
        ),
        (
            {"subtract_mean": "pixel", "start_px": 4},
            "subtract_mean is 'pixel', and training images have 4 to 8 px and evaluated ones 8 px; expect",
        ),
        ({"frozen_stages": 5}, r"frozen_stages is 5; expected 0 to 4 \(the stem and 3 stages\)"),
        (
            {"crop": "scale-jitter", "min_side_px": 6, "max_side_px": 9},
            "min_side_px is 6 and the training images have 8 px; expected a min_side_px of at least 8",
        ),
        (
            {"batch_size": 4, "micro_batch_size": 1, "start_px": 4},
            "micro_batch_size 1 at 4 px leaves batch normalization one value a channel; raise --micro-b",
        ),
        (
            {"batch_size": 1, "train_px": 4},
            "batch_size 1 at 4 px leaves batch normalization one value a channel; raise --batch-size",
        ),
    ],
)
def test_what_would_fail_later_is_refused_now(
    source: SampleSource, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        planned(source, changes=changes)


def test_colours_cannot_be_shifted_in_gray_images() -> None:
    with pytest.raises(
        ConfigurationError, match="pca_lighting is 0.1 and the network reads gray images; exp"
    ):
        planned(open_source("digits"), image_px=None, changes={"pca_lighting": 0.1})


def test_frozen_bn_may_see_one_value_a_channel(source: SampleSource) -> None:
    plan = planned(source, image_px=4, changes={"batch_size": 1, "batch_norm": "frozen"})
    assert plan.recipe.batch_size == 1


def test_a_mean_image_of_the_weights_needs_its_own_size(source: SampleSource, tmp_path: Path) -> None:
    image = MeanImage.from_array(np.full((8, 8, 3), 0.5, dtype=np.float32))
    record = dataclasses.replace(SMALL_INPUT, mean=image.average(), mean_image=image)
    save(TorchClassifier(create(TINY), tuple(COLORS), record), tmp_path / "start")
    options: dict[str, Any] = {"weights": tmp_path / "start", "model": None, "recipe": "cifar"}
    assert planned(source, **options).preprocess.mean_image == image
    with pytest.raises(
        ConfigurationError, match="the mean image of the weights has 8 px and training images have 12 px; exp"
    ):
        planned(source, **options, changes={"train_px": 12})
    assert planned(source, **{**options, "image_px": 12}).preprocess.mean_image is None


# -- measured means ------------------------------------------------------------------------------------


def pixels(photos: Path) -> np.ndarray[Any, Any]:
    """Return what a network of 8 px sees of the training images, on the scale 0 to 1."""
    views = []
    for path in sorted((photos / "train").rglob("*.png")):
        with Image.open(path) as image:
            views.append(SMALL_INPUT.center_view(np.asarray(image)))
    return np.stack(views).astype(np.float64) / 255


@pytest.fixture
def start(tmp_path: Path) -> Path:
    return a_start(tmp_path / "start")


def test_the_mean_of_a_channel_is_numpys(source: SampleSource, photos: Path, start: Path) -> None:
    plan = planned(source, weights=start, model=None, recipe="cifar", changes={"subtract_mean": "channel"})
    views = pixels(photos)
    assert plan.preprocess.mean == pytest.approx(views.mean(axis=(0, 1, 2)).tolist())
    assert plan.preprocess.std == pytest.approx(views.std(axis=(0, 1, 2)).tolist())
    assert plan.preprocess.mean_image is None


def test_the_mean_of_a_pixel_is_numpys(source: SampleSource, photos: Path, start: Path) -> None:
    plan = planned(source, weights=start, model=None, recipe="cifar", changes={"subtract_mean": "pixel"})
    views = pixels(photos)
    assert plan.preprocess.mean_image is not None
    np.testing.assert_allclose(plan.preprocess.mean_image.to_array(), views.mean(axis=0), rtol=1e-6)
    assert plan.preprocess.mean == pytest.approx(views.mean(axis=(0, 1, 2)).tolist())
    assert plan.preprocess.std == pytest.approx(views.std(axis=(0, 1, 2)).tolist())


def test_held_out_images_are_not_in_the_mean(source: SampleSource) -> None:
    changes = {"subtract_mean": "channel"}
    whole = planned(source, changes=changes)
    divided = planned(hold_out(source, 0.3), changes=changes, validation=0.3)
    assert whole.preprocess.mean != divided.preprocess.mean


def test_images_without_variation_are_not_divided_by_nothing(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("black", "blank"):
            folder = tmp_path / "flat" / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (12, 12), (7, 7, 7)).save(folder / "1.png")
    plan = planned(open_source(tmp_path / "flat"), changes={"subtract_mean": "channel"})
    assert plan.preprocess.std == pytest.approx((1 / 255,) * 3)


def test_an_image_that_cannot_be_read_is_named_or_left_out_of_the_mean(photos: Path) -> None:
    (photos / "train" / "red" / "red-003.png").write_bytes(b"no picture")
    changes = {"subtract_mean": "channel"}
    from deepresidual.errors import DataError

    with pytest.raises(DataError, match=r"train/red/red-003\.png: .*; repair or remove this file"):
        planned(open_source(photos), changes=changes)
    assert planned(open_source(photos), changes=changes, bad_samples="skip").num_samples == 48


# -- going on ------------------------------------------------------------------------------------------


def test_a_measured_mean_is_not_measured_again(source: SampleSource, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = planned(source, changes={"subtract_mean": "channel"})
    monkeypatch.setattr(
        "deepresidual.training.plan.measured_preprocess", lambda *_, **__: pytest.fail("again")
    )
    again = planned(source, recorded, changes={"subtract_mean": "channel"})
    assert recorded.differences(again) == []


def test_another_size_shows_beside_a_measured_mean(source: SampleSource) -> None:
    recorded = planned(source, changes={"subtract_mean": "channel"})
    again = planned(source, recorded, changes={"subtract_mean": "channel"}, image_px=12)
    assert recorded.differences(again) == [
        "preprocess.crop_px: 8 → 12",
        "preprocess.resize_px: 8 → 12",
    ]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_an_automatic_precision_is_the_recorded_one(source: SampleSource, precision: str) -> None:
    recorded = dataclasses.replace(planned(source), precision=precision)  # type: ignore[arg-type]
    assert planned(source, recorded, precision="auto").precision == precision


def test_a_precision_that_is_asked_for_is_not_the_recorded_one(source: SampleSource) -> None:
    recorded = planned(source, precision="bf16")
    assert recorded.differences(planned(source, recorded, precision="fp32")) == ["precision: bf16 → fp32"]


@pytest.mark.parametrize("compiled", [True, False])
def test_whether_to_compile_is_recorded(source: SampleSource, compiled: bool) -> None:
    recorded = dataclasses.replace(planned(source), compiled=compiled)
    assert planned(source, recorded, compile="auto").compiled is compiled
    assert planned(source, recorded, compile="no").compiled is False


# -- weights -------------------------------------------------------------------------------------------


def test_weights_of_another_architecture_are_refused(source: SampleSource, tmp_path: Path) -> None:
    start = a_start(tmp_path / "start")
    with pytest.raises(
        ConfigurationError,
        match="the weights are of another network and the model is resnet20; leave out --m",
    ):
        planned(source, weights=start, model="resnet20")


def test_the_model_is_that_of_the_weights(source: SampleSource, tmp_path: Path) -> None:
    from deepresidual import zoo

    start = a_start(tmp_path / "start", spec=zoo.entry("resnet20").spec)
    plan = planned(source, weights=start, model=None)
    assert plan.model == "resnet20"
    assert planned(source, weights=start, model="resnet20").weights == plan.weights


def test_a_network_of_ones_own_has_no_name_of_the_zoo(source: SampleSource, tmp_path: Path) -> None:
    plan = planned(source, weights=a_start(tmp_path / "start"), model=None)
    assert (plan.model, plan.spec) == ("custom", TINY)


def test_a_spec_is_a_network_too(source: SampleSource, tmp_path: Path) -> None:
    from deepresidual import zoo

    plan = planned(source, model=TINY)
    assert (plan.model, plan.spec) == ("custom", TINY)
    known = zoo.entry("resnet20").spec
    assert planned(source, model=known) == planned(source, model="resnet20")
    with pytest.raises(
        ConfigurationError, match="the weights are of another network and the model is resnet20"
    ):
        planned(source, weights=a_start(tmp_path / "start"), model=known)


def test_the_preprocessing_is_that_of_the_weights(source: SampleSource, tmp_path: Path) -> None:
    plan = planned(source, weights=a_start(tmp_path / "start"), model=None, image_px=None)
    assert plan.preprocess == SMALL_INPUT


def test_other_weights_show_in_the_plan(source: SampleSource, tmp_path: Path) -> None:
    start, other = a_start(tmp_path / "start"), tmp_path / "other"
    save(TorchClassifier(create(TINY, seed=99), tuple(COLORS), SMALL_INPUT), other)
    first = planned(source, weights=start, model=None)
    second = planned(source, weights=other, model=None)
    assert first.weights != second.weights
    assert len(first.differences(second)) == 1


# -- choosing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"keep_model": "best"}, "choosing the best weights or the end"),
        ({"early_stopping": 3}, "choosing the best weights or the end"),
        ({"schedule": "plateau"}, "plateau"),
    ],
)
def test_nothing_is_chosen_by_the_test_images(
    source: SampleSource, changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(
        ConfigurationError,
        match=f"{what} by the test images would spoil the figure that they are for; hold out training images",
    ):
        planned(source, changes=changes)
    # A fifth of 16 of each of three classes.
    assert planned(hold_out(source, 0.2), validation=0.2, changes=changes).num_held_out == 9


# -- compiling -----------------------------------------------------------------------------------------


def compiles(choice: str = "auto", device: str = "cpu", **changes: Any) -> bool:
    import torch

    usual: dict[str, Any] = {
        "image_px": 32,
        "num_sizes": 1,
        "batch_size": 128,
        "total_steps": 64_000,
        "num_cores": 2,
    }
    spec = dataclasses.replace(
        create("resnet20").spec,
        **{
            name: changes.pop(name)
            for name in ("stochastic_depth", "activation_checkpointing")
            if name in changes
        },
    )
    return resolve_compile(choice, torch.device(device), spec, **{**usual, **changes})  # type: ignore[arg-type]


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),  # the paper's run: 2 PFLOP, hours on two cores
        ({"total_steps": 500}, False),
        ({"num_cores": 10_000}, False),
        ({"num_sizes": 1000}, False),
        ({"image_px": 8}, True),
        ({"image_px": 64}, True),
        ({"image_px": 96}, False),  # convolutions are all that counts
        ({"image_px": 8, "batch_size": 8}, False),
        ({"stochastic_depth": 0.1}, False),
        ({"activation_checkpointing": True}, False),
        ({"device": "cuda"}, True),
        ({"device": "cuda", "total_steps": 4999}, False),
        ({"device": "cuda", "total_steps": 5000}, True),
        ({"device": "mps"}, False),
        ({"choice": "no"}, False),
        ({"choice": "yes", "total_steps": 1}, True),
    ],
)
def test_compiling_is_a_rule(changes: dict[str, Any], expected: bool) -> None:
    assert compiles(**changes) is expected


@pytest.mark.usefixtures("no_compiler")
def test_without_a_compiler_nothing_is_compiled_on_the_cpu() -> None:
    assert not compiles()
    assert compiles(device="cuda")


@pytest.mark.usefixtures("no_compiler")
def test_asking_to_compile_without_a_compiler_says_what_to_install() -> None:
    with pytest.raises(
        MissingDependencyError, match="compiling for the CPU needs a C.. compiler, and none is installed; ins"
    ):
        compiles("yes")


def test_a_short_run_is_float32_and_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: object, **__: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr("deepresidual.training.plan.settle_precision", measure)
    plan = planned(open_source("digits"), model="resnet20", image_px=16, precision="auto")
    assert (plan.precision, plan.precision_reason) == ("fp32", "a short run")


def test_a_long_run_is_measured_at_the_size_of_its_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def measure(*_: object, image_px: int) -> SettledPrecision:
        asked.append(image_px)
        return SettledPrecision("bf16", "measured: faster")

    monkeypatch.setattr("deepresidual.training.plan.settle_precision", measure)
    changes = {"epochs": 2000}  # 10^14 operations
    plan = planned(open_source("digits"), model="resnet20", image_px=16, precision="auto", changes=changes)
    assert (plan.precision, plan.precision_reason, asked) == ("bf16", "measured: faster", [16])


def test_a_damaged_photo_does_not_hide_the_usual_side(photos: Path) -> None:
    files = sorted((photos / "train" / "blue").iterdir())
    whole = usual_side_px(open_source(photos))
    files[0].write_bytes(files[0].read_bytes()[:60])
    assert usual_side_px(open_source(photos)) == whole
    for file in files:
        file.write_bytes(b"")
    with pytest.raises(DataError, match="blue-000.png"):
        usual_side_px(open_source(photos))
