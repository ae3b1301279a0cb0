"""Classes in order of their scores: the lower index first where two are equal, by every way that asks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepresidual.backends.ranking import best_classes
from deepresidual.evaluation.metrics import class_ranks
from deepresidual.models import TorchClassifier, create
from tests.conftest import COLORS, SMALL_INPUT, TINY


def sorted_by_hand(row: list[float]) -> list[int]:
    return sorted(range(len(row)), key=lambda number: (-row[number], number))


def tied_scores(num_classes: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return scores of a few values, so that most rows have ties at every place."""
    generator = torch.Generator().manual_seed(num_classes)
    return torch.randint(-3, 4, (60, num_classes), generator=generator).to(dtype)


@pytest.mark.parametrize("num_classes", [2, 5, 6, 10, 1000])
def test_the_lower_index_comes_first_among_equals(num_classes: int) -> None:
    scores = tied_scores(num_classes)
    orders = [sorted_by_hand(row) for row in scores.tolist()]
    count = min(7, num_classes)
    assert best_classes(scores.numpy(), count).tolist() == [order[:count] for order in orders]
    for label in (0, num_classes // 2, num_classes - 1):
        ranks = class_ranks(scores, torch.full((60,), label))
        assert ranks.tolist() == [order.index(label) + 1 for order in orders]


def test_the_best_class_is_argmax_s_and_ranks_are_a_permutation() -> None:
    # As bf16 has them: about a tenth of such rows tie at places 5 and 6
    scores = torch.randn(60, 1000, generator=torch.Generator().manual_seed(0)).mul(2).bfloat16().float()
    assert best_classes(scores.numpy(), 1)[:, 0].tolist() == scores.argmax(dim=1).tolist()
    ranks = torch.stack([class_ranks(scores, torch.full((60,), label)) for label in range(1000)])
    assert torch.equal(ranks.sort(dim=0).values[:, 0], torch.arange(1, 1001))
    best = torch.from_numpy(best_classes(scores.numpy(), 5))
    for place in range(5):
        assert bool((class_ranks(scores, best[:, place]) == place + 1).all())


def test_a_model_ranks_by_logits_where_probabilities_are_equal() -> None:
    model = TorchClassifier(create(TINY), tuple(COLORS), SMALL_INPUT)
    (tied, close) = model.rank(
        np.array([[0.5, 0.5, 0.5], [0.1, np.nextafter(np.float32(0.1), 1), -1]], np.float32), 3
    )
    assert tied.classes == tuple(COLORS)
    first, second, third = COLORS
    # Both have the same float32 probability, and one the higher logit.
    assert close.probabilities[0] == close.probabilities[1]
    assert close.classes == (second, first, third)
