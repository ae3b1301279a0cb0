"""Every recipe has the numbers of its source, and Recipe's defaults say what it leaves out."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from deepresidual import zoo
from deepresidual.data.sampler import steps_until_epoch
from deepresidual.recipe import Augment, Mix, Recipe
from deepresidual.recipe.recipes import NAMES, left_out, named_recipe
from deepresidual.training.schedule import learning_rate

RESNET50 = zoo.entry("resnet50").spec

# What "as in the paper" means for every net of both papers (2015, sections 3.4 and 4.2).
PAPER = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4}
CIFAR_AUGMENT = Augment(crop="pad", pad_px=4, flip=True)
PAPER_DECAY = {"norm_weight_decay": 0.0, "bias_weight_decay": 0.0}
# fb.resnet.torch, getParameters(): weights and biases of everything.
TORCH_DECAY = {"norm_weight_decay": None, "bias_weight_decay": None}
FB90 = {
    **PAPER,
    **TORCH_DECAY,
    "nesterov": True,
    "epochs": 90,
    "batch_size": 256,
    "schedule": "step",
    "milestones": (30 / 90, 60 / 90),
    "step_decay": 0.1,
    "warmup_epochs": 0,
    "interpolation": "bicubic",
    "subtract_mean": "fixed",
    "augment": Augment("random-resized", flip=True, min_area=0.08, color_jitter=0.4, pca_lighting=0.1),
}
SCALE_JITTER = Augment(crop="scale-jitter", flip=True, min_side_px=256, max_side_px=480, pca_lighting=0.1)
STRIKES_BACK = {
    "bce_threshold": 0.2,
    "optimizer": "lamb",
    "batch_size": 2048,
    "loss": "bce",
    "schedule": "cosine",
    "final_learning_rate": 0.0,
    "warmup": "linear",
    "warmup_epochs": 5,
    "norm_weight_decay": 0.0,
    "bias_weight_decay": 0.0,
    "crop_px": 224,
    "resize_px": 235,  # floor(224 / 0.95), as timm's create_transform
    "interpolation": "bicubic",
    "bce_sum": False,
    "clip_norm": 1.0,
    "zero_init_last_bn": True,
}

DETECTRON2 = {
    "batch_size": 16,
    "learning_rate": 0.02,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "norm_weight_decay": 0.0,
    "schedule": "step",
    "step_decay": 0.1,
    "warmup": "linear",
    "warmup_steps": 1000,
    "warmup_learning_rate": 0.02 / 1000,
    "batch_norm": "frozen",
    "frozen_stages": 2,
    "crop_px": 1333,
    "resize_px": 800,
    "augment": Augment("multi-scale", flip=True, min_side_px=640, max_side_px=800),
}

SOURCES: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 20, "batch_size": 64, "schedule": "cosine", "augment": Augment("pad", pad_px=2)},
    "cifar_fast": {
        **PAPER,
        "epochs": 15,
        "batch_size": 128,
        "schedule": "cosine",
        "nesterov": True,
        "weight_decay": 5e-4,
        "evaluate_every": 5,
        "start_px": 12,
        "crop_px": 28,
        "resize_px": 28,
        "growth_share": 0.9,
        "augment": CIFAR_AUGMENT,
    },
    "cifar": {**PAPER, "epochs": 30, "batch_size": 128, "schedule": "cosine", "augment": CIFAR_AUGMENT},
    "photos": {
        **PAPER,
        "epochs": 30,
        "batch_size": 32,
        "learning_rate": 0.1 * 32 / 256,
        "augment": Augment("random-resized", flip=True, min_area=0.25),
    },
    "probe": {"steps": 0, "classifier_init": "probe", "keep_model": "last", "augment": Augment(flip=True)},
    "finetune": {
        "epochs": 30,
        "classifier_init": "probe",
        "stage_lr_decay": 0.7,
        "unfreeze_share": 0.2,
        "keep_model": "best-loss",
        "average_share": 0.7,
        "early_stopping": 8,
        "batch_norm": "train",
        "augment": Augment("random-resized", flip=True, min_area=0.25),
    },
    "cifar2015": {
        **PAPER,
        "steps": 64_000,
        "batch_size": 128,
        "norm_weight_decay": 0.0,
        "bias_weight_decay": 0.0,
        "schedule": "step",
        "milestones": (32_000 / 64_000, 48_000 / 64_000),
        "step_decay": 0.1,
        "subtract_mean": "pixel",
        "augment": CIFAR_AUGMENT,
    },
    "cifar2016": {
        **PAPER,
        "steps": 64_000,
        "batch_size": 128,
        **PAPER_DECAY,
        "schedule": "step",
        "milestones": (0.5, 0.75),
        "step_decay": 0.1,
        "warmup": "constant",
        "warmup_learning_rate": 0.01,
        "warmup_steps": 400,
        "warmup_until_error": None,
        "subtract_mean": "pixel",
        "augment": CIFAR_AUGMENT,
    },
    "resnet1k_cifar": {
        **PAPER,
        **TORCH_DECAY,
        "nesterov": True,
        "epochs": 200,
        "steps": None,
        "batch_size": 64,
        "schedule": "step",
        "milestones": (80 / 200, 121 / 200),
        "step_decay": 0.1,
        "warmup_epochs": 0,
        "warmup_steps": None,
        "subtract_mean": "channel",
        "augment": Augment(crop="pad", pad_px=4, flip=True, pad_fill="mean"),
    },
    "resnet1k_imagenet": {**FB90, "train_px": 224, "crop_px": 320, "resize_px": 320},
    "imagenet2015": {
        **PAPER,
        "steps": 600_000,
        "batch_size": 256,
        "norm_weight_decay": 0.0,
        "bias_weight_decay": 0.0,
        "schedule": "plateau",
        "step_decay": 0.1,
        "warmup_epochs": 0,
        "subtract_mean": "pixel",
        "augment": SCALE_JITTER,
    },
    "imagenet2016": {
        **PAPER,
        **PAPER_DECAY,
        "epochs": 90,
        "steps": None,
        "subtract_mean": "channel",
        "batch_size": 256,
        "schedule": "step",
        "milestones": (30 / 90, 60 / 90),
        "step_decay": 0.1,
        "warmup_epochs": 0,
        "warmup_steps": None,
        "train_px": 224,
        "crop_px": 320,
        "resize_px": 320,
        "augment": SCALE_JITTER,
    },
    "fb90": {**FB90, "train_px": None, "crop_px": None, "resize_px": None},
    "torchvision_v2": {
        "optimizer": "sgd",
        "momentum": 0.9,
        "nesterov": False,
        "learning_rate": 0.5,
        "batch_size": 1024,
        "epochs": 600,
        "schedule": "cosine",
        "warmup": "linear",
        "warmup_epochs": 5,
        "warmup_learning_rate": 0.5 * 0.01,
        "weight_decay": 2e-5,
        "norm_weight_decay": 0.0,
        "label_smoothing": 0.1,
        "ema_every": 32,
        "repeated_augmentation": 4,
        "train_px": 176,
        "crop_px": 224,
        "resize_px": 232,
        "augment": Augment("random-resized", flip=True, policy="trivial-augment", erasing=0.1),
        "mix": Mix(mixup=0.2, cutmix=1.0),
    },
    "rsb_a1": {
        **STRIKES_BACK,
        "epochs": 600,
        "learning_rate": 5e-3,
        "weight_decay": 0.01,
        "label_smoothing": 0.1,
        "stochastic_depth": 0.05,
        "repeated_augmentation": 3,
        "train_px": 224,
        "augment": Augment(
            "random-resized",
            flip=True,
            policy="rand-augment",
            magnitude=7,
            magnitude_std=0.5,
            num_operations=2,
        ),
        "mix": Mix(mixup=0.2, cutmix=1.0),
    },
    "rsb_a2": {
        **STRIKES_BACK,
        "epochs": 300,
        "learning_rate": 5e-3,
        "weight_decay": 0.02,
        "label_smoothing": 0.0,
        "stochastic_depth": 0.05,
        "repeated_augmentation": 3,
        "train_px": 224,
        "augment": Augment(
            "random-resized",
            flip=True,
            policy="rand-augment",
            magnitude=7,
            magnitude_std=0.5,
            num_operations=2,
        ),
        "mix": Mix(mixup=0.1, cutmix=1.0),
    },
    "rsb_a3": {
        **STRIKES_BACK,
        "epochs": 100,
        "learning_rate": 8e-3,
        "weight_decay": 0.02,
        "label_smoothing": 0.0,
        "stochastic_depth": 0.0,
        "repeated_augmentation": 1,
        "train_px": 160,
        "augment": Augment(
            "random-resized",
            flip=True,
            policy="rand-augment",
            magnitude=6,
            magnitude_std=0.5,
            num_operations=2,
        ),
        "mix": Mix(mixup=0.1, cutmix=1.0),
    },
    # detectron2's configs/Base-RCNN-FPN.yaml, its defaults, and COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml.
    "detect_1x": {
        **DETECTRON2,
        "steps": 90_000,
        "milestones": (60_000 / 90_000, 80_000 / 90_000),
    },
    "detect_3x": {
        **DETECTRON2,
        "steps": 270_000,
        "milestones": (210_000 / 270_000, 250_000 / 270_000),
    },
    # Of our own; the learning rate for a batch of 16 and its clipping were chosen on the held-out part.
    "digit_scenes": {"clip_norm": 10.0, "weight_decay": 1e-4, "momentum": 0.9, "augment": Augment()},
    "detect": {"clip_norm": 10.0, "weight_decay": 1e-4, "momentum": 0.9, "schedule": "cosine"},
}


# COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml adds the head of masks, and nothing to the schedule.
SOURCES |= {"mask_1x": SOURCES["detect_1x"], "mask_3x": SOURCES["detect_3x"]}


def test_every_recipe_is_held_to_its_source() -> None:
    assert set(SOURCES) == set(NAMES)


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, fields in SOURCES.items() for field in fields]
)
def test_a_recipe_has_the_number_of_its_source(name: str, field: str) -> None:
    assert getattr(named_recipe(name, RESNET50), field) == pytest.approx(SOURCES[name][field])


@pytest.mark.parametrize("name", NAMES)
def test_only_what_a_source_has_is_turned_on(name: str) -> None:
    extras = (
        "clip_norm",
        "precise_bn",
        "early_stopping",
        "start_px",
        "sync_batch_norm",
        "zero_init_last_bn",
        "bce_threshold",
        "bce_sum",
        "interpolation",
        "nesterov",
    )
    recipe, plain = named_recipe(name, RESNET50), Recipe(name="plain")
    named = SOURCES[name]
    off = {
        field: getattr(plain, field)
        for field in (
            *extras,
            "repeated_augmentation",
            "ema_decay",
            "stochastic_depth",
            "label_smoothing",
            "mix",
        )
        if field not in named
    }
    if name == "torchvision_v2":
        del off["ema_decay"]
    assert {field: getattr(recipe, field) for field in off} == off


def test_the_moving_average_of_torchvision_is_scaled_as_its_script_does() -> None:
    # references/classification/train.py: adjust = world_size · batch_size · steps / epochs;
    # alpha = min(1, (1 − 0.99998) · adjust), with 8 · 128 images, every 32 steps, 600 epochs.
    decay = named_recipe("torchvision_v2", RESNET50).ema_decay
    assert 1 - decay == pytest.approx((1 - 0.99998) * 8 * 128 * 32 / 600)


@pytest.mark.parametrize("name", ["resnet20", "resnet32", "resnet44", "resnet56"])
def test_the_nets_of_2015_below_110_layers_begin_at_the_full_rate(name: str) -> None:
    recipe = named_recipe("cifar2015", zoo.entry(name).spec)
    assert (recipe.warmup_steps, recipe.warmup_until_error) == (0, None)


@pytest.mark.parametrize("name", ["resnet110", "resnet1202", "plain110"])
def test_the_nets_of_2015_from_110_layers_on_wait_for_an_error_below_80_percent(name: str) -> None:
    recipe = named_recipe("cifar2015", zoo.entry(name).spec)
    assert recipe.warmup == "constant"
    assert recipe.warmup_learning_rate == 0.01
    assert recipe.warmup_until_error == 0.8
    assert recipe.warmup_steps is not None
    assert recipe.warmup_steps >= 10 * 400  # "about 400 iterations", with room for a slow start


@pytest.mark.parametrize("name", ["resnet20", "resnet110"])
def test_every_net_of_2016_begins_with_400_iterations_at_a_tenth(name: str) -> None:
    recipe = named_recipe("cifar2016", zoo.entry(name).spec)
    assert (recipe.warmup_steps, recipe.warmup_learning_rate) == (400, 0.01)


@pytest.mark.parametrize("name", ["resnet56", "resnet110", "resnet164.preact", "resnet1001.preact"])
def test_cifar2016_differs_from_2015_in_its_warm_up_alone(name: str) -> None:
    spec = zoo.entry(name).spec
    of_2015, of_2016 = (named_recipe(f"cifar{year}", spec) for year in (2015, 2016))
    differing = {
        field.name
        for field in dataclasses.fields(Recipe)
        if getattr(of_2015, field.name) != getattr(of_2016, field.name)
    }
    assert differing <= {
        "name",
        "warmup",
        "warmup_steps",
        "warmup_learning_rate",
        "warmup_until_error",
    }


def test_imagenet2016_differs_from_2015_in_schedule_and_test_size_alone() -> None:
    of_2015, of_2016 = (named_recipe(f"imagenet{year}", RESNET50) for year in (2015, 2016))
    differing = {
        field.name
        for field in dataclasses.fields(Recipe)
        if getattr(of_2015, field.name) != getattr(of_2016, field.name)
    }
    sizes = {"train_px", "crop_px", "resize_px", "subtract_mean"}
    assert differing == {"name", "epochs", "steps", "schedule", "milestones", *sizes}


def test_the_dagger_row_of_table_4_trains_156_000_updates_and_drops_at_epochs_81_and_122() -> None:
    recipe = named_recipe("resnet1k_cifar", zoo.entry("resnet1001.preact").spec)
    total = steps_until_epoch(recipe.epochs, 50_000, recipe.batch_size)
    assert total == 156_250
    # train.lua: epoch >= 122 and 2 or epoch >= 81 and 1 or 0, of epochs that count from 1
    for epoch, rate in ((1, 0.1), (80, 0.1), (81, 0.01), (121, 0.01), (122, 0.001), (200, 0.001)):
        first = steps_until_epoch(epoch - 1, 50_000, recipe.batch_size)
        last = steps_until_epoch(epoch, 50_000, recipe.batch_size) - 1
        # An epoch of 50,000 images begins within a batch where 64 do not divide it.
        for step in (first + 1, last - 1):
            assert learning_rate(recipe, step, total, 0) == pytest.approx(rate), epoch


def test_dropping_at_half_of_cifar2016_with_batches_of_64_is_not_the_dagger_row() -> None:
    spec = zoo.entry("resnet1001.preact").spec
    halved = named_recipe("cifar2016", spec).changed({"batch_size": 64})
    assert halved.steps is not None
    assert halved.steps * 64 / 50_000 < 82
    assert named_recipe("resnet1k_cifar", spec).epochs == 200


@pytest.mark.parametrize("name", ["rsb_a1", "rsb_a2", "rsb_a3"])
def test_rsb_settings_are_those_of_the_installed_timm(name: str) -> None:
    import timm
    from timm.data import create_transform
    from timm.optim import Lamb

    recipe = named_recipe(name, RESNET50)
    released = timm.models.get_pretrained_cfg(f"resnet50.{name.removeprefix('rsb_')}_in1k")
    assert recipe.interpolation == released.interpolation
    transform = create_transform(224, is_training=False, crop_pct=released.crop_pct, interpolation="bicubic")
    assert transform.transforms[0].size == recipe.resize_px
    weight = torch.nn.Parameter(torch.ones(1))
    assert Lamb([weight]).defaults["max_grad_norm"] == recipe.clip_norm
    assert not timm.create_model("resnet50").layer1[0].bn3.weight.any()
    assert recipe.zero_init_last_bn


@pytest.mark.parametrize("name", ["rsb_a1", "rsb_a2", "rsb_a3"])
@pytest.mark.parametrize("network", ["plain18", "resnet18.a", "resnet50.preact", "resnet50.fb"])
def test_rsb_leaves_out_what_would_kill_a_network_and_says_so(name: str, network: str) -> None:
    spec = zoo.entry(network).spec
    recipe = named_recipe(name, spec)
    reasons = {one.field: one.reason for one in left_out(name, spec)}
    assert not recipe.zero_init_last_bn
    assert reasons["zero_init_last_bn"] == spec.why_no_zero_init
    # The network can be made.
    dataclasses.replace(
        spec, stochastic_depth=recipe.stochastic_depth, zero_init_last_bn=recipe.zero_init_last_bn
    )
    assert ("stochastic_depth" in reasons) == (network == "plain18" and name != "rsb_a3")


def test_other_recipes_leave_nothing_out() -> None:
    assert all(
        left_out(name, zoo.entry("plain18").spec) == () for name in NAMES if not name.startswith("rsb_")
    )


def test_cifar_takes_the_papers_164_epochs() -> None:
    recipe = named_recipe("cifar2015", zoo.entry("resnet20").spec)
    assert recipe.steps is not None
    assert recipe.steps * recipe.batch_size / 50_000 == pytest.approx(163.84)


def test_imagenet2015_takes_the_papers_120_epochs() -> None:
    recipe = named_recipe("imagenet2015", RESNET50)
    assert recipe.steps is not None
    assert recipe.steps * recipe.batch_size / 1_281_167 == pytest.approx(119.9, abs=0.05)


def test_the_recipes_differ_in_their_fingerprints() -> None:
    """But for those of masks, which are those of boxes."""
    names = [name for name in NAMES if not name.startswith("mask_")]
    fingerprints = {
        dataclasses.replace(named_recipe(name, RESNET50), name="").fingerprint() for name in names
    }
    assert len(fingerprints) == len(names) == len(NAMES) - 2
