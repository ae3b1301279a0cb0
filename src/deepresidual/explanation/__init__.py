"""Why a network says what it says: where in the image the evidence for a class, or for an object, lies."""

from deepresidual.explanation.activation_maps import (
    METHODS,
    ActivationMaps,
    Method,
    activation_maps,
    enlarged,
)
from deepresidual.explanation.drawing import draw_explanation, overlay, png
from deepresidual.explanation.files import Explanation, FileExplanation, explain_files
from deepresidual.explanation.layers import LAST_MAP, layer_names
from deepresidual.explanation.object_drawing import draw_object
from deepresidual.explanation.objects import (
    FileObjectExplanation,
    ObjectExplanation,
    explain_object,
    explain_object_files,
)
from deepresidual.explanation.stage_drawing import draw_stages
from deepresidual.reporting.boxes import draw_objects, paint_objects

__all__ = [
    "LAST_MAP",
    "METHODS",
    "ActivationMaps",
    "Explanation",
    "FileExplanation",
    "FileObjectExplanation",
    "Method",
    "ObjectExplanation",
    "activation_maps",
    "draw_explanation",
    "draw_object",
    "draw_objects",
    "draw_stages",
    "enlarged",
    "explain_files",
    "explain_object",
    "explain_object_files",
    "layer_names",
    "overlay",
    "paint_objects",
    "png",
]
