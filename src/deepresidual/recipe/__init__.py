"""Recipes: how networks are trained, as values without torch."""

from deepresidual.recipe.augment import Augment, CropKind, Mix, PadFill, Policy
from deepresidual.recipe.recipe import Recipe, setting_homes

__all__ = ["Augment", "CropKind", "Mix", "PadFill", "Policy", "Recipe", "setting_homes"]
