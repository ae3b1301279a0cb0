"""Why a network says what it says: where in the image the evidence for a class lies."""

from deepresidual.explanation.activation_maps import (
    METHODS,
    ActivationMaps,
    Method,
    activation_maps,
    enlarged,
)
from deepresidual.explanation.boxes import draw_objects, paint_objects
from deepresidual.explanation.drawing import draw_explanation, overlay, png
from deepresidual.explanation.files import Explanation, FileExplanation, explain_files
from deepresidual.explanation.layers import LAST_MAP, layer_names

__all__ = [
    "LAST_MAP",
    "METHODS",
    "ActivationMaps",
    "Explanation",
    "FileExplanation",
    "Method",
    "activation_maps",
    "draw_explanation",
    "draw_objects",
    "enlarged",
    "explain_files",
    "layer_names",
    "overlay",
    "paint_objects",
    "png",
]
