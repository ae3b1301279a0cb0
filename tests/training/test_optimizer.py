"""Optimizers: which weights they move how fast, and that they are the algorithms that they are called."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from deepresidual.errors import ConfigurationError
from deepresidual.models import create
from deepresidual.nn import ResNet
from deepresidual.recipe import Recipe
from deepresidual.training.optimizer import (
    Lamb,
    check_frozen_stages,
    freeze_stages,
    make_optimizer,
    set_learning_rate,
)
from tests.conftest import TINY

HEAD = ("fc.",)

NETWORKS = [
    "resnet20",
    "resnet18",
    "resnet50.caffe",
    "resnet110.preact",
    "resnet110.exclusive-gating",
    "plain20",
]


def a_recipe(**fields: Any) -> Recipe:
    return Recipe(name="r", learning_rate=0.1, **fields)


def settings(network: ResNet, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """Return (learning rate, weight decay) of every parameter by name."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    return {
        names[parameter]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def norm_names(network: ResNet) -> set[str]:
    return {
        f"{name}.{part}"
        for name, module in network.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for part in ("weight", "bias")
    }


# -- groups --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_is_in_one_group(name: str) -> None:
    network = create(name, num_classes=10)
    recipe = a_recipe(norm_weight_decay=0.0, bias_weight_decay=0.0, backbone_lr_scale=0.1)
    optimizer = make_optimizer(network, recipe, HEAD)
    listed = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert len(listed) == len(set(listed)) == len(list(network.parameters()))


@pytest.mark.parametrize("name", NETWORKS)
def test_norms_biases_and_weights_have_their_own_decay(name: str) -> None:
    network = create(name, num_classes=10)
    recipe = a_recipe(weight_decay=0.3, norm_weight_decay=0.2, bias_weight_decay=0.1)
    norms = norm_names(network)
    for parameter, (_, decay) in settings(network, make_optimizer(network, recipe, HEAD)).items():
        expected = 0.2 if parameter in norms else 0.1 if parameter.endswith("bias") else 0.3
        assert decay == expected, parameter


def test_a_stem_with_a_bias_is_a_bias() -> None:
    network = create(replace(TINY, conv_bias="stem"))
    recipe = a_recipe(weight_decay=0.3, norm_weight_decay=0.2, bias_weight_decay=0.1)
    assert settings(network, make_optimizer(network, recipe, HEAD))["conv1.bias"] == (0.1, 0.1)


def test_decay_that_is_left_out_is_that_of_the_weights() -> None:
    network = create(TINY)
    optimizer = make_optimizer(network, a_recipe(weight_decay=0.3), HEAD)
    assert {decay for _, decay in settings(network, optimizer).values()} == {0.3}


@pytest.mark.parametrize("kind", ["sgd", "adamw", "lamb"])
def test_all_but_the_classifier_learn_at_the_rate_of_the_backbone(kind: str) -> None:
    network = create(TINY)
    optimizer = make_optimizer(network, a_recipe(optimizer=kind, backbone_lr_scale=0.1), HEAD)
    for rate in (0.5, 0.02):
        set_learning_rate(optimizer, rate)
        for name, (own, _) in settings(network, optimizer).items():
            assert own == pytest.approx(rate if name.startswith("fc.") else 0.1 * rate), name


def test_a_backbone_without_a_rate_stays() -> None:
    network = create(TINY)
    optimizer = make_optimizer(network, a_recipe(backbone_lr_scale=0.0), HEAD)
    set_learning_rate(optimizer, 0.1)
    before = copy.deepcopy(network.state_dict())
    loss = network(torch.randn(4, 3, 8, 8)).square().sum()
    loss.backward()
    optimizer.step()
    moved = {name for name, parameter in network.named_parameters() if not parameter.equal(before[name])}
    assert moved == {"fc.weight", "fc.bias"}


# -- frozen stages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "learning"),
    [
        (0, {"conv1", "bn1", "layer1", "layer2", "fc"}),
        (1, {"layer1", "layer2", "fc"}),
        (2, {"layer2", "fc"}),
        (3, {"fc"}),
    ],
)
def test_stages_are_frozen_from_the_stem_on(count: int, learning: set[str]) -> None:
    network = create(TINY)
    freeze_stages(network, count)
    optimizer = make_optimizer(network, a_recipe(), HEAD)
    assert {name.split(".")[0] for name in settings(network, optimizer)} == learning


def test_more_stages_than_there_are_cannot_be_frozen() -> None:
    with pytest.raises(
        ConfigurationError, match=r"frozen_stages is 4; expected 0 to 3 \(the stem and 2 stages\)"
    ):
        check_frozen_stages(TINY, 4)


# -- algorithms ----------------------------------------------------------------------------------------


def some_gradients(parameters: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator) * (1 + step)


def distances(first: list[nn.Parameter], second: list[nn.Parameter]) -> float:
    return max(float((one - other).detach().abs().max()) for one, other in zip(first, second, strict=True))


def two_sets() -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    generator = torch.Generator().manual_seed(9)
    shapes = [(4, 3, 3, 3), (4,), (5, 4), (5,), (1,)]
    first = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    return first, [nn.Parameter(parameter.detach().clone()) for parameter in first]


@pytest.mark.parametrize("weight_decay", [0.0, 0.02])
@pytest.mark.parametrize("learning_rate", [5e-3, 0.3])
def test_lamb_is_timms(weight_decay: float, learning_rate: float) -> None:
    from timm.optim import Lamb as TimmLamb

    ours, theirs = two_sets()
    first = Lamb([{"params": ours, "weight_decay": weight_decay}], learning_rate)
    # timm also clips the gradient's norm, which is a field of its own in our recipes.
    second = TimmLamb(theirs, lr=learning_rate, weight_decay=weight_decay, max_grad_norm=None)
    for step in range(8):
        some_gradients(ours, step)
        some_gradients(theirs, step)
        first.step()
        second.step()
        assert distances(ours, theirs) < 2e-6


def test_lamb_moves_a_weight_of_nothing() -> None:
    # Its norm is zero, and so would be the trust ratio: timm and the paper's appendix take 1 there.
    weight = nn.Parameter(torch.zeros(3))
    optimizer = Lamb([{"params": [weight], "weight_decay": 0.1}], 0.1)
    weight.grad = torch.tensor([1.0, -2.0, 0.5])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([-0.1, 0.1, -0.1]))


def test_lamb_gives_every_tensor_an_update_as_long_as_itself() -> None:
    ours, _ = two_sets()
    before = [parameter.detach().clone() for parameter in ours]
    some_gradients(ours, 0)
    Lamb([{"params": ours, "weight_decay": 0.01}], 0.05).step()
    for parameter, old in zip(ours, before, strict=True):
        torch.testing.assert_close((parameter.detach() - old).norm(), 0.05 * old.norm())


def test_lamb_without_decay_is_adam() -> None:
    ours, theirs = two_sets()
    first = Lamb([{"params": ours}], 0.01)
    second = torch.optim.Adam(theirs, lr=0.01, eps=1e-6)
    for step in range(5):
        some_gradients(ours, step)
        some_gradients(theirs, step)
        first.step()
        second.step()
    assert distances(ours, theirs) < 1e-6


def test_lamb_leaves_alone_what_has_no_gradient() -> None:
    ours, _ = two_sets()
    before = [parameter.detach().clone() for parameter in ours]
    Lamb([{"params": ours, "weight_decay": 0.01}], 0.05).step()
    assert all(torch.equal(parameter, old) for parameter, old in zip(ours, before, strict=True))


def trained(optimizer: torch.optim.Optimizer, network: ResNet, steps: int = 5) -> list[nn.Parameter]:
    parameters = list(network.parameters())
    for step in range(steps):
        some_gradients(parameters, step)
        optimizer.step()
    return parameters


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs(fused: bool, nesterov: bool) -> None:
    recipe = a_recipe(weight_decay=0.01, momentum=0.8, nesterov=nesterov)
    network, reference = create(TINY), create(TINY)
    ours = trained(make_optimizer(network, recipe, HEAD, fused=fused), network)
    plain = torch.optim.SGD(
        reference.parameters(), lr=0.1, momentum=0.8, nesterov=nesterov, weight_decay=0.01, foreach=False
    )
    assert distances(ours, trained(plain, reference)) < 2e-6


@pytest.mark.parametrize("fused", [False, True])
def test_adamw_is_torchs(fused: bool) -> None:
    recipe = a_recipe(optimizer="adamw", weight_decay=0.05, momentum=0.85, beta2=0.95)
    network, reference = create(TINY), create(TINY)
    ours = trained(make_optimizer(network, recipe, HEAD, fused=fused), network)
    plain = torch.optim.AdamW(
        reference.parameters(), lr=0.1, betas=(0.85, 0.95), weight_decay=0.05, foreach=False
    )
    assert distances(ours, trained(plain, reference)) < 2e-6


def test_lamb_takes_the_recipes_betas() -> None:
    recipe = a_recipe(optimizer="lamb", momentum=0.85, beta2=0.95)
    (group,) = make_optimizer(create(TINY), recipe, HEAD).param_groups
    assert group["betas"] == (0.85, 0.95)
