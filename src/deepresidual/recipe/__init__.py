"""Recipes: how networks are trained, as values without torch."""

from deepresidual.recipe.augment import WHOLE_CROPS, Augment, CropKind, Mix, PadFill, Policy
from deepresidual.recipe.recipe import GROUPS, RENAMED, Recipe, setting_homes, with_new_names

__all__ = [
    "GROUPS",
    "RENAMED",
    "WHOLE_CROPS",
    "Augment",
    "CropKind",
    "Mix",
    "PadFill",
    "Policy",
    "Recipe",
    "setting_homes",
    "with_new_names",
]
