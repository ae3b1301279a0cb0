"""Each kind of error by hand, what mending it gains, and the mistakes that are shown."""

from __future__ import annotations

import numpy as np
import pytest

from deepresidual.data.objects import Objects
from deepresidual.evaluation.objects import DetectionEvaluation, measure
from tests.evaluation.objects.scenes import scenes

NAMES = ("cat", "dog")
BOX = (0.0, 0.0, 100.0, 100.0)
SHIFTED = (60.0, 0.0, 160.0, 100.0)  # an IoU of .25 with BOX
AWAY = (300.0, 300.0, 400.0, 400.0)


def objects(*rows: tuple[tuple[float, ...], int], scores: list[float] | None = None) -> Objects:
    boxes, labels = np.array([box for box, _ in rows]), np.array([label for _, label in rows])
    return Objects(boxes, labels, scores=None if scores is None else np.array(scores))


def measured(truth: Objects, found: Objects) -> DetectionEvaluation:
    return measure("test", [found], [truth], NAMES, keys=["a.jpg"], image_ids=[17])


def counts(evaluation: DetectionEvaluation) -> dict[str, int]:
    return {row.kind: row.count for row in evaluation.errors if row.count}


def gain(evaluation: DetectionEvaluation, kind: str) -> float:
    (row,) = [row for row in evaluation.errors if row.kind == kind]
    return row.gain


def test_a_detection_beside_its_object_is_an_error_of_place() -> None:
    evaluation = measured(objects((BOX, 0)), objects((SHIFTED, 0), scores=[0.9]))
    assert counts(evaluation) == {"place": 1}
    assert evaluation.ap50 == 0
    assert gain(evaluation, "place") == 1
    (mistake,) = evaluation.false
    assert (mistake.key, mistake.image_id, mistake.label, mistake.true_label) == ("a.jpg", 17, "cat", "cat")
    assert (mistake.box, mistake.true_box, evaluation.missed) == (SHIFTED, BOX, ())


def test_the_wrong_class_on_an_object_is_an_error_of_class() -> None:
    evaluation = measured(objects((BOX, 0)), objects((BOX, 1), scores=[0.9]))
    assert counts(evaluation) == {"class": 1}
    assert gain(evaluation, "class") == 1
    assert (evaluation.false[0].label, evaluation.false[0].true_label) == ("dog", "cat")


def test_beside_an_object_of_another_class_is_both() -> None:
    evaluation = measured(objects((BOX, 0)), objects((SHIFTED, 1), scores=[0.9]))
    assert counts(evaluation) == {"both": 1, "missed": 1}


def test_an_object_found_twice() -> None:
    evaluation = measured(
        objects((BOX, 0), (AWAY, 0)), objects((BOX, 0), (BOX, 0), (AWAY, 0), scores=[0.9, 0.8, 0.7])
    )
    assert counts(evaluation) == {"twice": 1}
    assert gain(evaluation, "twice") == pytest.approx(1 - evaluation.ap50)


def test_a_detection_of_nothing_is_of_the_background() -> None:
    evaluation = measured(objects((BOX, 0)), objects((AWAY, 0), (BOX, 0), scores=[0.9, 0.8]))
    assert counts(evaluation) == {"background": 1}
    assert (evaluation.ap50, gain(evaluation, "background")) == (0.5, 0.5)
    assert evaluation.false[0].true_label is None


def test_an_object_without_a_detection_is_missed() -> None:
    evaluation = measured(objects((BOX, 0), (AWAY, 1)), objects((BOX, 0), scores=[0.9]))
    assert counts(evaluation) == {"missed": 1}
    # Class 1 has no object left to find, and is left out of the mean.
    assert gain(evaluation, "missed") == 0.5
    (mistake,) = evaluation.missed
    assert (mistake.kind, mistake.label, mistake.box, mistake.score) == ("missed", "dog", AWAY, None)


def test_one_detection_alone_is_mended_for_an_object() -> None:
    evaluation = measured(objects((BOX, 0)), objects((SHIFTED, 0), (SHIFTED, 0), scores=[0.9, 0.8]))
    assert counts(evaluation) == {"place": 2}
    assert gain(evaluation, "place") == 1


def test_a_crowd_makes_no_error() -> None:
    crowd = Objects(np.array([BOX]), np.array([0]), crowd=np.array([True]))
    assert counts(measured(crowd, objects((BOX, 0), scores=[0.9]))) == {}


def test_no_object_and_no_detection_make_no_error() -> None:
    evaluation = measured(Objects.none(), objects((BOX, 0), scores=[0.9]))
    assert counts(evaluation) == {"background": 1}
    assert {row.gain for row in evaluation.errors} == {0}
    assert counts(measured(objects((BOX, 0)), Objects.none())) == {"missed": 1}


def test_every_wrong_detection_has_one_kind_and_gains_stay_within_what_is_lacking() -> None:
    found, truth = scenes(4, 40, 3)
    evaluation = measure("test", found, truth, ("cat", "dog", "fox"))
    number = sum(row.count for row in evaluation.errors if row.kind != "missed")
    right = sum(round((row.recall50 or 0) * row.num_objects) for row in evaluation.per_class)
    assert 0 < number <= evaluation.num_found - right  # what lies in crowds is neither
    assert all(0 <= row.gain <= 1 - evaluation.ap50 for row in evaluation.errors)
    scores = [mistake.score or 0 for mistake in evaluation.false]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 24
    sizes = [(m.box[2] - m.box[0]) * (m.box[3] - m.box[1]) for m in evaluation.missed]
    assert sizes == sorted(sizes, reverse=True)


def test_the_best_threshold_and_the_curve() -> None:
    found = objects((BOX, 0), (AWAY, 0), ((500.0, 0.0, 600.0, 100.0), 0), scores=[0.9, 0.6, 0.3])
    (cat, dog) = measured(objects((BOX, 0), (AWAY, 0)), found).per_class
    assert cat.threshold is not None
    assert cat.threshold._asdict() == pytest.approx(
        {"score": 0.6, "precision": 1, "recall": 1, "f1": 1}, abs=1e-6
    )
    assert (cat.curve.recall[-1], len(cat.curve.recall), set(cat.curve.precision)) == (1, 51, {1})
    assert cat.curve.score[0] == 0.9
    assert (dog.threshold, dog.curve.recall, dog.ap) == (None, (), None)


def test_detections_of_one_score_are_taken_together() -> None:
    found = objects((BOX, 0), (AWAY, 0), scores=[0.5, 0.5])
    row = measured(objects((BOX, 0)), found).per_class[0]
    assert row.threshold is not None
    assert (row.threshold.precision, row.threshold.score) == (0.5, 0.5)
