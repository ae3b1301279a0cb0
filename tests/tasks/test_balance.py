"""With classes that weigh the same, what a network gives holds for the frequencies that were asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from deepresidual.tasks import Classification, Multilabel
from tests.training.parts import a_plan

COUNTS = (60, 30, 6)


def best_logits(task: Any, targets: torch.Tensor, *shape: int) -> torch.Tensor:
    """Return the logits, the same for every image, of the lowest loss."""
    logits = torch.zeros(*shape, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-9, tolerance_change=0)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        images = torch.zeros(len(targets), 3, 1, 1)
        loss: torch.Tensor = task.loss(lambda _: logits.expand(len(targets), -1), images, targets, 0).loss
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return loss

    optimizer.step(step)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return logits.detach()


@pytest.mark.parametrize("prior", ["training", "equal"])
@pytest.mark.parametrize("balance", ["none", "loss", "sampling"])
def test_probabilities_are_for_the_frequencies_asked_for(balance: str, prior: str) -> None:
    task = Classification(a_plan(balance=balance, class_prior=prior, class_counts=COUNTS))
    drawn = (32, 32, 32) if balance == "sampling" else COUNTS
    targets = torch.repeat_interleave(torch.arange(3), torch.tensor(drawn))
    shares = best_logits(task, targets, 1, 3).softmax(dim=1)[0]
    wanted = np.array(COUNTS) / sum(COUNTS) if prior == "training" else np.full(3, 1 / 3)
    np.testing.assert_allclose(shares.numpy(), wanted, atol=2e-4)


def test_classes_weigh_the_same_in_the_loss() -> None:
    task = Classification(a_plan(balance="loss", class_prior="equal", class_counts=COUNTS))
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    each = [float(task.loss_of(logits[row : row + 1], torch.tensor([row]))) for row in range(3)]
    plain = torch.nn.functional.cross_entropy(logits, torch.arange(3), reduction="none")
    assert each == pytest.approx([96 / 3 / count * float(plain[row]) for row, count in enumerate(COUNTS)])


def test_without_it_the_loss_is_that_of_torch_to_the_bit() -> None:
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(9) % 3
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    assert torch.equal(Classification(a_plan()).loss_of(logits, labels), expected)


@pytest.mark.parametrize("balance", ["none", "loss"])
def test_probabilities_of_labels_are_their_shares(balance: str) -> None:
    targets = torch.zeros(96, 3)
    for row, count in enumerate(COUNTS):
        targets[:count, row] = 1
    plan = a_plan(balance=balance, class_counts=COUNTS, num_samples=96, loss="bce", task="multilabel")
    shares = best_logits(Multilabel(plan), targets, 1, 3).sigmoid()[0]
    np.testing.assert_allclose(shares.numpy(), np.array(COUNTS) / 96, atol=2e-4)
