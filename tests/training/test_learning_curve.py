"""The learning curve: errors at three sizes, what a doubling takes away, and in words."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from deepresidual.training.learning_curve import _doubling, _gain, _parts, learning_curve


def noisy_classes(count: int, features: int, spread: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    random = np.random.default_rng(0)
    labels = np.arange(count) % 2
    values = random.normal(size=(count, features)) * spread
    values[:, 0] += 2 * labels - 1
    return values[:, None].astype(np.float32), labels


def test_with_many_features_and_few_images_more_would_help() -> None:
    values, labels = noisy_classes(400, 60, 0.6)
    curve = learning_curve(values, labels, 0.1)
    errors = [point.error for point in curve.points]
    assert errors == sorted(errors, reverse=True)
    assert [point.count for point in curve.points] == [80, 160, 320]
    assert [point.num_fits for point in curve.points] == [20, 10, 5]
    assert curve.gain != "none"
    low, high = curve.doubling_interval
    assert 0 < low < curve.doubling < high


def test_where_one_feature_tells_all_that_can_be_told_more_would_not_help() -> None:
    values, labels = noisy_classes(400, 1, 1.0)
    curve = learning_curve(values, labels, 0.1)
    assert curve.gain == "none"
    assert curve.doubling == pytest.approx(0, abs=0.1)


def test_too_few_images_of_a_class_are_said() -> None:
    values, labels = noisy_classes(14, 3, 1.0)
    curve = learning_curve(values, labels, 0.1)
    assert curve.points == ()
    assert "A class has 7 training images as a rule; to see what more would give takes 8." in curve.reason


def test_the_same_images_give_the_same_curve() -> None:
    values, labels = noisy_classes(60, 5, 1.0)
    assert learning_curve(values, labels, 0.1) == learning_curve(values.copy(), labels.copy(), 0.1)


def test_parts_are_disjoint_and_share_every_class() -> None:
    rows = np.repeat([0, 1], [40, 12])
    among = np.arange(52) % 5 > 0
    parts = _parts(rows, among, 4, np.random.default_rng(0))
    assert (parts[~among] == -1).all()
    for row in (0, 1):
        counts = np.bincount(parts[among & (rows == row)], minlength=4)
        assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(
    ("quarter", "whole", "expected"), [(400, 100, 0.5), (100, 100, 0.0), (100, 200, 1 - 2**0.5)]
)
def test_a_doubling_takes_away_what_the_slope_says(quarter: int, whole: int, expected: float) -> None:
    assert _doubling(quarter, whole, 1000) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("doubling", "low", "gain"),
    [(0.2, 0.1, "a lot"), (0.2, -0.01, "none"), (0.1, 0.01, "a little"), (0.04, 0.01, "none")],
)
def test_the_words(doubling: float, low: float, gain: str) -> None:
    assert _gain(doubling, low) == gain
