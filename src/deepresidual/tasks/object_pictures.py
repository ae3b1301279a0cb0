"""Pictures of what a detector missed, took for objects, and found, for the run folder and its report.

What is right is blue, what is wrong is orange. In crops what is annotated is dashed, or where masks are
judged a line without a surface; in whole images a tag names the class, with a cross where a detection is
wrong, or an object is not found.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from deepresidual.backends.detector import TorchDetector
from deepresidual.backends.object_detector import ObjectDetector
from deepresidual.data.augment import Window
from deepresidual.data.decode import decode
from deepresidual.data.loader import evaluation_batches
from deepresidual.data.masks import Runs
from deepresidual.data.objects import Objects, ObjectsBatch, areas_of
from deepresidual.data.seen_masks import seen_mask
from deepresidual.data.source import Split
from deepresidual.data.source.annotated.split import objects_of
from deepresidual.data.source.validation import Subset
from deepresidual.evaluation.objects import DetectionEvaluation
from deepresidual.evaluation.objects.matching import match
from deepresidual.evaluation.objects.measure import masked
from deepresidual.evaluation.objects.rules import Overlap
from deepresidual.explanation import png
from deepresidual.reporting.boxes import paint_objects
from deepresidual.reporting.masks import paint_mask

NUM_SCENES = 12
"""Whole images that are shown with what is annotated and what was found."""

Box = tuple[float, float, float, float]

_CROP_PX = 240
_SCENE_PX, _SHORTER_PX, _LONGEST_PX = 480, 360, 1020
_PIXELS_SEEN = 3  # from this factor on pixels become squares, as they are
_AROUND = 0.5  # a crop shows so much of the box's longer side around it
_LEAST_PX = 32  # and so many pixels of the image at least
_RIGHT, _WRONG, _CASING = "#3d9bff", "#ff6a13", "#101418"
_LINE, _DASH = 3, 8
_CROSS = "\N{BALLOT X}"
_USUAL_SCORE = 0.5  # from which on detections are drawn of a class that has no threshold


class _Drawn(NamedTuple):
    """A box to draw, in pixels of the image, or the mask of the object in it."""

    box: Sequence[float]
    color: str
    is_annotated: bool
    mask: Runs | None = None


def crops_of(split: Split, evaluation: DetectionEvaluation) -> dict[str, bytes]:
    """Return crops of the surest false detections and of the largest missed objects.

    Args:
        split: The split that was evaluated.
        evaluation: What was found.

    Returns:
        PNG files by name, ``mistakes/false-00``, ``mistakes/missed-00`` and so on, in the order of the
        evaluation, about 240 px a side.

    Raises:
        DataError: An image cannot be read any more.
    """
    crops = {}
    judged = evaluation.judged
    for name, mistakes in (("false", judged.false), ("missed", judged.missed)):
        for number, mistake in enumerate(mistakes):
            boxes = []
            if mistake.true_box:
                boxes.append(_Drawn(mistake.true_box, _RIGHT, is_annotated=True, mask=mistake.true_mask))
            boxes.append(_Drawn(mistake.box, _WRONG, is_annotated=name == "missed", mask=mistake.mask))
            pixels = decode(split.read(mistake.index).content)
            crops[f"mistakes/{name}-{number:02d}"] = _crop(pixels, boxes)
    return crops


def scenes_of(
    model: ObjectDetector,
    split: Split,
    evaluation: DetectionEvaluation,
    rows: Sequence[int] | None = None,
) -> dict[str, bytes]:
    """Return images with what is annotated, and the same with what is found: every so manieth of the split.

    Of each class the detections from its threshold on are drawn.

    Args:
        model: The detector that was evaluated.
        split: The split that it was evaluated on.
        evaluation: What was found.
        rows: The detector's class of every class of the data. Default: they have the same.

    Returns:
        PNG files by name, ``scene-00-annotated``, ``scene-00-found`` and so on, 480 px and more a side.
    """
    indices = np.unique(np.linspace(0, len(split) - 1, min(NUM_SCENES, len(split))).round().astype(int))
    lowest = np.array(
        [
            _USUAL_SCORE if row.threshold is None else row.threshold.score
            for row in evaluation.judged.per_class
        ]
    )
    overlap: Overlap = "boxes" if evaluation.masks is None else "masks"
    was_training = isinstance(model, TorchDetector) and model.network.training
    scenes: dict[str, bytes] = {}
    batches = evaluation_batches(
        Subset(split, indices.tolist()), model.preprocess, batch_size=NUM_SCENES, num_workers=0
    )
    for batch in batches:
        if not isinstance(batch.targets, ObjectsBatch):
            continue
        windows = [each.window for each in batch.targets if each.window is not None]
        results = model.detections(batch.pixels.numpy(), windows)
        for place, found in zip(batch.indices.tolist(), results, strict=True):
            index = int(indices[place])
            pixels, truth = decode(split.read(index).content), objects_of(split, index)
            if rows is not None:
                truth = dataclasses.replace(truth, labels=np.asarray(rows)[truth.labels])
            scores = np.zeros(0) if found.scores is None else found.scores
            both = _both(truth, found[scores >= lowest[found.labels]], len(lowest), overlap)
            for name, objects in zip(("annotated", "found"), both, strict=True):
                scenes[f"scene-{place:02d}-{name}"] = _scene(pixels, objects, evaluation.classes)
    if isinstance(model, TorchDetector):
        model.network.train(was_training)
    return scenes


def _both(truth: Objects, found: Objects, num_classes: int, overlap: Overlap) -> tuple[Objects, Objects]:
    """Return what is annotated and what is found, with labels from ``num_classes`` on where they are wrong.

    An annotated object is wrong where it is not found.
    """
    matched = masked(truth) if overlap == "masks" else truth
    matches = match([found], [matched], num_classes, overlap=overlap)
    taken, right = matches.taken[:, 0], matches.right[:, 0]
    missed = ~matches.truth.ignored
    missed[taken[right]] = False
    wrong = ~right & ~matches.ignored[:, 0]
    return (
        dataclasses.replace(truth, labels=truth.labels + num_classes * missed),
        dataclasses.replace(found, labels=found.labels + num_classes * wrong),
    )


# -- drawing -----------------------------------------------------------------------------------------------


def _crop(pixels: NDArray[np.uint8], boxes: Sequence[_Drawn]) -> bytes:
    """Return a PNG of the surroundings of some boxes, which are drawn."""
    height, width = pixels.shape[:2]
    left, top = (min(each.box[axis] for each in boxes) for axis in (0, 1))
    right, bottom = (max(each.box[axis] for each in boxes) for axis in (2, 3))
    side = max(_LEAST_PX, (1 + 2 * _AROUND) * max(right - left, bottom - top))
    across, down = (_placed((left + right) / 2, side, width), _placed((top + bottom) / 2, side, height))
    part = Image.fromarray(np.ascontiguousarray(pixels[down[0] : down[1], across[0] : across[1]]))
    picture, factor = _resized(part, _CROP_PX)
    corner = (across[0], down[0])
    canvas = np.array(picture)
    window = _enlarged(pixels, corner, factor, picture)
    # Lines of what is annotated lie over the surface of what was found.
    for each in sorted(boxes, key=lambda each: each.is_annotated):
        if each.mask is not None:
            mask = seen_mask(each.mask.crop(), window)
            paint_mask(canvas, mask, each.color, _LINE, has_surface=not each.is_annotated)
    with_boxes = [each for each in boxes if each.mask is None]
    return png(_with_boxes(canvas, corner, factor, with_boxes))


def _placed(middle: float, side: float, room: int) -> tuple[int, int]:
    """Return from where to where a crop of a side goes along an axis that has room for so many pixels."""
    side = min(round(side), room)
    first = min(max(0, round(middle - side / 2)), room - side)
    return first, first + side


def _scene(pixels: NDArray[np.uint8], objects: Objects, classes: Sequence[str]) -> bytes:
    """Return a PNG of an image with objects; labels behind those of the classes are wrong ones."""
    longer, shorter = max(pixels.shape[:2]), min(pixels.shape[:2])
    # Tags can be read where the shorter side has as many pixels as the drawing asks for.
    side = min(max(_SCENE_PX, _SHORTER_PX * longer / shorter), _LONGEST_PX)
    image, factor = _resized(Image.fromarray(np.ascontiguousarray(pixels)), side)
    # One class alone need not be named again and again.
    names = [*classes, *(f"{_CROSS} {name}" for name in classes)] if len(classes) > 1 else ["", _CROSS]
    colors = [_RIGHT] * len(classes) + [_WRONG] * len(classes)
    seen = objects.seen(_enlarged(pixels, (0, 0), factor, image))
    seen = dataclasses.replace(seen, areas=areas_of(seen.boxes))
    return png(paint_objects(np.asarray(image), seen, names, colors))


def _resized(image: Image.Image, side: float) -> tuple[Image.Image, float]:
    """Return an image whose longer side is about ``side``, and the factor of its sides.

    One of which the pixels are seen is enlarged by a whole factor.
    """
    factor = side / max(image.size)
    is_small = factor >= _PIXELS_SEEN
    factor = math.ceil(factor) if is_small else factor
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    resampling = Image.Resampling.NEAREST if is_small else Image.Resampling.LANCZOS
    return image.convert("RGB").resize(size, resampling), factor


def _enlarged(
    pixels: NDArray[np.uint8], corner: tuple[int, int], factor: float, picture: Image.Image
) -> Window:
    """Return the picture of an image, or of the part of it from a corner on, as a view."""
    size = (pixels.shape[0], pixels.shape[1])
    shift = (-factor * corner[0], -factor * corner[1])
    return Window(size, max(picture.size), (factor, factor), shift, (0, 0, *picture.size))


def _with_boxes(
    canvas: NDArray[np.uint8], corner: tuple[int, int], factor: float, boxes: Sequence[_Drawn]
) -> NDArray[np.uint8]:
    """Return a picture with boxes.

    Args:
        canvas: What is shown.
        corner: Where its corner lies in the image that the boxes are of.
        factor: Pixels of the picture a pixel of the image.
        boxes: What to draw.
    """
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for each in boxes:
        left, top, right, bottom = (
            round((value - corner[axis % 2]) * factor) for axis, value in enumerate(each.box)
        )
        _draw_box(draw, (left, top, max(left + 1, right - 1), max(top + 1, bottom - 1)), each)
    return np.asarray(image)


def _draw_box(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], drawn: _Drawn) -> None:
    """Draw a box in its colour on a dark casing, so that it is seen on any image."""
    left, top, right, bottom = box
    if not drawn.is_annotated:
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_CASING, width=_LINE + 2)
        draw.rectangle(box, outline=drawn.color, width=_LINE)
        return
    wide = _LINE - 1
    dashes = [
        (first, down, min(first + _DASH, right), down + wide)
        for first in range(left, right + 1, 2 * _DASH)
        for down in (top, bottom - wide)
    ] + [
        (across, first, across + wide, min(first + _DASH, bottom))
        for first in range(top, bottom + 1, 2 * _DASH)
        for across in (left, right - wide)
    ]
    for first, above, last, below in dashes:
        draw.rectangle((first - 1, above - 1, last + 1, below + 1), fill=_CASING)
    for dash in dashes:
        draw.rectangle(dash, fill=drawn.color)
