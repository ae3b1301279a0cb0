"""Calibration against torchmetrics, the temperature against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from deepresidual.errors import ConfigurationError, DataError
from deepresidual.evaluation import evaluate
from deepresidual.evaluation.calibration import bins_of, expected_calibration_error, fit_temperature
from deepresidual.evaluation.metrics import ClassificationSums
from tests.evaluation.parts import Gray, Memory, by_hand, source_of
from tests.suites import short


def overconfident(seed: int, count: int, num_classes: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits that are ``scale`` times those from which the labels are drawn."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, num_classes, generator=generator)
    labels = logits.softmax(dim=1).multinomial(1, generator=generator)[:, 0]
    return scale * logits, labels


# What torchmetrics 1.9 gives, whose import takes ten seconds; make test-all asks it anew.
@pytest.mark.parametrize("asked", short([False, True], False))
@pytest.mark.parametrize(
    ("num_classes", "scale", "expected"),
    [(2, 1.0, 0.0326979), (3, 4.0, 0.1742570), (10, 0.3, 0.3049772), (100, 2.0, 0.2837044)],
)
def test_the_error_is_that_of_torchmetrics(
    num_classes: int, scale: float, expected: float, asked: bool
) -> None:
    logits, labels = overconfident(num_classes, 700, num_classes, scale)
    tally = ClassificationSums(num_classes)
    for first in range(0, 700, 64):
        tally.add(logits[first : first + 64], labels[first : first + 64])
    if asked:
        from torchmetrics.classification import MulticlassCalibrationError

        reference = MulticlassCalibrationError(num_classes, n_bins=15, norm="l1")
        expected = float(reference(logits.softmax(dim=1), labels))
    # torchmetrics adds in float32.
    assert expected_calibration_error(bins_of(tally)) == pytest.approx(expected, abs=2e-6)


def test_bins_say_where_samples_lie_by_hand() -> None:
    tally = ClassificationSums(2)
    # Probabilities of the first class, which is predicted: 0.79 twice (bin 12 of 15), and 0.95 (bin 15).
    shares = torch.tensor([0.79, 0.79, 0.95], dtype=torch.float64)
    logits = torch.stack([shares.log(), (1 - shares).log()], dim=1)
    tally.add(logits, torch.tensor([0, 1, 0]))
    first, second = bins_of(tally)
    assert (first.low, first.high, first.count, first.accuracy) == (11 / 15, 12 / 15, 2, 0.5)
    assert (second.low, second.high, second.count, second.accuracy) == (14 / 15, 1.0, 1, 1.0)
    assert (first.confidence, second.confidence) == pytest.approx((0.79, 0.95))
    assert expected_calibration_error([first, second]) == pytest.approx((2 * 0.29 + 0.05) / 3)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    tally = ClassificationSums(3)
    # Of three equal logits the probability is 1/3, the upper edge of bin 5; of certainty it is 1.
    tally.add(torch.tensor([[0.0, 0.0, 0.0], [800.0, 0.0, 0.0]]), torch.tensor([0, 0]))
    assert [part.count for part in bins_of(tally)] == [1, 1]
    assert [part.high for part in bins_of(tally)] == [5 / 15, 1.0]


@pytest.mark.parametrize(("scale", "seed"), [(0.2, 0), (1.0, 1), (1.7, 2), (6.0, 3)])
def test_the_temperature_is_scipys_minimum(scale: float, seed: int) -> None:
    logits, labels = overconfident(seed, 400, 7, scale)

    def loss(beta: float) -> float:
        return float(torch.nn.functional.cross_entropy(beta * logits.double(), labels))

    found = minimize_scalar(loss, bounds=(1e-3, 1e3), method="bounded", options={"xatol": 1e-10})
    temperature = fit_temperature(logits, labels)
    assert loss(1 / temperature) <= loss(float(found.x)) + 1e-12
    assert temperature == pytest.approx(1 / float(found.x), rel=1e-4)
    assert temperature == pytest.approx(scale, rel=0.3)


@given(st.integers(0, 2**31), st.floats(0.01, 30), st.integers(2, 6), st.integers(1, 40))
def test_no_temperature_nearby_is_better(seed: int, scale: float, num_classes: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(count, num_classes, generator=generator)
    labels = torch.randint(num_classes, (count,), generator=generator)
    temperature = fit_temperature(logits, labels)
    assert 0.01 <= temperature <= 100

    def loss(value: float) -> float:
        return float(torch.nn.functional.cross_entropy(logits.double() / value, labels))

    for other in (0.99 * temperature, 1.01 * temperature):
        if 0.01 <= other <= 100:
            assert loss(temperature) <= loss(other) + 1e-12


def test_where_all_are_right_the_temperature_ends_at_its_lowest_and_where_all_are_wrong_at_its_highest() -> (
    None
):
    logits = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    assert fit_temperature(logits, torch.tensor([0, 1])) == 0.01
    assert fit_temperature(logits, torch.tensor([1, 0])) == 100.0


def test_there_is_no_temperature_of_nothing() -> None:
    with pytest.raises(DataError, match="there are no samples to fit a temperature on; name another split"):
        fit_temperature(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))


# -- in an evaluation ----------------------------------------------------------------------------------


def split_of(seed: int, count: int) -> Memory:
    """Return images of one colour each, of which three in ten bear a wrong label."""
    generator = np.random.default_rng(seed)
    images, labels = [], []
    for _ in range(count):
        label = int(generator.integers(3))
        image = np.zeros((2, 2, 3), np.uint8)
        image[:, :, label] = generator.integers(1, 4)
        images.append(image)
        labels.append(label if generator.random() < 0.7 else (label + 1) % 3)
    return Memory(images, labels)


def test_a_temperature_fitted_on_one_split_is_measured_on_another() -> None:
    source = source_of(val=split_of(0, 300), test=split_of(1, 200))
    model = by_hand(Gray(sharpness=4))
    plain = evaluate(model, source, num_workers=0)
    measured = evaluate(model, source, fit_temperature="val", num_workers=0)
    fitted = measured.temperature
    assert fitted is not None
    assert (fitted.split, fitted.fit_count, measured.split) == ("val", 300, "test")
    # The ranking is what it was, and so is all else.
    assert (measured.top1, measured.loss, measured.ece) == (plain.top1, plain.loss, plain.ece)
    assert fitted.value > 2
    assert fitted.ece < measured.ece / 2
    assert fitted.loss < measured.loss
    cooled = evaluate(by_hand(Gray(sharpness=4 / fitted.value)), source, num_workers=0)
    assert cooled.loss == pytest.approx(fitted.loss, rel=1e-6)
    assert cooled.ece == pytest.approx(fitted.ece, rel=1e-6)


def test_a_temperature_is_not_fitted_on_the_split_that_is_reported() -> None:
    source = source_of(train=split_of(0, 40), test=split_of(1, 20))
    with pytest.raises(ConfigurationError, match="'test' is the split to report and the one to fit a temp"):
        evaluate(by_hand(Gray()), source, fit_temperature="testing")
    with pytest.raises(ConfigurationError, match="memory has no split 'val'"):
        evaluate(by_hand(Gray()), source, fit_temperature="val")
    held_out = evaluate(by_hand(Gray()), source, fit_temperature="val", validation=0.25, num_workers=0)
    assert held_out.temperature is not None
    assert held_out.temperature.fit_count == 10
    assert math.isfinite(held_out.temperature.value)
