"""Say in words what a report measured: the headline, the verdict by rule, and what confidence is worth.

No sentence praises beyond the interval: what is called good has the lower end of its interval at 95 %.

Example:
    >>> verdict_of(113, 153, (0.66, 0.80), Baseline("bees", 83, 153)).sentence
    'It has learned something, and is not good yet: about one answer in four is wrong.'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepresidual.reporting.pages import rounded_percent
from deepresidual.runs.baseline import Baseline

_GOOD, _USEFUL = 0.95, 0.8
# Below that many points the mean confidence passes for the accuracy.
_CALIBRATED = 0.03
# Edges of the 15 bins of a reliability diagram, at which images can be counted exactly.
_SURE = (0.0, 0.6, 0.8, 14 / 15)
_NUMBERS = ("", "", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@dataclass(frozen=True)
class Verdict:
    """What an accuracy means.

    Attributes:
        right: Images that are named right.
        count: All images.
        top1: Their share.
        interval: Its 95 % interval.
        baseline: Always answering the most frequent class.
        sentence: The verdict.
    """

    right: int
    count: int
    top1: float
    interval: tuple[float, float]
    baseline: Baseline
    sentence: str


@dataclass(frozen=True)
class SureAnswers:
    """The answers that are at least so sure.

    Attributes:
        above: Probability of the predicted class, exclusive; 0: all answers.
        count: How many answers.
        right: How many of them are right.
    """

    above: float
    count: int
    right: int


def verdict_of(right: int, count: int, interval: tuple[float, float], baseline: Baseline) -> Verdict:
    """Judge an accuracy by its interval and the majority-class baseline; ``count`` is at least 1."""
    top1 = right / count
    return Verdict(right, count, top1, interval, baseline, _sentence(top1, interval, baseline))


def _sentence(top1: float, interval: tuple[float, float], baseline: Baseline) -> str:
    low, high = interval
    if baseline.right == baseline.count:
        return "All of them are of one class, which says nothing about telling classes apart."
    if high < baseline.top1:
        return f"It is worse than always answering {baseline.name}."
    if low <= baseline.top1:
        return f"It is not shown to be better than always answering {baseline.name}."
    if low >= _GOOD:
        return "It is good on images like these."
    wrong = _one_in(1 - top1)
    if top1 >= _USEFUL:
        return f"It has learned most of it: {wrong} is wrong."
    return f"It has learned something, and is not good yet: {wrong} is wrong."


def _one_in(share: float) -> str:
    """Return a share as a frequency: ``about one answer in four``."""
    if share >= 0.45:
        return "about every second answer" if share < 0.55 else "more than every second answer"
    number = round(1 / max(share, 1e-9))
    return f"about one answer in {_NUMBERS[number] if number < len(_NUMBERS) else f'{number:,}'}"


def sure_answers(bins: Sequence[Mapping[str, Any]]) -> list[SureAnswers]:
    """Return how many answers are how sure, and how many of them are right, while there are some."""
    rows: list[SureAnswers] = []
    for above in _SURE:
        inside = [row for row in bins if row["low"] > above - 1e-6]
        count = sum(row["count"] for row in inside)
        right = sum(round(row["accuracy"] * row["count"]) for row in inside)
        # A further row says something new only where it leaves answers out.
        if count and (not rows or count < rows[-1].count):
            rows.append(SureAnswers(above, count, right))
    return rows


def confidence_in_words(bins: Sequence[Mapping[str, Any]]) -> str:
    """Return how far the probabilities can be taken at their word; empty without images."""
    count = sum(row["count"] for row in bins)
    if not count:
        return ""
    confidence = sum(row["confidence"] * row["count"] for row in bins) / count
    accuracy = sum(row["accuracy"] * row["count"] for row in bins) / count
    said = f"On average it is {rounded_percent(confidence)} sure, and right in {rounded_percent(accuracy)}"
    if abs(confidence - accuracy) <= _CALIBRATED:
        return f"{said}: its percentages can be taken as they are."
    if confidence > accuracy:
        return f"{said}: it is surer of itself than it should be."
    return f"{said}: it is right more often than it says."
