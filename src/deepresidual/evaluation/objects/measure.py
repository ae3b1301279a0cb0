"""Measure what a detector found in the images of a split.

Average precision is no sum over images: of several processes each hands over what it found, by the image's
index, and one measures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.objects import Objects
from deepresidual.errors import ConfigurationError
from deepresidual.evaluation.objects.coco import AREA_NAMES, CocoFigures, coco_figures
from deepresidual.evaluation.objects.result import ClassFigures, DetectionEvaluation
from deepresidual.evaluation.objects.rules import Rules


def measure(
    split: str,
    found: Sequence[Objects],
    truth: Sequence[Objects],
    label_names: Sequence[str],
    *,
    keys: Sequence[str] | None = None,
    image_ids: Sequence[int | str] | None = None,
    loss: float | None = None,
    rules: Rules | None = None,
) -> DetectionEvaluation:
    """Measure what was found in the images of a split.

    Args:
        split: Name of the split.
        found: What was found in each image, with scores, in pixels of the upright image.
        truth: What each image has, in the same order.
        label_names: Names of the classes that labels of both are indices into.
        keys: Names of the images. Default: their numbers.
        image_ids: What the data call the images. Default: their numbers.
        loss: Loss of training, mean over images.
        rules: Rules of the figures. Default: COCO's.

    Raises:
        ConfigurationError: Numbers of images differ, what was found has no scores, or a label is none of
            ``label_names``.
    """
    rules = Rules() if rules is None else rules
    check_images(found, truth, len(label_names))
    for name, names in (("keys", keys), ("image_ids", image_ids)):
        if names is not None and len(names) != len(truth):
            raise ConfigurationError(
                f"{name} has {len(names):,} values", expected=f"{len(truth):,}, one an image"
            )
    found = [by_score(objects, rules.most) for objects in found]
    figures = coco_figures(found, truth, len(label_names), rules.most)
    counted = [objects.labels[~(objects.crowd | objects.difficult)] for objects in truth]
    num_objects, num_found = (
        np.bincount(np.concatenate([np.zeros(0, np.int64), *labels]), minlength=len(label_names))
        for labels in (counted, [objects.labels for objects in found])
    )
    return DetectionEvaluation(
        split=split,
        count=len(truth),
        num_objects=int(num_objects.sum()),
        num_found=int(num_found.sum()),
        metric=rules.metric,
        most=rules.most,
        loss=loss,
        per_class=_per_class(label_names, num_objects, num_found, figures),
        **_by_size(figures),
    )


def check_images(found: Sequence[Objects], truth: Sequence[Objects], num_classes: int) -> None:
    """Refuse detections that cannot be measured.

    Raises:
        ConfigurationError: Numbers of images differ, what was found has no scores, or a label is no class.
    """
    if len(found) != len(truth):
        raise ConfigurationError(
            f"found has {len(found):,} images", expected=f"{len(truth):,}, as many as truth has"
        )
    for name, images in (("found", found), ("truth", truth)):
        for index, objects in enumerate(images):
            if name == "found" and len(objects) and objects.scores is None:
                raise ConfigurationError(
                    f"image {index} of found has no scores", expected="a score for each box"
                )
            if len(objects) and not 0 <= objects.labels.min() <= objects.labels.max() < num_classes:
                raise ConfigurationError(
                    f"image {index} of {name} has label {int(objects.labels.max())}",
                    expected=f"0 to {num_classes - 1}, an index into label_names",
                )


def by_score(objects: Objects, most: int) -> Objects:
    """Return the ``most`` detections of each class with the highest scores, by score, then as they come."""
    scores = np.zeros(0, np.float32) if objects.scores is None else objects.scores
    objects = objects[np.argsort(-scores, kind="stable")]
    if len(objects) <= most:
        return objects
    order = np.argsort(objects.labels, kind="stable")
    labels = objects.labels[order]
    place = np.arange(len(order)) - np.searchsorted(labels, labels)
    return objects[np.sort(order[place < most])]


def _per_class(
    names: Sequence[str], num_objects: NDArray[np.int64], num_found: NDArray[np.int64], figures: CocoFigures
) -> tuple[ClassFigures, ...]:
    precision, recall = figures.precision[:, :, 0], figures.recall[0, :, 0, -1]
    return tuple(
        ClassFigures(
            name=name,
            num_objects=int(num_objects[row]),
            num_found=int(num_found[row]),
            ap=_known(precision[:, row].mean()),
            ap50=_known(precision[0, row]),
            ap75=_known(precision[5, row]),
            recall50=_known(recall[row]),
        )
        for row, name in enumerate(names)
    )


def _by_size(figures: CocoFigures) -> dict[str, float | None]:
    """Return AP and average recall by size, and average recall by the number of detections."""
    named: dict[str, float | None] = {}
    for place, name in enumerate(AREA_NAMES):
        if name != "all":
            named[f"ap_{name}"] = _mean_of_known(figures.precision[:, :, place])
            named[f"ar_{name}"] = _mean_of_known(figures.recall[:, :, place, -1])
    named["ar"] = _mean_of_known(figures.recall[:, :, 0, -1])
    for most in (1, 10):
        if most in figures.most_found:
            named[f"ar{most}"] = _mean_of_known(figures.recall[:, :, 0, figures.most_found.index(most)])
    return named


def _mean_of_known(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _known(value: np.floating) -> float | None:
    return None if np.isnan(value) else float(value)
