"""What the gate calls a loss, and what it lets through."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepresidual.evaluation.multilabel.metrics import decisions
from deepresidual.exporting.gate import ENOUGH_IMAGES, Limits, Loss, label_loss, top1_loss


def answers(count: int, wrong: int, shift: int = 0) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return classes of which the first are wrong, after ``shift`` right ones."""
    found = np.zeros(count, np.int64)
    found[shift : shift + wrong] = 1
    return found


@pytest.mark.parametrize(
    ("reference", "measured", "allowed"),
    [
        ((1000, 100, 0), (1000, 105, 0), True),  # half a point
        ((1000, 100, 0), (1000, 106, 0), False),
        ((1000, 100, 0), (1000, 90, 0), True),  # a gain
        ((1000, 30, 0), (1000, 30, 11), False),  # no loss, and 22 images of 1,000 that got another class
        ((1000, 30, 0), (1000, 30, 10), True),
    ],
)
def test_half_a_point_and_two_of_a_hundred_others_are_the_most(
    reference: tuple[int, int, int], measured: tuple[int, int, int], allowed: bool
) -> None:
    loss = top1_loss(answers(*reference), answers(*measured), np.zeros(1000, np.int64))
    assert (not Limits().failure(loss)) is allowed
    assert (Limits().excess(loss) == 0) is allowed


def test_what_fails_is_named_with_its_limit() -> None:
    labels = np.zeros(153, np.int64)
    others = top1_loss(answers(153, 30), answers(153, 30, 2), labels)
    failure = "97.39% of the best classes agree (149 of 153), fewer than 98%"
    assert Limits().failure(others) == failure
    assert not Limits(agreement=0.97).failure(others)
    worse = top1_loss(answers(153, 30), answers(153, 32), labels)
    failure = "top-1 80.39% → 79.08%, a loss of 1.31 points, more than 0.5"
    assert Limits().failure(worse) == failure
    assert not Limits(loss=0.014).failure(worse)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
def test_the_loss_is_the_difference_of_both_accuracies_and_lies_in_its_interval(
    rows: list[tuple[int, int, int]],
) -> None:
    reference, measured, labels = np.array(rows).T
    loss = top1_loss(reference, measured, labels)
    assert loss.loss == pytest.approx((reference == labels).mean() - (measured == labels).mean())
    assert loss.agreement == (reference == measured).mean()
    assert loss.interval[0] - 1e-9 <= loss.loss * len(rows) / (len(rows) + 2) <= loss.interval[1] + 1e-9


def test_few_images_show_nothing() -> None:
    few, many = (
        top1_loss(answers(count, 10), answers(count, 10), np.zeros(count, np.int64))
        for count in (ENOUGH_IMAGES - 1, ENOUGH_IMAGES)
    )
    assert not Limits().failure(few)
    assert not few.is_shown
    assert many.is_shown


def test_an_interval_beyond_half_a_point_shows_nothing() -> None:
    loss = Loss("top1", 0.9, 0.897, (-0.001, 0.007), 0.99, 5000)
    assert not loss.is_shown
    assert str(loss) == "top-1 90.00% → 89.70%, loss 0.30 points (95 %: -0.10 to 0.70), 99.00% agree"


def test_no_loss_has_no_sign() -> None:
    assert "loss 0.00 points" in str(Loss("top1", 0.9, 0.90000001, (0.0, 0.0), 1.0, 5000))


def test_of_several_labels_macro_f1_is_what_may_be_lost() -> None:
    generator = np.random.default_rng(0)
    targets = generator.random((500, 4)) < 0.4
    same = label_loss(targets, targets, targets)
    assert (same.loss, same.interval, same.agreement, Limits().failure(same)) == (0, (0, 0), 1, "")
    given_labels = targets.copy()
    given_labels[:20, 0] ^= True
    lost = label_loss(targets, given_labels, targets)
    assert lost.loss == pytest.approx(1 - decisions(given_labels, targets).macro_f1[0])
    assert lost.interval[0] < lost.loss < lost.interval[1]
    assert lost.agreement == pytest.approx(1 - 20 / 2000)
    assert "a loss of" in Limits().failure(lost)
    assert "of the labels agree" in Limits(agreement=0.999).failure(lost)
    assert "macro F1 100.00% → 9" in str(lost)
