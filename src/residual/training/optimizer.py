"""The optimizer that a recipe asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from residual.nn import ResNet
    from residual.training.recipe import Recipe

__all__ = ["make_optimizer", "set_learning_rate"]


def make_optimizer(network: ResNet, recipe: Recipe) -> torch.optim.SGD:
    """Return SGD with momentum over every parameter; weight decay on all, as in fb.resnet.torch."""
    return torch.optim.SGD(
        network.parameters(),
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of the next update."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
