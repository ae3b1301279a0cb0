"""Recipes: how networks are trained, as values without torch."""

from residual.recipe.augment import Augment, CropKind, Mix, PadFill, Policy
from residual.recipe.recipe import Recipe, setting_homes

__all__ = ["Augment", "CropKind", "Mix", "PadFill", "Policy", "Recipe", "setting_homes"]
