"""COCO's figures are those of the official code."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from deepresidual.data.objects import Objects
from deepresidual.errors import ConfigurationError
from deepresidual.evaluation.objects import DetectionEvaluation, Rules, measure
from tests.evaluation.objects.scenes import Images, scenes

NAMES = ("cat", "dog", "fox")
BOX = Objects(np.array([[0, 0, 10, 10]]), np.array([1]))
FOURTH = Objects(np.array([[0, 0, 10, 10]]), np.array([3]))
STATS = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar", "ar_small", "ar_medium", "ar_large"),
)


def reference(found: Images, truth: Images, most: int) -> list[float]:
    """Return the twelve figures of the official code; images and classes have numbers with gaps."""
    rows: list[list[dict[str, object]]] = [[], []]
    for images, out in ((truth, rows[0]), (found, rows[1])):
        for image, objects in enumerate(images):
            for row in range(len(objects)):
                left, top, right, bottom = objects.boxes[row].astype(float).tolist()
                out.append(
                    {
                        "id": len(out) + 1,
                        "image_id": 7 + 3 * image,
                        "category_id": 2 + 5 * int(objects.labels[row]),
                        "bbox": [left, top, right - left, bottom - top],
                        "area": float(objects.areas[row]),
                        "iscrowd": int(objects.crowd[row]),
                        **({} if objects.scores is None else {"score": float(objects.scores[row])}),
                    }
                )
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO()
        annotated.dataset = {
            "images": [{"id": 7 + 3 * image} for image in range(len(truth))],
            "categories": [{"id": 2 + 5 * label} for label in range(len(NAMES))],
            "annotations": rows[0],
        }
        annotated.createIndex()
        evaluator = COCOeval(annotated, annotated.loadRes(rows[1]), "bbox")
        evaluator.params.maxDets = [1, 10, most]
        evaluator.evaluate()
        evaluator.accumulate()
        recall, precision = evaluator.eval["recall"], evaluator.eval["precision"]

    def mean(values: np.ndarray) -> float:
        known = values[values > -1]
        return float(known.mean()) if len(known) else -1.0

    return [
        *(mean(precision[overlaps, :, :, 0, 2]) for overlaps in (slice(None), 0, 5)),
        *(mean(precision[:, :, :, area, 2]) for area in (1, 2, 3)),
        *(mean(recall[:, :, 0, place]) for place in (0, 1, 2)),
        *(mean(recall[:, :, area, 2]) for area in (1, 2, 3)),
    ]


@given(st.integers(0, 10_000), st.integers(1, 25), st.floats(0.2, 1), st.sampled_from([12, 100]))
@settings(max_examples=25, deadline=None)
def test_figures_equal_the_official_ones(seed: int, count: int, skill: float, most: int) -> None:
    found, truth = scenes(seed, count, len(NAMES), skill=skill)
    if not sum(map(len, found)):
        return
    measured = measure("test", found, truth, NAMES, rules=Rules(most=most))
    for name, expected in zip(STATS, reference(found, truth, most), strict=True):
        value = getattr(measured, name)
        if expected == -1:
            assert value in (None, 0.0), name
        else:
            assert value == pytest.approx(expected, abs=1e-12), name


def test_no_more_detections_of_a_class_are_measured_than_asked_for() -> None:
    box = [[0, 0, 10, 10]]
    wrong = [[50, 50, 60, 60]] * 3
    found = [Objects(np.array(wrong + box), np.zeros(4, np.int64), scores=np.array([0.9, 0.8, 0.7, 0.6]))]
    truth = [Objects(np.array(box), np.zeros(1, np.int64))]
    assert measure("test", found, truth, NAMES).ap == pytest.approx(0.25)
    few = measure("test", found, truth, NAMES, rules=Rules(most=3))
    assert (few.ap, few.num_found) == (0, 3)


def test_a_class_without_objects_is_left_out_of_the_mean() -> None:
    box = np.array([[0, 0, 10, 10]])
    found = [Objects(np.repeat(box, 2, 0), np.array([0, 2]), scores=np.array([0.9, 0.8]))]
    measured = measure("test", found, [Objects(box, np.array([0]))], NAMES)
    assert (measured.ap, measured.ap50) == (1, 1)
    assert [row.ap for row in measured.per_class] == [1, None, None]
    assert (measured.ap_small, measured.ap_large) == (1, None)


def test_objects_of_a_size_are_those_that_count_in_it() -> None:
    sides = (31, 32, 33, 97, 20, 20)  # 32² pixels belong to both sizes, as COCO has it
    truth = Objects(
        np.array([[0, 0, side, side] for side in sides]),
        np.zeros(len(sides), np.int64),
        crowd=np.arange(len(sides)) == 4,
        difficult=np.arange(len(sides)) == 5,
    )
    measured = measure("test", [Objects.none()], [truth], NAMES)
    assert (measured.num_small, measured.num_medium, measured.num_large) == (2, 2, 1)
    document = measured.to_dict()
    assert DetectionEvaluation.from_dict(document) == measured
    del document["num_small"]  # as written by earlier versions
    assert DetectionEvaluation.from_dict(document).num_small is None


def test_an_evaluation_without_objects_or_detections_is_zero() -> None:
    measured = measure("test", [Objects.none()], [Objects.none()], NAMES)
    assert (measured.ap, measured.count, measured.num_objects) == (0, 1, 0)
    box = Objects(np.array([[0, 0, 10, 10]]), np.array([1]))
    assert measure("test", [Objects.none()], [box], NAMES).ap == 0


def test_difficult_objects_are_neither_right_nor_wrong() -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60]])
    truth = [Objects(boxes, np.zeros(2, np.int64), difficult=np.array([True, False]))]
    found = [Objects(boxes, np.zeros(2, np.int64), scores=np.array([0.9, 0.8]))]
    assert measure("test", found, truth, NAMES).ap == 1
    twice = [Objects(boxes[[0, 0, 1]], np.zeros(3, np.int64), scores=np.array([0.9, 0.85, 0.8]))]
    assert measure("test", twice, truth, NAMES).ap == 0.5
    assert measure("test", found, truth, NAMES).num_objects == 1


@pytest.mark.parametrize(
    ("found", "truth", "message"),
    [
        ([], [Objects.none()], "found has 0 images; expected 1, as many as truth has"),
        ([BOX], [BOX], "image 0 of found has no scores; expected a score for each box"),
        ([Objects.none()], [FOURTH], "image 0 of truth has label 3; expected 0 to 2"),
    ],
)
def test_what_cannot_be_measured_is_named(found: Images, truth: Images, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        measure("test", found, truth, NAMES)


def test_a_name_for_every_image_is_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="keys has 2 values; expected 1, one an image"):
        measure("test", [Objects.none()], [Objects.none()], NAMES, keys=["a", "b"])


def test_an_evaluation_comes_back_from_json() -> None:
    found, truth = scenes(3, 12, len(NAMES))
    measured = measure("test", found, truth, NAMES, loss=0.5)
    document = json.loads(json.dumps(measured.to_dict(), allow_nan=False))
    assert DetectionEvaluation.from_dict(document) == measured
    assert {"ap", "ap50", "ap75", "loss", "count"} <= set(document)
    assert measured.summary() == {name: document[name] for name in measured.summary()}
    assert "loss" not in measure("test", found, truth, NAMES).summary()
    assert "<table>" in measured._repr_html_()


@pytest.mark.skipif("COCO_EVAL" not in os.environ, reason="COCO_EVAL names no folder with COCO's own example")
def test_figures_of_the_official_example() -> None:
    folder = Path(os.environ["COCO_EVAL"])
    document = json.loads((folder / "instances_val2014_100.json").read_text("utf-8"))
    results = json.loads((folder / "instances_val2014_fakebbox100_results.json").read_text("utf-8"))
    labels = {row["id"]: place for place, row in enumerate(document["categories"])}
    ids = sorted(row["id"] for row in document["images"])

    def objects(rows: list[dict[str, Any]], image: int) -> Objects:
        own = [row for row in rows if row["image_id"] == image]
        boxes = np.array([row["bbox"] for row in own], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        scored = all("score" in row for row in own)
        return Objects(
            boxes.astype(np.float32),
            np.array([labels[row["category_id"]] for row in own], np.int64),
            np.array([bool(row.get("iscrowd")) for row in own]),
            areas=np.array([row.get("area", 0) for row in own]),
            scores=np.array([row["score"] for row in own]) if scored else None,
        )

    found = [objects(results, image) for image in ids]
    truth = [objects(document["annotations"], image) for image in ids]
    measured = measure("val", found, truth, [row["name"] for row in document["categories"]])
    official = (0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564)
    assert [round(getattr(measured, name), 3) for name in STATS] == pytest.approx(official)
