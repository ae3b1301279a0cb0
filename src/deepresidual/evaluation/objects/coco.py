"""COCO's figures, by faster-coco-eval, which is equal to the official code.

The evaluator gets numbers of its own for images and objects: it takes an object numbered 0 for none, and
data sets have numbers with gaps, or words.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.objects import Objects
from deepresidual.evaluation.objects.overlaps import runs_of
from deepresidual.evaluation.objects.rules import Overlap

AREA_NAMES = ("all", "small", "medium", "large")
"""Sizes of objects: any area, below 32² pixels, below 96², and above."""

_NEITHER = -1.0  # area of an object that no size counts: it is neither right nor wrong, and found once


@dataclass(frozen=True)
class CocoFigures:
    """Average precision and recall of every class; NaN where a class has no object of that size.

    Attributes:
        precision: ``(T, K, A)``: AP at each IoU, class and size.
        recall: ``(T, K, A, M)``: highest recall with ``most_found[m]`` detections an image.
        most_found: Detections of an image that recalls are of, in rising order.
        num_objects: ``(A,)``: objects of each size that count.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    most_found: tuple[int, ...]
    num_objects: tuple[int, ...]


def coco_figures(
    found: Sequence[Objects],
    truth: Sequence[Objects],
    num_classes: int,
    most: int = 100,
    overlap: Overlap = "boxes",
) -> CocoFigures:
    """Measure the boxes or masks found in images.

    Args:
        found: What was found in each image, with scores.
        truth: What each image has. Crowds and difficult objects are neither right nor wrong.
        num_classes: How many classes there are.
        most: Detections of an image and class that are measured.
        overlap: What is compared.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    # Sizes are asked for where there are masks, and read where these are polygons, which they never are.
    images = [{"id": image, "height": 1, "width": 1} for image in range(1, len(truth) + 1)]
    classes = [{"id": label, "name": str(label)} for label in range(1, num_classes + 1)]
    most_found = sorted({min(1, most), min(10, most), most})
    with _uncollected():
        annotated, detected = (
            COCO({"images": images, "categories": classes, "annotations": _annotations(side, overlap)})
            for side in (truth, found)
        )
        evaluator = COCOeval_faster(annotated, detected, "bbox" if overlap == "boxes" else "segm")
        evaluator.params.maxDets = most_found
        evaluator.evaluate()
        evaluator.accumulate()
    precision = _known(evaluator.eval["precision"])[..., -1]
    return CocoFigures(
        precision.mean(axis=1),
        _known(evaluator.eval["recall"]),
        tuple(most_found),
        _num_objects(truth, evaluator.params.areaRng),
    )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Let no search for unused objects run: it takes a fifth of the time while millions are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _num_objects(truth: Sequence[Objects], ranges: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """Return how many objects count in each range of areas, both of whose ends belong to it."""
    areas = np.concatenate([np.zeros(0), *(each.areas[~(each.crowd | each.difficult)] for each in truth)])
    return tuple(int(((areas >= low) & (areas <= high)).sum()) for low, high in ranges)


def _annotations(images: Sequence[Objects], overlap: Overlap) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for image, objects in enumerate(images, start=1):
        boxes = objects.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        areas: NDArray[Any] = objects.areas
        if objects.scores is not None:
            areas = boxes[:, 2] * boxes[:, 3]
            if overlap == "masks" and objects.masks is not None:
                areas = objects.masks.areas()
        areas = np.where(objects.difficult, _NEITHER, areas)
        scores = np.zeros(len(objects)) if objects.scores is None else objects.scores
        columns = (objects.labels + 1, boxes, areas, objects.crowd.astype(int), scores)
        masks: list[dict[str, Any]] = [{}] * len(objects)
        if overlap == "masks" and len(objects):
            masks = [{"segmentation": runs} for runs in runs_of(objects)]
        for label, box, area, crowd, score, mask in zip(
            *(each.tolist() for each in columns), masks, strict=True
        ):
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": image,
                    "category_id": label,
                    "bbox": box,
                    "area": area,
                    "iscrowd": crowd,
                    "score": score,
                    **mask,
                }
            )
    return rows


def _known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the values with NaN where COCO has −1, for none."""
    return np.where(values < 0, np.nan, values)
