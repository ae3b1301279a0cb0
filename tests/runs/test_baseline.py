"""The majority-class baseline, and the sentence that judges an accuracy by it."""

from __future__ import annotations

from typing import Any

import pytest

from deepresidual.evaluation import Evaluation
from deepresidual.runs.baseline import Baseline, in_words, majority_class, shows_top5, training_top1

BEES = Baseline("bees", 83, 153)
HELP = "more images or learned weights (--weights) would help"


def test_the_most_frequent_class_of_the_split_is_the_baseline() -> None:
    baseline = majority_class(("ants", "bees"), ((0, 0, 40), (0, 1, 30), (1, 0, 19), (1, 1, 64)))
    assert baseline == BEES
    assert baseline.top1 == 83 / 153


def test_of_equally_frequent_classes_the_first_is_the_baseline() -> None:
    assert majority_class("abc", ((0, 1, 1), (1, 1, 5), (2, 1, 5))) == Baseline("b", 5, 11)


def test_a_split_without_images_has_an_empty_baseline() -> None:
    assert majority_class("ab", ()) == Baseline("", 0, 0)
    assert majority_class("ab", ()).top1 == 0
    assert in_words(0, 0, (0, 1), Baseline("", 0, 0)) == "no images were measured"


@pytest.mark.parametrize(
    ("right", "interval", "known", "clauses"),
    [
        (104, (0.60, 0.75), {}, []),
        (104, (0.60, 0.75), {"training_top1": 0.76}, []),
        (104, (0.60, 0.75), {"training_top1": 0.88}, ["it overfits: 88 % on training images", HELP]),
        (
            104,
            (0.60, 0.75),
            {"training_top1": 0.88, "from_scratch": False},
            ["it overfits: 88 % on training images", "more images would help"],
        ),
        # 10 points above, and within what chance does to so few images.
        (
            104,
            (0.50, 0.85),
            {"training_top1": 0.80},
            ["not shown to be better than always answering 'bees'", HELP],
        ),
        (90, (0.51, 0.66), {}, ["not shown to be better than always answering 'bees'", HELP]),
        (70, (0.38, 0.53), {"from_scratch": True}, ["worse than always answering 'bees'", HELP]),
    ],
)
def test_the_sentence_has_the_clauses_that_hold(
    right: int, interval: tuple[float, float], known: dict[str, Any], clauses: list[str]
) -> None:
    low, high = (f"{100 * bound:.0f}" for bound in interval)
    figures = f"{right} of 153 right: {100 * right / 153:.0f} % ({low}–{high} %)"
    expected = [figures, "always 'bees': 54 %", *clauses]
    assert in_words(right, 153, interval, BEES, **known) == "; ".join(expected)


def test_of_one_class_alone_nothing_can_be_said() -> None:
    assert in_words(12, 15, (0.5, 0.9), Baseline("bees", 15, 15), training_top1=1.0) == (
        "12 of 15 right; all are 'bees', which says nothing about telling classes apart"
    )


def test_odd_names_of_classes_stay_in_one_short_line() -> None:
    name = Baseline("a\nb" + "c" * 500, 2, 3).name
    assert name.startswith("'a\\nbccc")
    assert len(name) <= 45


def test_top5_is_shown_from_eleven_classes_on() -> None:
    assert [shows_top5(count) for count in (0, 1, 5, 10, 11, 1000)] == [False] * 4 + [True] * 2


def test_the_training_accuracy_is_that_of_the_last_epoch_until_the_step_that_was_kept() -> None:
    rows = [
        {"step": 10, "epoch": 0.5, "top1": 0.1},
        {"step": 20, "epoch": 1.0, "top1": 0.2},
        {"step": 30, "epoch": 1.5, "top1": 0.4},
        {"step": 40, "epoch": 2.0, "top1": 0.6},
        {"step": 45, "epoch": 2.25},
        {"step": 60, "epoch": 3.0, "top1": 0.9},
    ]
    assert training_top1(rows) == pytest.approx(0.9)
    assert training_top1(rows, 40) == pytest.approx(0.5)
    assert training_top1(rows[:3], 45) == pytest.approx(0.3)
    assert training_top1(rows, 5) is None
    assert training_top1([]) is None


def test_an_evaluation_has_its_baseline_as_a_value_and_in_json() -> None:
    evaluation = Evaluation(
        "test",
        104 / 153,
        1.0,
        0.7,
        153,
        ("ants", "bees"),
        ((0, 0, 40), (0, 1, 30), (1, 0, 19), (1, 1, 64)),
        (),
    )
    assert evaluation.baseline == BEES
    document = evaluation.to_dict()
    assert (document["baseline_top1"], document["baseline_class"]) == (83 / 153, "bees")
    assert "baseline_top1" not in evaluation.summary()
    assert evaluation.in_words() == "104 of 153 right: 68 % (60–75 %); always 'bees': 54 %"
    assert "it overfits: 88 %" in evaluation.in_words(training_top1=0.88)
