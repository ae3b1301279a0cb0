"""Verdicts by rule, and what confidence is worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.reporting.pages import rounded_percent
from deepresidual.reporting.verdict import SureAnswers, confidence_in_words, sure_answers, verdict_of
from deepresidual.runs.baseline import Baseline
from deepresidual.runs.intervals import wilson_interval

BEES = Baseline("bees", 83, 153)


@pytest.mark.parametrize(
    ("right", "sentence"),
    [
        (60, "It is worse than always answering 'bees'."),
        (90, "It is not shown to be better than always answering 'bees'."),
        (113, "It has learned something, and is not good yet: about one answer in four is wrong."),
        (135, "It has learned most of it: about one answer in eight is wrong."),
        (152, "It is good on images like these."),
    ],
)
def test_the_verdict_follows_the_interval(right: int, sentence: str) -> None:
    assert verdict_of(right, 153, wilson_interval(right, 153), BEES).sentence == sentence


@given(st.integers(1, 3000).flatmap(lambda count: st.tuples(st.integers(0, count), st.just(count))))
def test_nothing_is_praised_beyond_its_interval(counts: tuple[int, int]) -> None:
    right, count = counts
    low, high = wilson_interval(right, count)
    sentence = verdict_of(right, count, (low, high), Baseline("a", (count + 1) // 2, count)).sentence
    if "good on images" in sentence:
        assert low >= 0.95
    if "has learned" in sentence:
        assert low > 0.5
        assert right / count >= 0.8 or "not good yet" in sentence


def test_images_of_one_class_tell_nothing() -> None:
    assert "says nothing" in verdict_of(3, 5, (0.2, 0.9), Baseline("a", 5, 5)).sentence


def _bin(number: int, count: int, confidence: float, right: int) -> dict[str, float]:
    low, high = number / 15, (number + 1) / 15
    return {"low": low, "high": high, "count": count, "confidence": confidence, "accuracy": right / count}


def test_sure_answers_are_counted_at_the_edges_of_bins() -> None:
    bins = [_bin(7, 30, 0.51, 15), _bin(9, 20, 0.63, 14), _bin(12, 10, 0.83, 9), _bin(14, 40, 0.98, 40)]
    assert sure_answers(bins) == [
        SureAnswers(0.0, 100, 78),
        SureAnswers(0.6, 70, 63),
        SureAnswers(0.8, 50, 49),
        SureAnswers(14 / 15, 40, 40),
    ]


def test_a_row_that_leaves_nothing_out_is_not_repeated() -> None:
    assert sure_answers([_bin(14, 5, 0.99, 5)]) == [SureAnswers(0.0, 5, 5)]
    assert sure_answers([]) == []


@pytest.mark.parametrize(
    ("confidence", "right", "words"),
    [
        (0.9, 70, "surer of itself than it should be"),
        (0.7, 90, "right more often than it says"),
        (0.71, 70, "as they are"),
    ],
)
def test_calibration_in_words(confidence: float, right: int, words: str) -> None:
    assert words in confidence_in_words([_bin(12, 100, confidence, right)])
    assert confidence_in_words([]) == ""


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.744, "74 %"),
        (0.996, "99.6 %"),
        (0.9996, "over 99.9 %"),
        (0.004, "0.4 %"),
        (1e-6, "under 0.1 %"),
    ],
)
def test_shares_are_rounded_but_never_to_none_or_all(share: float, text: str) -> None:
    assert rounded_percent(share) == text.replace(" %", "\N{NO-BREAK SPACE}%")
