"""Label errors: what is listed, in which order, with what trust, and when there is no list."""

from __future__ import annotations

import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deepresidual.training.label_errors import (
    CrossValidated,
    cross_validate,
    find_label_errors,
    self_confidence,
    to_document,
)
from deepresidual.training.logistic_regression import stratified_folds


def clusters(*counts: int, spread: float = 1.0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features ``(N, 1, 8)`` of classes around centers of their own, and labels."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(counts)), counts)
    centers = 3 * random.normal(size=(len(counts), 8))
    values = centers[labels] + spread * random.normal(size=(len(labels), 8))
    return values[:, None].astype(np.float32), labels


def crossed(probabilities: NDArray[np.float64], top1: float = 0.9) -> CrossValidated:
    return CrossValidated(probabilities, top1, 0.01, 5)


def test_swapped_labels_are_found_and_the_right_class_is_suggested() -> None:
    values, labels = clusters(60, 60, 60)
    noisy = labels.copy()
    noisy[[3, 70, 150]] = (labels[[3, 70, 150]] + 1) % 3
    found = find_label_errors(cross_validate(values, noisy, 3), noisy)
    assert set(found.places[:3]) == {3, 70, 150}
    assert [labels[place] for place in found.places[:3]] == list(found.suggested[:3])
    assert list(found.probabilities) == sorted(found.probabilities)
    assert found.reason == ""
    assert found.trust is not None


def test_every_image_is_judged_by_a_fit_without_it() -> None:
    values, labels = clusters(20, 25, spread=4)
    judged = cross_validate(values, labels, 2, c=0.1)
    folds, _ = stratified_folds(values.mean(axis=1, dtype=np.float64), labels)
    wrong = 0
    for fold in range(5):
        part = folds == fold
        theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000))
        theirs.fit(values[~part, 0].astype(np.float64), labels[~part])
        predicted = theirs.predict(values[part, 0].astype(np.float64))
        np.testing.assert_array_equal(judged.probabilities[part].argmax(axis=1), predicted)
        wrong += int((predicted != labels[part]).sum())
    assert judged.top1 == pytest.approx(1 - wrong / 45)
    np.testing.assert_allclose(judged.probabilities.sum(axis=1), 1)


def test_the_score_is_that_of_cleanlab() -> None:
    values, labels = clusters(50, 40, 30, spread=4)
    probabilities = cross_validate(values, labels, 3).probabilities
    theirs = get_label_quality_scores(labels, probabilities, method="self_confidence")
    np.testing.assert_allclose(self_confidence(probabilities, labels), theirs, rtol=1e-12)
    found = find_label_errors(crossed(probabilities), labels)
    doubted = probabilities.argmax(axis=1) != labels
    order = [place for place in np.argsort(theirs, kind="stable").tolist() if doubted[place]]
    assert list(found.places) == order[: max(10, round(0.02 * 120))]


@given(st.integers(2, 1500), st.integers(0, 3))
def test_only_images_that_are_taken_for_another_class_are_listed_and_few_of_them(
    count: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.ones(4), count)
    labels = np.arange(count) % 4
    found = find_label_errors(crossed(probabilities), labels)
    assert len(found.places) <= max(10, round(0.02 * count))
    assert len(set(found.places)) == len(found.places)
    for place, suggested in zip(found.places, found.suggested, strict=True):
        assert suggested == probabilities[place].argmax() != labels[place]


@pytest.mark.parametrize(
    ("top1", "counts", "is_listed"),
    [(0.64, (50, 50), False), (0.66, (50, 50), True), (0.84, (75, 25), False), (0.86, (75, 25), True)],
)
def test_a_weak_classifier_gives_no_list_and_says_why(
    top1: float, counts: tuple[int, int], is_listed: bool
) -> None:
    labels = np.repeat([0, 1], counts)
    probabilities = np.tile([0.4, 0.6], (100, 1))
    found = find_label_errors(crossed(probabilities, top1), labels)
    assert bool(found.places) == is_listed
    assert bool(found.reason) != is_listed
    if not is_listed:
        assert f"right in {top1:.0%}" in found.reason


def test_images_of_a_class_that_is_too_small_to_hold_out_are_not_judged() -> None:
    values, labels = clusters(30, 30, 2)
    judged = cross_validate(values, labels, 3)
    assert np.isnan(judged.probabilities[60:]).all()
    assert not set(find_label_errors(judged, labels).places) & {60, 61}
    few = cross_validate(values[::20], labels[::20], 3)
    assert "too few images" in find_label_errors(few, labels[::20]).reason


def test_the_document_names_path_split_and_classes() -> None:
    labels = np.array([0, 1, 0])
    found = find_label_errors(crossed(np.array([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1]])), labels)
    names = [("a/1.jpg", "train", "a"), ("b/2.jpg", "train", "b"), ("a/3.jpg", "test", "a")]
    document = to_document(found, names, ("a", "b"))
    assert document["rows"] == [
        {
            "path": "a/1.jpg",
            "split": "train",
            "label": "a",
            "suggested": "b",
            "probability": pytest.approx(0.1),
            "suggested_probability": pytest.approx(0.9),
        }
    ]
