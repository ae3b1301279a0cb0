"""The part of a report about several labels an image: its verdict, and labels that are marked."""

from __future__ import annotations

from typing import Any

import pytest

from deepresidual.reporting.multilabel import label_parts, label_verdict


def an_evaluation(interval: tuple[float, float] = (0.79, 0.91)) -> dict[str, Any]:
    """Return the document of an evaluation of 60 images with the labels cat, dog, and one that none has."""
    figures = ("map", "micro_ap", "macro_f1", "micro_f1", "exact_match")
    return {
        **dict.fromkeys(figures, 0.865),
        "intervals": {name: list(interval) for name in figures},
        "always_macro_f1": 0.884,
        "mistakes": [],
        "best": [],
        "per_class": [
            {"name": "cat", "support": 50, "f1": 0.9, "always_f1": 0.91},
            {"name": "dog", "support": 40, "f1": 0.83, "always_f1": 0.8},
            {"name": "emu", "support": 0, "f1": 0.0, "always_f1": 0.0},
        ],
    }


@pytest.mark.parametrize(
    ("interval", "how"),
    [
        ((0.79, 0.87), "worse than"),
        ((0.79, 0.91), "not shown to be better than"),
        ((0.89, 0.91), "better than"),
    ],
)
def test_the_verdict_names_the_baseline_and_says_which_is_better(
    interval: tuple[float, float], how: str
) -> None:
    said = label_verdict(an_evaluation(interval)).replace("\N{NO-BREAK SPACE}", " ")
    assert "Giving every label to every image would get 88 %." in said
    assert said.endswith(f"The model is {how} giving every label to every image.")


def test_without_any_label_there_is_no_verdict() -> None:
    document = an_evaluation()
    for row in document["per_class"]:
        row["support"] = 0
    assert label_verdict(document) == ""


def test_labels_whose_f1_is_not_above_always_yes_are_marked() -> None:
    parts = label_parts(an_evaluation(), lambda _name: b"")
    assert [(row["name"], row["is_losing"]) for row in parts["rows"]] == [
        ("dog", False),
        ("cat", True),
        ("emu", False),
    ]
    assert (parts["num_losing"], parts["num_measured"]) == (1, 2)
