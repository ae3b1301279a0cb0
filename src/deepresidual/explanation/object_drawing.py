"""Draw why one object was found: the photo with its box, and beside it the heat over the photo in gray."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion
from torch import Tensor
from torch.nn import functional

from deepresidual.data.objects import Objects, areas_of
from deepresidual.data.pasted_masks import pasted_masks
from deepresidual.errors import DataError
from deepresidual.explanation.drawing import overlay
from deepresidual.explanation.layers import LAST_MAP
from deepresidual.explanation.objects import FileObjectExplanation, ObjectExplanation
from deepresidual.explanation.panels import Panel, panel_of, resized, sheet
from deepresidual.reporting.boxes import paint_objects, paint_outline

_OUTLINE = "#ffffff"
_LINE_PX = 2.0


def draw_object(explanation: ObjectExplanation | FileObjectExplanation) -> bytes:
    """Return a PNG: the photo with the object, and the evidence for its class, and for its mask if any.

    Args:
        explanation: An explanation, or the result of a file that has one.

    Raises:
        DataError: The file could not be used, or there was no such object.
    """
    explanation = require_explanation(explanation)
    of_mask = explanation.mask_values
    columns = 2 if of_mask is None else 3
    photo = panel_of(explanation.photo, columns)
    one = objects_on(explanation, photo)[np.array([explanation.row])]
    panels = [
        Panel(painted(photo, one, explanation), ("the object that was found",)),
        _heat(photo, explanation.values, one, "class"),
    ]
    if of_mask is not None:
        panels.append(_heat(photo, of_mask, one, "mask"))
    return sheet(title_of(explanation), _about(explanation), panels, columns, has_scale=True)


def require_explanation(explanation: ObjectExplanation | FileObjectExplanation) -> ObjectExplanation:
    """Return the explanation that there is.

    Raises:
        DataError: There is none; the message tells why.
    """
    if isinstance(explanation, ObjectExplanation):
        return explanation
    if explanation.explanation is None:
        raise DataError(f"{explanation.path}: {explanation.error}")
    return explanation.explanation


def title_of(explanation: ObjectExplanation) -> tuple[str, str]:
    """Return class and score of the object, and which of all that were found it is."""
    number, count = explanation.row + 1, len(explanation.detected)
    return explanation.label, f"  {explanation.score:.2f}   object {number} of {count}, the surest first"


def objects_on(explanation: ObjectExplanation, panel: NDArray[np.uint8]) -> Objects:
    """Return all objects with boxes and masks in pixels of a panel."""
    objects, cells = explanation.detected.objects, explanation.stages.found.masks
    height, width = panel.shape[:2]
    factors = (width / explanation.detected.width, height / explanation.detected.height)
    boxes = (objects.boxes * np.tile(factors, 2)).astype(np.float32)
    masks = None if cells is None else pasted_masks(cells.float().numpy(), boxes, (height, width))
    return dataclasses.replace(objects, boxes=boxes, areas=areas_of(boxes), masks=masks)


def painted(photo: NDArray[np.uint8], objects: Objects, explanation: ObjectExplanation) -> NDArray[np.uint8]:
    """Return a panel with objects over it."""
    # Narrow panels are enlarged for their tags.
    return resized(paint_objects(photo, objects, explanation.detected.label_names), *photo.shape[:2])


def _about(explanation: ObjectExplanation) -> str:
    is_last = explanation.layer == LAST_MAP
    return f"{explanation.method} of {'the maps that the detector reads' if is_last else explanation.layer}"


def _heat(photo: NDArray[np.uint8], values: Tensor, one: Objects, what: str) -> Panel:
    """Return the heat over a photo, with the outline of the object's box and mask."""
    large = functional.interpolate(values[None, None], photo.shape[:2], mode="bilinear")[0, 0]
    most = float(large.max())
    canvas = overlay(photo, (large / most if most > 0 else large).numpy())
    left, top, right, bottom = one.boxes[0].tolist()
    paint_outline(canvas, (left, top, right, bottom), _LINE_PX, _OUTLINE)
    if one.masks is not None:
        crop = one.masks.crop(0)
        rows, columns = crop.pixels.shape
        inside = np.pad(crop.pixels, 1).astype(bool)
        edge = (inside & ~binary_erosion(inside, iterations=2))[1:-1, 1:-1]
        canvas[crop.top : crop.top + rows, crop.left : crop.left + columns][edge] = 255
    found = f"evidence for the {what}" if most > 0 else f"nothing speaks for the {what}"
    return Panel(canvas, (found,))
