"""Every recipe has the numbers of its source, and Recipe's defaults say what it leaves out."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from residual import zoo
from residual.recipe import Augment, Mix, Recipe
from residual.recipe.recipes import NAMES, named_recipe

RESNET50 = zoo.entry("resnet50").spec

# What "as in the paper" means for every net of both papers (2015, sections 3.4 and 4.2).
PAPER = {"optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4}
CIFAR_AUGMENT = Augment(crop="pad", pad_px=4, flip=True)
SCALE_JITTER = Augment(crop="scale-jitter", flip=True, min_side_px=256, max_side_px=480, pca_color=0.1)
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
    "resize_px": 236,  # 224 / 0.95
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
        "growing": 0.9,
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
    "finetune": {
        "epochs": 10,
        "backbone_rate": 0.1,
        "frozen_stages": 1,
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
        "decay": 0.1,
        "mean": "pixel",
        "augment": CIFAR_AUGMENT,
    },
    "cifar2016": {
        **PAPER,
        "steps": 64_000,
        "batch_size": 128,
        "norm_weight_decay": None,
        "bias_weight_decay": None,
        "schedule": "step",
        "milestones": (0.5, 0.75),
        "decay": 0.1,
        "warmup": "constant",
        "warmup_learning_rate": 0.01,
        "warmup_steps": 400,
        "warmup_until_error": None,
        "mean": "channel",
        "augment": CIFAR_AUGMENT,
    },
    "imagenet2015": {
        **PAPER,
        "steps": 600_000,
        "batch_size": 256,
        "norm_weight_decay": 0.0,
        "bias_weight_decay": 0.0,
        "schedule": "plateau",
        "decay": 0.1,
        "warmup_epochs": 0,
        "mean": "pixel",
        "augment": SCALE_JITTER,
    },
    "imagenet2016": {
        **PAPER,
        "epochs": 90,
        "batch_size": 256,
        "schedule": "step",
        "milestones": (30 / 90, 60 / 90),
        "decay": 0.1,
        "warmup_epochs": 0,
        "warmup_steps": None,
        "train_px": 224,
        "crop_px": 320,
        "resize_px": 320,
        "augment": SCALE_JITTER,
    },
    "fb90": {
        **PAPER,
        "nesterov": True,
        "epochs": 90,
        "batch_size": 256,
        "norm_weight_decay": None,
        "bias_weight_decay": None,
        "schedule": "step",
        "milestones": (30 / 90, 60 / 90),
        "augment": Augment("random-resized", flip=True, min_area=0.08, color_jitter=0.4, pca_color=0.1),
    },
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
        "repeats": 4,
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
        "repeats": 3,
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
        "repeats": 3,
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
        "repeats": 1,
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
}


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
    )
    recipe, plain = named_recipe(name, RESNET50), Recipe(name="plain")
    named = SOURCES[name]
    off = {
        field: getattr(plain, field)
        for field in (*extras, "repeats", "ema_decay", "stochastic_depth", "label_smoothing", "mix")
        if field not in named
    }
    if name == "torchvision_v2":
        del off["ema_decay"]
    if name == "finetune":
        del off["label_smoothing"]
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


def test_cifar_takes_the_papers_164_epochs() -> None:
    recipe = named_recipe("cifar2015", zoo.entry("resnet20").spec)
    assert recipe.steps is not None
    assert recipe.steps * recipe.batch_size / 50_000 == pytest.approx(163.84)


def test_imagenet2015_takes_the_papers_120_epochs() -> None:
    recipe = named_recipe("imagenet2015", RESNET50)
    assert recipe.steps is not None
    assert recipe.steps * recipe.batch_size / 1_281_167 == pytest.approx(119.9, abs=0.05)


def test_the_recipes_differ_in_their_fingerprints() -> None:
    fingerprints = {
        dataclasses.replace(named_recipe(name, RESNET50), name="").fingerprint() for name in NAMES
    }
    assert len(fingerprints) == len(NAMES)
