"""Class weights, and the shifts that keep probabilities honest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from deepresidual.recipe.balance import class_weights, few, loss_shift, positive_weights

COUNTS = st.lists(st.integers(0, 1000), min_size=2, max_size=8).filter(
    lambda counts: sum(map(bool, counts)) > 1
)


@given(COUNTS)
def test_weights_are_those_of_scikit_learn(counts: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    present = np.unique(labels)
    expected = compute_class_weight("balanced", classes=present, y=labels)
    found = class_weights(counts)
    assert [found[row] for row in present] == pytest.approx(expected.tolist())
    assert sum(found[label] for label in labels) == pytest.approx(len(labels))


@given(COUNTS)
def test_a_shift_turns_what_is_wanted_into_what_training_sees(counts: list[int]) -> None:
    frequencies = np.array(counts) / sum(counts)
    present = frequencies > 0
    equal = present / present.sum()
    seen = {"none": frequencies, "loss": equal, "sampling": equal}
    wanted = {"training": frequencies, "equal": equal}
    for balance, training in seen.items():
        for prior, probabilities in wanted.items():
            shift: NDArray[np.float64] = np.array(loss_shift(counts, balance, prior))  # type: ignore[arg-type]
            # An image that says nothing has the prior as its probabilities.
            shifted = probabilities[present] * np.exp(shift[present])
            assert shifted / shifted.sum() == pytest.approx(training[present])
    assert not any(loss_shift(counts, "none", "training"))


def test_a_label_weighs_as_much_as_its_absence() -> None:
    assert positive_weights([10, 50, 0, 100, 1], 100) == [9.0, 1.0, 1.0, 1.0, 99.0]
    assert positive_weights([1], 1000) == [100.0]


def test_few_are_those_below_a_third_of_the_largest() -> None:
    assert few([140, 130, 42]) == [2]
    assert few([140, 47, 46, 0, 3]) == [4, 2]
    assert few([]) == []
