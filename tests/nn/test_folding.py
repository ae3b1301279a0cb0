"""BN folded into convolutions: the same function for every kind of network, and nothing else folded."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from deepresidual.nn.folding import empty_folded_network, fold_batch_norm
from deepresidual.spec import ResNetSpec
from tests.kinds import BASIC, BOTTLENECK, KINDS, PREACTIVATED, network_of


def norms_of(network: nn.Module) -> list[str]:
    return [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS)
@torch.no_grad()
def test_a_folded_network_is_the_same_function(spec: ResNetSpec) -> None:
    network = network_of(spec)
    images = torch.randn(3, spec.in_channels, 33, 32, generator=torch.Generator().manual_seed(1))
    expected = network(images)
    folded = fold_batch_norm(network)
    assert len(norms_of(folded)) < len(norms_of(network))
    found = folded(images)
    assert (found - expected).abs().max() <= 1e-5 * expected.std()


@torch.no_grad()
def test_the_weights_are_rounded_once() -> None:
    network = network_of(BOTTLENECK)
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    folded = fold_batch_norm(network)
    in_double = fold_batch_norm(copy.deepcopy(network).double())
    torch.testing.assert_close(in_double(images), network.double()(images), rtol=1e-12, atol=1e-12)
    for rounded, exact in zip(folded.parameters(), in_double.parameters(), strict=True):
        assert torch.equal(rounded, exact.float())


def test_what_follows_an_addition_stays() -> None:
    assert norms_of(fold_batch_norm(network_of(BASIC))) == []
    assert norms_of(fold_batch_norm(network_of(PREACTIVATED))) == [
        "layer1.0.bn1",
        "layer1.1.bn1",
        "layer2.0.bn1",
        "bn",
    ]
    after_addition = network_of(KINDS["bn-after-addition"])
    assert norms_of(fold_batch_norm(after_addition)) == ["layer1.0.bn2", "layer1.1.bn2", "layer2.0.bn2"]
    assert norms_of(fold_batch_norm(network_of(KINDS["plain bn-after-addition"]))) == []


def test_the_network_stays_as_it_is() -> None:
    network = network_of(BASIC).train()
    before = copy.deepcopy(network.state_dict())
    folded = fold_batch_norm(network)
    assert network.training
    assert not folded.training
    assert network.state_dict().keys() == before.keys()
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == before[name].dtype, name
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("spec", KINDS.values(), ids=KINDS)
def test_an_empty_one_has_the_parameters_of_a_folded_one(spec: ResNetSpec) -> None:
    shapes = {name: tensor.shape for name, tensor in fold_batch_norm(network_of(spec)).state_dict().items()}
    empty = {name: tensor.shape for name, tensor in empty_folded_network(spec).state_dict().items()}
    assert list(empty.items()) == list(shapes.items())
