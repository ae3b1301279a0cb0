"""Figures of masks are those of the official code."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from deepresidual.data.masks import Masks
from deepresidual.data.objects import Objects
from deepresidual.data.source.annotated.segmentation import read_segmentation
from deepresidual.evaluation.objects import DetectionEvaluation, Rules, measure
from deepresidual.evaluation.objects.measure import matched
from deepresidual.evaluation.objects.precision import average_precisions
from tests.conftest import examples
from tests.evaluation.objects.scenes import Images, scenes
from tests.evaluation.objects.test_coco import NAMES, STATS

SIZE = (400, 400)
ANGLES = np.linspace(0, 2 * np.pi, 12, endpoint=False)


def masked(objects: Objects) -> Objects:
    """Return the objects with masks: the ellipses in their boxes."""
    polygons = []
    for left, top, right, bottom in objects.boxes.astype(float).tolist():
        across, down = (left + right) / 2, (top + bottom) / 2
        corners = [across + (right - left) / 2 * np.cos(ANGLES), down + (bottom - top) / 2 * np.sin(ANGLES)]
        polygons.append([np.stack(corners, axis=1).clip(0, 399)])
    return dataclasses.replace(objects, masks=Masks.of(polygons).on(SIZE))


def both(images: Images) -> Images:
    return [masked(objects) for objects in images]


def reference(found: Images, truth: Images) -> list[float]:
    """Return the twelve figures of the official code."""
    rows: list[list[dict[str, Any]]] = [[], []]
    for images, out in ((truth, rows[0]), (found, rows[1])):
        for image, objects in enumerate(images):
            assert objects.masks is not None
            for row in range(len(objects)):
                score = {} if objects.scores is None else {"score": float(objects.scores[row])}
                out.append(
                    {
                        "id": len(out) + 1,
                        "image_id": image + 1,
                        "category_id": int(objects.labels[row]) + 1,
                        "segmentation": objects.masks.runs(row).to_dict(),
                        "area": float(objects.areas[row]),
                        "iscrowd": int(objects.crowd[row]),
                        **score,
                    }
                )
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO()
        annotated.dataset = {
            "images": [{"id": image + 1, "height": SIZE[0], "width": SIZE[1]} for image in range(len(truth))],
            "categories": [{"id": label + 1} for label in range(len(NAMES))],
            "annotations": rows[0],
        }
        annotated.createIndex()
        evaluator = COCOeval(annotated, annotated.loadRes(rows[1]), "segm")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return [float(value) for value in evaluator.stats]


@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0.5, 1))
@settings(max_examples=examples(15), deadline=None)
def test_figures_equal_the_official_ones(seed: int, count: int, skill: float) -> None:
    found, truth = (both(images) for images in scenes(seed, count, len(NAMES), skill=skill))
    if not sum(map(len, found)) or not sum(map(len, truth)):
        return
    measured = measure("test", found, truth, NAMES).masks
    assert measured is not None
    for name, expected in zip(STATS, reference(found, truth), strict=True):
        value = getattr(measured, name)
        assert (value in (None, 0.0)) if expected == -1 else value == pytest.approx(expected, abs=1e-12), name


@given(st.integers(0, 10_000))
@settings(max_examples=examples(10), deadline=None)
def test_own_matches_give_the_figures_of_the_evaluator(seed: int) -> None:
    """Intervals, curves and kinds of errors come from own matches, AP from the evaluator."""
    found, truth = (both(images) for images in scenes(seed, 8, len(NAMES), skill=0.9, crowds=0.2))
    if not sum(map(len, found)):
        return
    measured = measure("test", found, truth, NAMES).masks
    assert measured is not None
    own = average_precisions(matched(found, truth, len(NAMES), Rules(overlap="masks")), "coco")[0]
    for label, row in enumerate(measured.per_class):
        expected = None if row.num_objects == 0 else pytest.approx(own[:, label].mean(), abs=1e-9)
        assert row.ap == expected


def test_masks_are_measured_where_both_sides_have_them() -> None:
    found, truth = scenes(3, 6, len(NAMES))
    assert measure("test", both(found), truth, NAMES).masks is None
    assert measure("test", found, both(truth), NAMES).masks is None
    measured = measure("test", both(found), both(truth), NAMES, loss=0.5)
    assert measured.masks is not None
    document = json.loads(json.dumps(measured.to_dict(), allow_nan=False))
    assert DetectionEvaluation.from_dict(document) == measured
    assert document["mask_ap"] == measured.masks.ap == measured.summary()["mask_ap"]
    assert document["mask_ap50"] == measured.masks.ap50
    assert document["mask_ap_interval"] == list(measured.masks.ap_interval or ())
    assert "masks: AP" in measured.in_words()
    of_boxes = measure("test", found, truth, NAMES)
    assert dataclasses.replace(measured, masks=None, loss=None) == of_boxes
    assert "mask_ap" not in of_boxes.to_dict()


def test_a_detection_where_an_object_has_no_mask_is_neither_right_nor_wrong() -> None:
    boxes = np.array([[10, 10, 60, 60], [100, 100, 200, 200]], np.float32)
    truth = masked(Objects(boxes, np.zeros(2, np.int64)))
    assert truth.masks is not None
    known = Masks.joined([truth.masks[:1], Masks.of([None])]).on(SIZE)
    found = masked(Objects(boxes, np.zeros(2, np.int64), scores=np.array([0.8, 0.9])))
    measured = measure("test", [found], [dataclasses.replace(truth, masks=known)], NAMES).masks
    assert measured is not None
    assert (measured.ap, measured.num_objects) == (1, 1)
    assert measured.per_class[0].ap50 == 1


@pytest.mark.skipif("COCO_EVAL" not in os.environ, reason="COCO_EVAL names no folder with COCO's own example")
def test_figures_of_the_official_example() -> None:
    folder = Path(os.environ["COCO_EVAL"])
    document = json.loads((folder / "instances_val2014_100.json").read_text("utf-8"))
    results = json.loads((folder / "instances_val2014_fakesegm100_results.json").read_text("utf-8"))
    labels = {row["id"]: place for place, row in enumerate(document["categories"])}
    sizes = {row["id"]: (row["height"], row["width"]) for row in document["images"]}

    def objects(rows: Sequence[dict[str, Any]], image: int) -> Objects:
        own = [row for row in rows if row["image_id"] == image]
        masks = Masks.of(
            [read_segmentation(row["segmentation"], sizes[image], "a row")[0] for row in own]
        ).on(sizes[image])
        scored = bool(own) and "score" in own[0]
        return Objects(
            np.array([masks.crop(row).box for row in range(len(own))]).reshape(-1, 4),
            np.array([labels[row["category_id"]] for row in own], np.int64),
            np.array([bool(row.get("iscrowd")) for row in own]),
            areas=masks.areas() if scored else np.array([row["area"] for row in own]),
            scores=np.array([row["score"] for row in own]) if scored else None,
            masks=masks,
        )

    found = [objects(results, image) for image in sorted(sizes)]
    truth = [objects(document["annotations"], image) for image in sorted(sizes)]
    measured = measure("val", found, truth, [row["name"] for row in document["categories"]]).masks
    official = (0.320, 0.562, 0.299, 0.387, 0.310, 0.327, 0.268, 0.415, 0.417, 0.469, 0.377, 0.381)
    assert [round(getattr(measured, name), 3) for name in STATS] == pytest.approx(official)
