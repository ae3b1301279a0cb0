"""The probe's fit: scikit-learn's own solution, folds that cheat nowhere, and features of every kind."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from deepresidual.errors import ConfigurationError, DataError
from deepresidual.models import create
from deepresidual.spec import Head
from deepresidual.training import logistic_regression
from deepresidual.training import probe as module
from deepresidual.training.logistic_regression import PATH, stratified_folds
from deepresidual.training.probe import LinearProbe, fit_probe, with_probe
from tests.conftest import TINY


def clusters(
    *counts: int, num_features: int = 6, views: int = 2, spread: float = 1.5, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return features of a cloud a class, of as many images as given."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(len(counts), num_features))
    labels = np.repeat(np.arange(len(counts)), counts)
    values = centers[labels][:, None] + spread * random.normal(size=(len(labels), 1, num_features))
    values = values + 0.1 * random.normal(size=(len(labels), views, num_features))
    # Scales and offsets as far apart as those of channels are.
    scale = 10.0 ** random.uniform(-2, 2, num_features)
    return (values * scale + 3 * scale).astype(np.float32), labels


def probabilities(probe: LinearProbe, features: NDArray[Any]) -> NDArray[np.float64]:
    """Return the softmax probabilities of a probe, without its temperature."""
    logits = probe.temperature * (features.astype(np.float64) @ probe.weight.T + probe.bias)
    shares: NDArray[np.float64] = torch.from_numpy(logits).softmax(dim=1).numpy()
    return shares


@pytest.mark.parametrize("counts", [(40, 30), (25, 20, 30, 10)])
def test_the_solution_is_that_of_scikit_learns_pipeline(counts: tuple[int, ...]) -> None:
    values, labels = clusters(*counts)
    probe = fit_probe(values, labels, len(counts))
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=probe.c, tol=1e-10, max_iter=10_000))
    averaged = values.mean(axis=1, dtype=np.float64)
    theirs.fit(averaged, labels)
    np.testing.assert_allclose(probabilities(probe, averaged), theirs.predict_proba(averaged), atol=1e-4)
    assert probe.converged
    assert probe.weight.dtype == probe.bias.dtype == np.float32
    assert probe.num_images == len(labels)


def test_what_was_chosen_is_best_out_of_fold_and_the_same_each_time() -> None:
    values, labels = clusters(30, 30, 20, spread=3)
    probe = fit_probe(values, labels, 3)
    best = min(probe.curve, key=lambda point: point.loss)
    assert (probe.c, probe.out_of_fold_loss, probe.out_of_fold_top1) == (best.c, best.loss, best.top1)
    assert [point.c for point in probe.curve] == sorted(point.c for point in probe.curve)
    assert any(point.c not in PATH for point in probe.curve), "half steps around the best"
    assert probe.num_folds == 5
    again = fit_probe(values.copy(), labels.copy(), 3)
    assert np.array_equal(again.weight, probe.weight)
    assert again.curve == probe.curve


def test_the_loss_out_of_fold_is_that_of_folds_fitted_from_nothing() -> None:
    """Warm starts and standardization do not tell a fold what is held out."""
    values, labels = clusters(30, 25, spread=3)
    probe = fit_probe(values, labels, 2)
    averaged = values.mean(axis=1, dtype=np.float64)
    folds, _ = stratified_folds(averaged, labels)
    losses = []
    for fold in range(5):
        part = folds == fold
        theirs = make_pipeline(StandardScaler(), LogisticRegression(C=probe.c, tol=1e-10, max_iter=10_000))
        theirs.fit(averaged[~part], labels[~part])
        shares = theirs.predict_proba(values[part, 0].astype(np.float64))
        losses.append(-np.log(shares[np.arange(part.sum()), labels[part]]))
    assert probe.out_of_fold_loss == pytest.approx(np.concatenate(losses).mean(), abs=1e-5)


def test_labels_drawn_at_random_are_not_believed() -> None:
    """A fit that saw what it is judged by would be right about noise."""
    random = np.random.default_rng(0)
    values = random.normal(size=(80, 1, 60)).astype(np.float32)
    probe = fit_probe(values, random.permutation(np.arange(80) % 2), 2)
    assert probe.out_of_fold_loss is not None
    assert probe.out_of_fold_loss > 0.66
    assert probe.c <= 1e-3


def test_folds_share_every_class_and_keep_copies_together() -> None:
    values, labels = clusters(23, 17, 9)
    averaged = values.mean(axis=1)
    averaged[5], averaged[6] = averaged[4], averaged[4]
    folds, note = stratified_folds(averaged, labels)
    assert (set(folds.tolist()), note) == (set(range(5)), "")
    assert folds[4] == folds[5] == folds[6]
    for label, count in enumerate((23, 17, 9)):
        sizes = np.bincount(folds[labels == label], minlength=5)
        assert sizes.min() >= 1
        assert sizes.max() <= count // 5 + 3
    # As many folds as the smallest class has images.
    assert set(stratified_folds(averaged[: 23 + 17 + 4], labels[: 23 + 17 + 4])[0].tolist()) == {0, 1, 2, 3}


def test_a_small_class_is_learned_and_takes_no_part_in_the_choice() -> None:
    values, labels = clusters(20, 20, 1, 2)
    probe = fit_probe(values, labels, 4)
    assert probe.note == "2 classes of fewer than 3 images took no part in choosing C"
    assert probe.num_folds == 5
    assert np.isfinite(probe.weight).all()
    assert probe.weight[2].any()


def test_below_three_images_a_class_the_usual_strength_is_taken_and_said() -> None:
    values, labels = clusters(2, 2, 1)
    probe = fit_probe(values, labels, 3)
    assert (probe.c, probe.curve, probe.num_folds, probe.temperature) == (0.01, (), 0, 1.0)
    assert probe.note == "fewer than 3 images a class are too few to choose C by: 0.01"
    assert (probe.out_of_fold_loss, probe.out_of_fold_top1) == (None, None)


def test_a_class_without_images_is_never_the_most_probable() -> None:
    values, labels = clusters(20, 20)
    probe = fit_probe(values, 3 * labels, 5)
    shares = probabilities(dataclasses.replace(probe, temperature=1.0), values[:, 0])
    assert probe.weight.shape == (5, 6)
    assert shares[:, [1, 2, 4]].max() < 1 / 40
    assert shares[:, [1, 2, 4]].min() > 0
    assert (shares.argmax(axis=1) == 3 * labels).mean() > 0.7


def test_one_class_alone_is_always_it() -> None:
    values, labels = clusters(4)
    for num_classes in (1, 3):
        probe = fit_probe(values, labels, num_classes)
        assert not probe.weight.any()
        assert probe.bias.argmax() == 0
    with_probe(create(dataclasses.replace(TINY, widths=(4, 6))), probe)


def test_constant_and_nearly_constant_features_do_no_harm() -> None:
    values, labels = clusters(30, 30)
    alone = fit_probe(values, labels, 2)
    dead = np.zeros((60, 2, 3), dtype=np.float32)
    dead[..., 1] = 7.3
    dead[::2, :, 2] = 100.0
    dead[1::2, :, 2] = np.nextafter(np.float32(100), np.float32(101))
    probe = fit_probe(np.concatenate([values, dead], axis=2), labels, 2)
    assert np.abs(probe.weight[:, 6:]).max() < 1e-4
    np.testing.assert_allclose(probe.weight[:, :6], alone.weight, rtol=1e-3, atol=1e-6)


def test_too_sure_a_fit_is_cooled_and_the_temperature_is_in_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values, labels = clusters(40, 40, num_features=30, spread=4)
    monkeypatch.setattr(logistic_regression, "PATH", (100.0,))
    monkeypatch.setattr(logistic_regression, "BETWEEN", 1.0)
    sure = fit_probe(values, labels, 2)
    assert sure.temperature > 1.5
    monkeypatch.setattr(module, "FEWEST_TO_CALIBRATE", 81)
    raw = fit_probe(values, labels, 2)
    assert raw.temperature == 1
    np.testing.assert_allclose(sure.weight * sure.temperature, raw.weight, rtol=1e-5)


def test_of_very_many_images_a_fifth_is_held_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MANY_IMAGES", 50)
    monkeypatch.setattr(module, "MANY_NUMBERS", 0)  # in float32, too
    values, labels = clusters(40, 40)
    probe = fit_probe(values, labels, 2)
    assert probe.num_folds == 1
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=probe.c, tol=1e-10, max_iter=10_000))
    averaged = values.mean(axis=1, dtype=np.float64)
    shares = reference.fit(averaged, labels).predict_proba(averaged)
    np.testing.assert_allclose(probabilities(probe, averaged), shares, atol=2e-3)


def test_a_solver_that_did_not_end_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic_regression, "_MOST_ITERATIONS", 1)
    probe = fit_probe(*clusters(20, 20), 2)
    assert not probe.converged
    assert not all(point.converged for point in probe.curve)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda v, y: (v[:, 0], y, 2), ConfigurationError, r"have the shape \(8, 6\) for 8 labels"),
        (lambda v, y: (v, y[:5], 2), ConfigurationError, "for 5 labels; expected images, views, features"),
        (lambda v, y: (v, y, 1), ConfigurationError, "labels are from 0 to 1; expected 0 to 0"),
        (lambda v, y: (v[:0], y[:0], 2), DataError, "no images to fit a classifier to"),
        (lambda v, y: (v * np.float32("inf"), y, 2), DataError, "features that are not finite"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        fit_probe(*change(*clusters(4, 4)))


def test_a_network_gets_the_probe_as_its_classifier() -> None:
    head = Head(("layer1", "layer2"), ("mean", "std"))
    network = create(dataclasses.replace(TINY, num_classes=0, head=head)).eval()
    values, labels = clusters(10, 10, 10, num_features=24)
    probe = fit_probe(values, labels, 3)
    with_probe(network, probe)
    images = torch.randn(2, 3, 8, 8)
    features = network.pooled_features(images).detach()
    torch.testing.assert_close(
        network(images), features @ torch.from_numpy(probe.weight).T + torch.from_numpy(probe.bias)
    )
    assert network.num_classes == 3
    with pytest.raises(
        ConfigurationError, match="reads 24 features and the network gives 8; expected the same"
    ):
        with_probe(create(TINY), probe)
