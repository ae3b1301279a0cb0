"""The optimizer that a recipe asks for, and which weights it moves how fast."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, assert_never, cast

import torch
from torch import nn

from deepresidual.errors import ConfigurationError
from deepresidual.nn import BODY, ResNet, body_of
from deepresidual.recipe import Recipe
from deepresidual.spec import ResNetSpec


def make_optimizer(
    network: nn.Module, recipe: Recipe, head: tuple[str, ...], *, fused: bool = False
) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over the parameters of ``network`` that learn.

    Parameters fall into groups by what they are: weights of convolutions and of the head, BN's scales and
    shifts, other biases; each with its weight decay, and all except the head with ``backbone_lr_scale``,
    times ``stage_lr_decay`` for each stage between them and the head.

    Args:
        network: The network; parameters that need no gradient are left out.
        recipe: The recipe.
        head: Prefixes of the head's parameters, see :class:`deepresidual.tasks.Task`.
        fused: Whether torch updates all tensors in one kernel; another order of rounding.
    """
    groups = _groups(network, recipe, head)
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(
                groups,
                lr=recipe.learning_rate,
                momentum=recipe.momentum,
                nesterov=recipe.nesterov,
                fused=fused,
            )
        case "adamw":
            betas = (recipe.momentum, recipe.beta2)
            return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=betas, fused=fused)
        case "lamb":
            return Lamb(groups, recipe.learning_rate, (recipe.momentum, recipe.beta2))
        case _:
            assert_never(recipe.optimizer)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of the next update; each group has a multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["rate"]


def check_frozen_stages(spec: ResNetSpec, count: int) -> None:
    """Hold the number of stages to freeze against those that a network has.

    Raises:
        ConfigurationError: The network has fewer.
    """
    most = 1 + len(spec.stage_names)
    if count > most:
        raise ConfigurationError(
            f"frozen_stages is {count}", expected=f"0 to {most} (the stem and {most - 1} stages)"
        )


def frozen_stages(network: nn.Module, count: int) -> list[nn.Module]:
    """Return the modules of the first ``count`` stages, of which the stem is the first."""
    body = body_of(network)
    stages: list[list[nn.Module]] = [[body.conv1, body.bn1]]
    stages += [[body.get_submodule(name)] for name in body.spec.stage_names]
    return [module for stage in stages[:count] for module in stage]


def freeze_stages(network: nn.Module, count: int) -> None:
    """Let the first ``count`` stages keep their weights."""
    for module in frozen_stages(network, count):
        module.requires_grad_(requires_grad=False)


def _groups(network: nn.Module, recipe: Recipe, head: tuple[str, ...]) -> list[dict[str, Any]]:
    spec = body_of(network).spec
    groups: dict[tuple[float, float, int], dict[str, Any]] = {}
    for module_name, module in network.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            is_head = _is_behind(network, module_name) or f"{module_name}.{name}".startswith(head)
            stage, last = _stage(spec, module_name.removeprefix(BODY)), len(spec.stage_names)
            decay = recipe.stage_lr_decay ** (last - stage)
            rate = 1.0 if is_head else recipe.backbone_lr_scale * decay
            weight_decay = recipe.weight_decay
            if isinstance(module, nn.BatchNorm2d) and recipe.norm_weight_decay is not None:
                weight_decay = recipe.norm_weight_decay
            elif (
                name == "bias"
                and not isinstance(module, nn.BatchNorm2d)
                and recipe.bias_weight_decay is not None
            ):
                weight_decay = recipe.bias_weight_decay
            # Stages that begin to learn later have no momentum yet, which a fused step wants of all or none.
            opens = stage if recipe.unfreeze_share else 0
            group = groups.setdefault(
                (rate, weight_decay, opens), {"params": [], "weight_decay": weight_decay, "rate": rate}
            )
            group["params"].append(parameter)
    return list(groups.values())


def _is_behind(network: nn.Module, module_name: str) -> bool:
    """Return whether a module stands behind the residual network of a detector."""
    return not isinstance(network, ResNet) and not module_name.startswith(BODY)


def _stage(spec: ResNetSpec, module_name: str) -> int:
    """Return the number of a module's stage, 0 for the stem."""
    stages = {name: number for number, name in enumerate(spec.stage_names, start=1)}
    last = len(spec.stage_names)  # what follows the last unit of pre-activated networks, and the classifier
    behind = {"bn": last, "fc": last, "backbone": last, "rpn": last, "roi_heads": last}
    return {**stages, **behind}.get(module_name.partition(".")[0], 0)


class Lamb(torch.optim.Optimizer):
    """LAMB: Adam whose update of each tensor has the tensor's own norm (You et al. 2019, arXiv 1904.00962).

    Algorithm 2 with decoupled weight decay; φ is the identity and the trust ratio 1 where a norm is zero.
    Tensors that do not decay (BN, biases) take Adam's update, as in timm and NVIDIA's.

    Args:
        params: Parameters or groups of them, with ``weight_decay``.
        lr: Learning rate.
        betas: Decay of the mean of gradients and of their squares.
        eps: Added to the root of the mean of squares.
    """

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = closure() if closure is not None else None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        first, second = group["betas"]
        gradient = cast("torch.Tensor", parameter.grad)
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
        step = int(state["step"])
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(gradient, 1 - first)
        square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = (square.sqrt() / math.sqrt(1 - second**step)).add_(group["eps"])
        update = (mean / (1 - first**step)).div_(root)
        if group["weight_decay"]:
            update.add_(parameter, alpha=group["weight_decay"])
            norm, length = parameter.norm(), update.norm()
            update.mul_(torch.where((norm > 0) & (length > 0), norm / length, torch.ones_like(norm)))
        parameter.add_(update, alpha=-group["lr"])
