"""Metrics of classes against scikit-learn, intervals against scipy; JSON there and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from deepresidual.evaluation import Evaluation
from deepresidual.evaluation.accumulator import Accumulator, FittedTemperature
from deepresidual.evaluation.calibration import Temperature, bins_of
from deepresidual.evaluation.intervals import wilson_interval
from deepresidual.evaluation.scoring import ScoredBatch
from tests.on_demand import OnDemand

metrics = OnDemand("sklearn.metrics")
stats = OnDemand("scipy.stats")


def measured(seed: int, num_classes: int, count: int = 300) -> tuple[Evaluation, np.ndarray, np.ndarray]:
    generator = torch.Generator().manual_seed(seed)
    # The last class never occurs, and the first is never predicted.
    labels = torch.randint(num_classes - 1, (count,), generator=generator)
    logits = torch.randn(count, num_classes, generator=generator)
    logits[torch.arange(count), labels] += 1
    logits[:, 0] -= 20
    accumulator = Accumulator(
        tuple(f"class {row}" for row in range(num_classes)), temperature=FittedTemperature(2.0, "val", 9)
    )
    keys = [str(row) for row in range(count)]
    accumulator.add(logits, ScoredBatch(logits[None], labels, torch.arange(count), keys, []))
    return accumulator.evaluation("test"), labels.numpy(), logits.argmax(dim=1).numpy()


@pytest.mark.parametrize("num_classes", [3, 10])
def test_figures_of_classes_are_those_of_scikit_learn(num_classes: int) -> None:
    evaluation, labels, predicted = measured(num_classes, num_classes)
    names = list(range(num_classes))
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, predicted, labels=names, zero_division=0
    )
    for row, figures in enumerate(evaluation.per_class):
        assert figures.name == f"class {row}"
        assert (figures.precision, figures.recall) == pytest.approx((precision[row], recall[row]))
        assert (figures.f1, figures.support) == pytest.approx((f1[row], support[row]))
        assert figures.num_predicted == (predicted == row).sum()
    np.testing.assert_array_equal(
        evaluation.matrix(), metrics.confusion_matrix(labels, predicted, labels=names)
    )
    assert evaluation.top1_count == (labels == predicted).sum()
    assert evaluation.top5_count == (evaluation.count if num_classes <= 5 else evaluation.top5 * 300)


@pytest.mark.parametrize(("right", "count"), [(0, 7), (7, 7), (1, 1), (0, 1), (81, 100), (8103, 10_000)])
def test_the_interval_is_scipys_wilson(right: int, count: int) -> None:
    expected = stats.binomtest(right, count).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(right, count)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= right / count <= high <= 1


def test_an_evaluation_survives_json() -> None:
    evaluation, _, _ = measured(1, 4)
    document = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert Evaluation.from_dict(document) == evaluation
    assert document["top1_count"] == evaluation.top1_count
    assert document["top1_interval"] == list(evaluation.top1_interval)
    assert document["ece"] == pytest.approx(evaluation.ece)
    assert [row["name"] for row in document["per_class"]] == list(evaluation.classes)
    assert isinstance(evaluation.temperature, Temperature)
    assert document["temperature"]["ece"] == evaluation.temperature.ece


def test_an_evaluation_of_an_older_version_can_be_read() -> None:
    evaluation, _, _ = measured(1, 4)
    names = ("split", "top1", "top5", "loss", "count", "classes", "confusions", "mistakes")
    old = {name: value for name, value in evaluation.to_dict().items() if name in names}
    read = Evaluation.from_dict(old)
    assert (read.bins, read.temperature) == ((), None)
    assert read.per_class == evaluation.per_class


def test_bins_add_up_to_the_whole() -> None:
    evaluation, _, _ = measured(2, 6)
    assert sum(part.count for part in evaluation.bins) == evaluation.count
    right = sum(part.count * part.accuracy for part in evaluation.bins)
    assert right == pytest.approx(evaluation.top1_count)
    assert evaluation.bins != bins_of(Accumulator(("a", "b")).sums)
