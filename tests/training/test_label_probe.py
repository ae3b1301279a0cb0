"""A probe of several labels: one-vs-rest of scikit-learn, its choice of C, and labels that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler

from deepresidual.errors import ConfigurationError, DataError
from deepresidual.training.label_probe import fit_label_probe
from deepresidual.training.probe import LinearProbe


def made(count: int, seed: int = 0, noise: float = 1.0) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return features ``(N, 2, 6)`` in which three labels show, the third one rare."""
    random = np.random.default_rng(seed)
    targets = random.random((count, 3)) < np.array([0.5, 0.3, 0.1])
    directions = np.random.default_rng(99).normal(size=(3, 6))
    views = [targets @ directions + noise * random.normal(size=(count, 6)) for _ in range(2)]
    return np.stack(views, axis=1).astype(np.float32), targets


def logits_of(probe: LinearProbe, values: NDArray[np.float32]) -> NDArray[np.float64]:
    return values[:, 0].astype(np.float64) @ probe.weight.T + probe.bias


def test_each_label_is_the_logistic_regression_of_scikit_learn() -> None:
    values, targets = made(200)
    probe = fit_label_probe(values, targets)
    averaged = values.mean(axis=1, dtype=np.float64)
    scaler = StandardScaler().fit(averaged)
    reference = OneVsRestClassifier(LogisticRegression(C=probe.c, tol=1e-8, max_iter=2000))
    reference.fit(scaler.transform(averaged), targets)
    expected = reference.decision_function(scaler.transform(values[:, 0].astype(np.float64)))
    np.testing.assert_allclose(logits_of(probe, values) * probe.temperature, expected, atol=1e-3)


def test_it_names_labels_that_it_has_not_seen_together() -> None:
    values, targets = made(300)
    probe = fit_label_probe(values, targets)
    others, expected = made(300, seed=1)
    assert ((logits_of(probe, others) > 0) == expected).mean() > 0.85
    assert probe.out_of_fold_loss == min(point.loss for point in probe.curve)
    assert (probe.num_folds, probe.converged) == (5, True)


def test_probabilities_hold_on_other_images() -> None:
    values, targets = made(80, noise=2.0)
    probe = fit_label_probe(values, targets)
    others, expected = made(4000, seed=2, noise=2.0)
    shares = 1 / (1 + np.exp(-logits_of(probe, others)))
    assert np.abs(shares.mean(axis=0) - expected.mean(axis=0)).max() < 0.08


def test_a_label_that_all_or_none_have_gets_its_share() -> None:
    values, targets = made(60)
    targets[:, 0], targets[:, 1] = True, False
    probe = fit_label_probe(values, targets)
    shares = 1 / (1 + np.exp(-logits_of(probe, values) * probe.temperature))
    assert shares[:, 0] == pytest.approx(60.5 / 61)
    assert shares[:, 1] == pytest.approx(0.5 / 61)


def test_copies_of_a_photo_share_a_fold() -> None:
    """Labels of noise cannot be told, except by having seen the very photo."""
    random = np.random.default_rng(0)
    values = random.normal(size=(60, 1, 40)).astype(np.float32)
    targets = random.random((60, 2)) < 0.5
    twice = fit_label_probe(np.concatenate([values, values]), np.concatenate([targets, targets]))
    assert twice.out_of_fold_loss is not None
    assert twice.out_of_fold_loss > 0.6


def test_few_images_have_the_usual_strength() -> None:
    values, targets = made(10)
    probe = fit_label_probe(values, targets)
    assert (probe.c, probe.num_folds, probe.curve) == (0.01, 0, ())
    assert probe.note == "fewer than 15 images are too few to choose C by: 0.01"


def test_the_same_arguments_give_the_same_bits() -> None:
    first, second = (fit_label_probe(*made(50)) for _ in range(2))
    assert first.weight.tobytes() == second.weight.tobytes()
    assert first.bias.tobytes() == second.bias.tobytes()


def test_what_does_not_fit_is_refused() -> None:
    values, targets = made(20)
    with pytest.raises(
        ConfigurationError, match=r"the features have the shape \(20, 2, 6\) and the targets \(9,"
    ):
        fit_label_probe(values, targets[:9])
    with pytest.raises(DataError, match="there are no images to fit a classifier to"):
        fit_label_probe(values[:0], targets[:0])
    values[3, 1, 2] = np.inf
    with pytest.raises(DataError, match="features that are not finite"):
        fit_label_probe(values, targets)
