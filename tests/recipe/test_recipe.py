"""Recipes: validation, changes, JSON."""

from __future__ import annotations

from typing import Any

import pytest

from deepresidual import zoo
from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.recipe import RENAMED, Recipe, setting_homes, with_new_names
from deepresidual.recipe.recipes import NAMES, named_recipe, recipe_for

SMALL = zoo.entry("resnet20").spec
LARGE = zoo.entry("resnet18").spec


def cifar() -> Recipe:
    return named_recipe("cifar", SMALL)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_survives_json(name: str) -> None:
    recipe = named_recipe(name, SMALL)
    assert recipe.name == name
    assert Recipe.from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate is -1.0; expected a number above 0 to 1000"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"learning_rate": 1e20}, "learning_rate is 1e[+]20"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"epochs": -1.0}, "epochs is -1.0; expected a number above 0"),
        ({"epochs": 0.0}, "epochs is 0.0"),
        ({"steps": -1}, "steps is -1; expected a number from 0 to"),
        ({"batch_size": 0}, "batch_size is 0; expected a number from 1"),
        ({"momentum": 1.5}, "momentum is 1.5"),
        ({"weight_decay": -1e-4}, "weight_decay is -0.0001"),
        ({"label_smoothing": 2.0}, "label_smoothing is 2.0"),
        ({"warmup_epochs": -1.0}, "warmup_epochs is -1.0"),
        ({"schedule": "cosin"}, "schedule is 'cosin'; expected one of constant, step, cosine"),
        ({"milestones": (0.7, 0.5)}, r"milestones are \[0.7, 0.5\]"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov needs momentum"),
        ({"batch_size": 2.5}, "batch_size is 2.5; expected a whole number"),
        ({"batch_size": 1_000_000}, "batch_size is 1000000; expected a number from 1 to 65536"),
        ({"epochs": "many"}, "epochs is 'many'; expected a number"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"flip": "no"}, "flip is 'no'; expected True or False"),
        ({"crop": "middle"}, "crop is 'middle'; expected one of center, pad, random-resized"),
        ({"pad_px": -1}, "pad_px is -1"),
        ({"min_area": 0.0}, "min_area is 0.0"),
    ],
)
def test_values_out_of_range_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        cifar().changed(change)


def test_a_misspelled_field_gets_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown recipe field 'learnin_rate' \(nearest: learning_rate"
    ):
        cifar().changed({"learnin_rate": 0.1})


def test_an_unknown_recipe_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown recipe 'cifra' \(nearest: cifar"):
        named_recipe("cifra", SMALL)


def test_changes_reach_the_recipe_and_its_augmentation() -> None:
    changed = cifar().changed({"epochs": 2.0, "flip": False, "pad_px": 1})
    assert (changed.epochs, changed.augment.flip, changed.augment.pad_px) == (2, False, 1)
    assert changed.learning_rate == cifar().learning_rate


def test_asking_for_epochs_takes_the_place_of_steps() -> None:
    assert cifar().changed({"steps": 10}).changed({"epochs": 3.0}).steps is None


def test_the_recipe_follows_the_data_and_the_network() -> None:
    assert recipe_for(SMALL, "digits").name == "digits"
    assert recipe_for(SMALL).name == "cifar"
    assert recipe_for(LARGE).name == "photos"


def test_digits_are_never_mirrored() -> None:
    assert not named_recipe("digits", SMALL).augment.flip


def in_old_names(fields: dict[str, Any]) -> dict[str, Any]:
    """Return what a version before the renaming wrote."""
    old = {new: old for old, new in RENAMED.items()}
    return {
        old.get(name, name): in_old_names(value) if isinstance(value, dict) else value
        for name, value in fields.items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_under_old_names_is_read(name: str) -> None:
    recipe = named_recipe(name, LARGE)
    fields = in_old_names(recipe.to_dict())
    assert set(RENAMED) - {"pca_color"} < set(fields)
    assert "pca_color" in fields["augment"]
    assert Recipe.from_dict(fields) == recipe
    assert with_new_names(fields) == recipe.to_dict()


def test_every_new_name_is_a_field() -> None:
    assert set(RENAMED.values()) <= set(setting_homes())
    assert set(RENAMED).isdisjoint(setting_homes())


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_field_is_answered_with_the_new_one(old: str, new: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{old} is now {new}$"):
        cifar().changed({old: 1})
