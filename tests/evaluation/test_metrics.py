"""Metrics against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepresidual.evaluation.metrics import ClassificationSums
from deepresidual.evaluation.results import columns_of
from tests.on_demand import OnDemand

metrics = OnDemand("sklearn.metrics")


@pytest.mark.parametrize("num_classes", [2, 3, 7, 12])
@pytest.mark.parametrize("batch_size", [1, 10, 64])
def test_sums_over_batches_equal_scikit_learn_over_all(num_classes: int, batch_size: int) -> None:
    generator = torch.Generator().manual_seed(num_classes)
    logits = torch.randn(101, num_classes, generator=generator) * 3
    labels = torch.randint(num_classes, (101,), generator=generator)
    tally = ClassificationSums(num_classes)
    found = [
        tally.add(logits[at : at + batch_size], labels[at : at + batch_size])
        for at in range(0, 101, batch_size)
    ]
    probabilities = logits.double().softmax(dim=1).numpy()
    names = list(range(num_classes))
    truth = labels.numpy()
    assert tally.count == 101
    assert tally.loss == pytest.approx(metrics.log_loss(truth, probabilities, labels=names), rel=1e-12)
    assert float(torch.cat([part.losses for part in found]).mean()) == pytest.approx(tally.loss)
    predicted = probabilities.argmax(axis=1)
    np.testing.assert_array_equal(torch.cat([part.predicted for part in found]).numpy(), predicted)
    confidences = torch.cat([part.confidences for part in found]).numpy()
    np.testing.assert_allclose(confidences, probabilities.max(axis=1), rtol=1e-12)
    assert tally.top1 == np.mean(predicted == truth)
    if num_classes > 5:
        assert tally.top5 == pytest.approx(
            metrics.top_k_accuracy_score(truth, probabilities, k=5, labels=names)
        )
    else:
        assert tally.top5 == 1
    matrix = metrics.confusion_matrix(truth, predicted, labels=names)
    assert {pair: n for pair, n in np.ndenumerate(matrix) if n} == dict(tally.pairs)


def test_ties_go_to_the_lower_class() -> None:
    tally = ClassificationSums(3)
    tally.add(torch.zeros(2, 3), torch.tensor([0, 1]))
    assert (tally.top1_count, tally.pairs) == (1, {(0, 0): 1, (1, 0): 1})


def test_top5_of_equal_logits_has_the_five_lowest_classes() -> None:
    right = []
    for label in range(10):
        tally = ClassificationSums(10)
        tally.add(torch.zeros(1, 10), torch.tensor([label]))
        right.append(tally.top5_count)
    assert right == [1] * 5 + [0] * 5


def test_top5_and_ranks_agree_where_logits_tie() -> None:
    """As bf16 has them: the fifth and the sixth of 1,000 classes are often equal."""
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(2000, 1000, generator=generator) * 2).bfloat16().float()
    # The class at the fifth or the sixth place of a stable order, whatever its logit
    order = logits.argsort(dim=1, descending=True, stable=True)
    places = torch.randint(4, 6, (2000,), generator=generator)
    labels = order.gather(1, places[:, None])[:, 0]
    fifth, sixth = (logits.gather(1, order[:, place : place + 1]) for place in (4, 5))
    assert int((fifth == sixth).sum()) > 100
    tally = ClassificationSums(1000)
    tally.add(logits, labels)
    names = tuple(map(str, range(1000)))
    rows = columns_of(logits, labels, torch.zeros(2000), [""] * 2000, names, 1)
    assert tally.top5_count == int((places == 4).sum())
    assert tally.top5_count == sum(rank <= 5 for rank in rows["rank"])


@pytest.mark.parametrize("num_ranks", [2, 3, 7])
def test_sums_of_ranks_are_those_of_one_to_the_last_bit(num_ranks: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = (
        torch.randn(500, 10, generator=generator) * 4,
        torch.randint(10, (500,), generator=generator),
    )
    alone = ClassificationSums(10)
    alone.add(logits, labels)
    parts = [ClassificationSums(10) for _ in range(num_ranks)]
    for batch in range(25):
        rows = slice(20 * batch, 20 * batch + 20)
        parts[batch % num_ranks].add(logits[rows], labels[rows])
    merged = ClassificationSums.merged(parts)
    assert torch.equal(merged.bins, alone.bins)
    assert (merged.count, merged.top1_count, merged.top5_count) == (500, alone.top1_count, alone.top5_count)
    assert merged.pairs == alone.pairs
    assert merged.loss == pytest.approx(alone.loss, rel=1e-12)
