"""Measure what a detector found in the images of a split.

Average precision is no sum over images: of several processes each hands over what it found, by the image's
index, and one measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.masks import Masks
from deepresidual.data.objects import Objects
from deepresidual.errors import ConfigurationError
from deepresidual.evaluation.objects.bootstrap import Draws, interval
from deepresidual.evaluation.objects.coco import AREA_NAMES, CocoFigures, coco_figures
from deepresidual.evaluation.objects.curves import curve_and_threshold
from deepresidual.evaluation.objects.errors import ERROR_KINDS, find_errors, gains
from deepresidual.evaluation.objects.matching import Matches, match
from deepresidual.evaluation.objects.mistakes import Names, worst_false, worst_missed
from deepresidual.evaluation.objects.result import ClassFigures, DetectionEvaluation, ErrorCount
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
    """Measure what was found in the images of a split: boxes, and masks where both sides have them.

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
    about = (label_names, keys, image_ids, loss)
    evaluation = _measured(split, found, truth, rules, *about)
    if not (has_masks(found) and has_masks(truth)):
        return evaluation
    masks = _measured(
        split, found, [masked(objects) for objects in truth], replace(rules, overlap="masks"), *about
    )
    return replace(evaluation, masks=masks)


def has_masks(images: Sequence[Objects]) -> bool:
    """Return whether the objects of images have masks; images of none are as they may be."""
    there = [objects.masks is not None for objects in images if len(objects)]
    return any(there) and all(there)


def masked(truth: Objects) -> Objects:
    """Return objects of which those without a mask are crowds of the pixels of their boxes."""
    masks = truth.masks
    if masks is None or masks.known.all():
        return truth
    size = (int(masks.sizes[0, 0]), int(masks.sizes[0, 1]))
    boxes = [
        None
        if known
        else [np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)]
        for (left, top, right, bottom), known in zip(truth.boxes.tolist(), masks.known, strict=True)
    ]
    joined = Masks.joined([masks, Masks.of(boxes).on(size)])
    rows = np.arange(len(truth))
    chosen = joined[np.where(masks.known, rows, rows + len(truth))]
    return replace(truth, masks=chosen, crowd=truth.crowd | ~masks.known)


def _measured(
    split: str,
    found: Sequence[Objects],
    truth: Sequence[Objects],
    rules: Rules,
    label_names: Sequence[str],
    keys: Sequence[str] | None,
    image_ids: Sequence[int | str] | None,
    loss: float | None,
) -> DetectionEvaluation:
    """Measure what :func:`measure` does, by one kind of overlap."""
    matches = matched(found, truth, len(label_names), rules)
    numbers = list(range(len(truth)))
    names = Names(label_names, [str(n) for n in numbers] if keys is None else keys, image_ids or numbers)
    for what, values in (("keys", names.keys), ("image_ids", names.image_ids)):
        if len(values) != len(truth):
            raise ConfigurationError(
                f"{what} has {len(values):,} values", expected=f"{len(truth):,}, one an image"
            )
    draws = Draws.of(matches, rules.metric)
    by_size: dict[str, Any] = {}
    precision = draws.figures
    if rules.metric == "coco":
        figures = coco_figures(found, truth, len(label_names), rules.most, rules.overlap)
        precision, by_size = figures.precision[:, :, 0], _by_size(figures)
    errors = find_errors(matches)
    gained = gains(matches, errors, rules.metric)
    per_class = _per_class(matches, label_names, precision, draws)
    return DetectionEvaluation(
        split=split,
        count=len(truth),
        num_objects=sum(row.num_objects for row in per_class),
        num_found=len(matches.found),
        metric=rules.metric,
        most=rules.most,
        loss=loss,
        per_class=per_class,
        ap_interval=interval(*draws.ap),
        ap50_interval=interval(*draws.ap50),
        **by_size,
        errors=tuple(ErrorCount(kind, errors.count(kind), gained[kind]) for kind in ERROR_KINDS),
        false=worst_false(matches, errors, names, rules.overlap),
        missed=worst_missed(matches, errors, names, rules.overlap),
    )


def matched(found: Sequence[Objects], truth: Sequence[Objects], num_classes: int, rules: Rules) -> Matches:
    """Check what was found in the images of a split, and match it.

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
    kept = [by_score(objects, rules.most) for objects in found]
    return match(kept, truth, num_classes, rules.metric, rules.overlap)


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
    matches: Matches, names: Sequence[str], precision: NDArray[np.float64], draws: Draws
) -> tuple[ClassFigures, ...]:
    found, truth = matches.found, matches.truth
    counted = np.bincount(truth.labels[~truth.ignored], minlength=len(names)).tolist()
    detected = np.bincount(found.labels, minlength=len(names)).tolist()
    right = np.bincount(found.labels[matches.right[:, 0]], minlength=len(names)).tolist()
    rows = []
    for label, name in enumerate(names):
        curve, threshold = curve_and_threshold(matches, label, counted[label])
        figures: dict[str, Any] = {}
        if counted[label]:
            figures = {
                "ap": float(precision[:, label].mean()),
                "ap50": float(precision[0, label]),
                "ap75": float(precision[5, label]),
                "recall50": right[label] / counted[label],
                "ap_interval": draws.of_class(label),
            }
        row = ClassFigures(name, counted[label], detected[label], **figures, threshold=threshold, curve=curve)
        rows.append(row)
    return tuple(rows)


def _by_size(figures: CocoFigures) -> dict[str, Any]:
    """Return objects, AP and average recall by size, and average recall by the number of detections."""
    named: dict[str, Any] = {}
    for place, name in enumerate(AREA_NAMES):
        if name != "all":
            named[f"num_{name}"] = figures.num_objects[place]
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
