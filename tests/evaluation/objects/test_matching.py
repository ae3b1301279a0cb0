"""Matches, and average precision of them, against the official code and the formulas of Pascal VOC."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepresidual.data.objects import Objects
from deepresidual.evaluation.objects import Rules, measure
from deepresidual.evaluation.objects.coco import coco_figures
from deepresidual.evaluation.objects.matching import Matches, match
from deepresidual.evaluation.objects.measure import matched
from deepresidual.evaluation.objects.overlaps import overlapping_pairs
from deepresidual.evaluation.objects.precision import average_precisions
from tests.evaluation.objects.scenes import Images, scenes

NUM_CLASSES = 4


def matches_of(found: Images, truth: Images) -> Matches:
    return matched(found, truth, NUM_CLASSES, Rules())


@given(st.integers(0, 10_000), st.integers(1, 25), st.floats(0.2, 1), st.sampled_from([0, 0.2]))
@settings(max_examples=25, deadline=None)
def test_average_precision_of_matches_is_coco_s(
    seed: int, count: int, skill: float, difficult: float
) -> None:
    found, truth = scenes(seed, count, NUM_CLASSES, skill=skill, difficult=difficult)
    matches = matches_of(found, truth)
    expected = coco_figures(found, truth, NUM_CLASSES).precision[:, :, 0]
    np.testing.assert_allclose(average_precisions(matches, "coco")[0], expected, atol=1e-12)


def test_weights_are_images_that_come_several_times() -> None:
    found, truth = scenes(1, 12, NUM_CLASSES, levels=100_000)
    often = np.random.default_rng(0).integers(0, 3, (5, 12))
    drawn = average_precisions(matches_of(found, truth), "coco", often.astype(np.float64))
    for row, numbers in enumerate(often):
        chosen = np.repeat(np.arange(12), numbers).tolist()
        again = [found[place] for place in chosen], [truth[place] for place in chosen]
        expected = coco_figures(*again, NUM_CLASSES).precision[:, :, 0]
        np.testing.assert_allclose(drawn[row], expected, atol=1e-12)


def test_pairs_do_not_depend_on_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    found, truth = scenes(2, 20, NUM_CLASSES)
    matches = matches_of(found, truth)
    monkeypatch.setattr("deepresidual.evaluation.objects.overlaps._TOGETHER", 5)
    again = overlapping_pairs(matches.found, matches.truth, whole_crowds=True)
    assert np.array_equal(again.found, matches.pairs.found)
    assert np.array_equal(again.truth, matches.pairs.truth)
    assert np.array_equal(again.iou, matches.pairs.iou)


def test_the_surest_detection_takes_the_object_and_others_the_next() -> None:
    truth = Objects(np.array([[0, 0, 10, 10], [2, 0, 12, 10]]), np.zeros(2, np.int64))
    found = Objects(
        np.array([[1, 0, 11, 10], [0, 0, 10, 10], [0, 0, 10, 10]]),
        np.zeros(3, np.int64),
        scores=np.array([0.9, 0.8, 0.7]),
    )
    # Both objects have the same IoU with the first detection; COCO takes the last, VOC the first.
    assert match([found], [truth], 1).taken[:, 0].tolist() == [1, 0, -1]
    assert match([found], [truth], 1, "voc12").taken[:, 0].tolist() == [0, -1, -1]


# -- Pascal VOC ----------------------------------------------------------------------------------------------


def voc_reference(found: Images, truth: Images, label: int, needed: float, year: str) -> float:
    """Return the AP of a class by the text of the development kit, one detection after the other.

    Boxes are whole pixels from 1 to the last one, as in annotations of Pascal VOC.
    """
    rows = []
    objects: dict[int, list[tuple[np.ndarray, bool]]] = {}
    taken: dict[int, set[int]] = {}
    for image, (here, there) in enumerate(zip(found, truth, strict=True)):
        objects[image] = [
            (there.boxes[row] + [1, 1, 0, 0], bool(there.difficult[row] or there.crowd[row]))
            for row in np.flatnonzero(there.labels == label)
        ]
        taken[image] = set()
        assert here.scores is not None or not len(here)
        rows += [
            (float(here.scores[row]), image, here.boxes[row] + [1, 1, 0, 0])  # type: ignore[index]
            for row in np.flatnonzero(here.labels == label)
        ]
    rows.sort(key=lambda row: -row[0])
    number = sum(not difficult for boxes in objects.values() for _, difficult in boxes)
    if not number:
        return float("nan")
    hits, misses, recall, precision = 0, 0, [], []
    for _, image, box in rows:
        best, place = -1.0, -1
        for candidate, (other, _) in enumerate(objects[image]):
            width = min(box[2], other[2]) - max(box[0], other[0]) + 1
            height = min(box[3], other[3]) - max(box[1], other[1]) + 1
            if width > 0 and height > 0:
                union = _area(box) + _area(other) - width * height
                if width * height / union > best:
                    best, place = width * height / union, candidate
        if best > needed:
            if objects[image][place][1]:
                continue
            hits, misses = (hits, misses + 1) if place in taken[image] else (hits + 1, misses)
            taken[image].add(place)
        else:
            misses += 1
        recall.append(hits / number)
        precision.append(hits / (hits + misses))
    if year == "voc07":
        levels = np.arange(0.0, 1.1, 0.1)
        highest = [
            max([p for r, p in zip(recall, precision, strict=True) if r >= at], default=0) for at in levels
        ]
        return float(np.mean(highest))
    area, last = 0.0, 0.0
    for place, reached in enumerate(recall):
        area += (reached - last) * max(precision[place:])
        last = reached
    return area


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0] + 1) * (box[3] - box[1] + 1))


def whole(images: Images) -> Images:
    """Return objects with boxes of whole pixels."""
    return [
        Objects(
            np.concatenate([np.floor(each.boxes[:, :2]), np.ceil(each.boxes[:, 2:])], axis=1),
            each.labels,
            each.crowd,
            each.difficult,
            scores=each.scores,
        )
        for each in images
    ]


@given(st.integers(0, 10_000), st.integers(1, 12), st.floats(0.2, 1), st.sampled_from(["voc07", "voc12"]))
@settings(max_examples=25, deadline=None)
def test_figures_of_pascal_voc_equal_its_formulas(seed: int, count: int, skill: float, year: str) -> None:
    found, truth = map(whole, scenes(seed, count, NUM_CLASSES, skill=skill, crowds=0, difficult=0.2))
    rules = Rules(metric=year)  # type: ignore[arg-type]
    rows = measure("test", found, truth, ["a", "b", "c", "d"], rules=rules).per_class
    for label, row in enumerate(rows):
        for name, needed in (("ap50", 0.5), ("ap75", 0.75)):
            expected = voc_reference(found, truth, label, needed, year)
            value = getattr(row, name)
            if np.isnan(expected):
                assert value is None
            else:
                assert value == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("metric", "expected"), [("coco", 51 / 101), ("voc07", 6 / 11), ("voc12", 0.5)])
def test_half_of_the_objects_found(metric: str, expected: float) -> None:
    boxes = np.array([[0, 0, 10, 10], [50, 50, 60, 60]])
    truth = [Objects(boxes, np.zeros(2, np.int64))]
    found = [Objects(boxes[:1], np.zeros(1, np.int64), scores=np.array([0.9]))]
    measured = measure("test", found, truth, ["a"], rules=Rules(metric=metric))  # type: ignore[arg-type]
    assert measured.ap50 == pytest.approx(expected)
    assert (measured.metric, measured.ap_small is None) == (metric, metric != "coco")
