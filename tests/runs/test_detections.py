"""What the end of a run of a detector says."""

from __future__ import annotations

from typing import Any

import pytest

from deepresidual.runs.detections import detections_in_words, found_at_thresholds


def an_evaluation(**changes: Any) -> dict[str, Any]:
    """Return an evaluation of 10 images: 40 of 50 cats are found by 50 detections, 20 of 30 dogs by 20."""
    rows = [
        {"num_objects": 50, "threshold": {"score": 0.4, "precision": 0.8, "recall": 0.8}},
        {"num_objects": 30, "threshold": {"score": 0.7, "precision": 1.0, "recall": 2 / 3}},
        {"num_objects": 0, "threshold": None},
    ]
    return {
        "count": 10,
        "num_objects": 80,
        "ap": 0.503,
        "ap50": 0.7,
        "ap_interval": [0.46, 0.551],
        "ap50_interval": [0.62, 0.781],
        "per_class": rows,
        **changes,
    }


def test_figures_stand_with_their_intervals_and_counts() -> None:
    assert detections_in_words(an_evaluation()) == [
        "AP50 70.0 % (62–78 %), AP 50.3 % (46–55 %); 80 objects in 10 images",
        "60 of 80 objects found, 1.0 false an image, from each class's best score on, 0.40 to 0.70",
    ]


@pytest.mark.parametrize(
    ("precision", "count", "words"),
    [(1.0, 10, "0.0 false"), (0.8, 1000, "0.01 false"), (0.8, 100, "0.1 false"), (0.1, 10, "36.0 false")],
)
def test_few_false_ones_are_not_rounded_to_none(precision: float, count: int, words: str) -> None:
    rows = [{"num_objects": 50, "threshold": {"score": 0.4, "precision": precision, "recall": 0.8}}]
    lines = detections_in_words(an_evaluation(count=count, num_objects=50, per_class=rows))
    assert f", {words} an image, from a score of 0.40 on" in lines[1]


def test_without_objects_only_the_figures_are_said() -> None:
    nothing = an_evaluation(num_objects=0, ap_interval=None, ap50_interval=None)
    assert found_at_thresholds(nothing) is None
    assert detections_in_words(nothing) == ["AP50 70.0 %, AP 50.3 %; 0 objects in 10 images"]


def test_an_interval_of_nothing_right_is_left_out() -> None:
    nothing = an_evaluation(ap=0.0, ap50=0.0, ap_interval=[0.0, 0.0], ap50_interval=[0.0, 0.0])
    assert detections_in_words(nothing)[0] == "AP50 0.0 %, AP 0.0 %; 80 objects in 10 images"


def test_a_narrow_interval_has_a_digit_more() -> None:
    narrow = an_evaluation(ap_interval=[0.5011, 0.5049], ap50_interval=[0.70001, 0.70002])
    assert detections_in_words(narrow)[0].startswith("AP50 70.0 %, AP 50.3 % (50.1–50.5 %);")
