"""A probe sees what modules put out and how the loss hangs on it, and leaves nothing behind."""

from __future__ import annotations

import dataclasses
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional

from deepresidual.errors import UnknownNameError
from deepresidual.models import create
from deepresidual.nn import ResNet
from deepresidual.nn.probe import Probe, convolution_names, response_names, unit_names
from deepresidual.spec import ResNetSpec
from tests.conftest import TINY

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
PREACTIVATED = dataclasses.replace(TINY, arrangement="full-preactivation")


def loss_of(network: nn.Module) -> torch.Tensor:
    return functional.cross_entropy(network(IMAGES), LABELS)


def hooks_of(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._backward_hooks) for module in network.modules())


def test_an_output_is_seen_before_it_changes_in_place() -> None:
    network = create(TINY).eval()
    with Probe(network, ["conv1", "bn1"]) as probe, torch.no_grad():
        network(IMAGES)
    expected = network.bn1(functional.conv2d(IMAGES, network.conv1.weight, padding=1))
    torch.testing.assert_close(probe.activations["bn1"], expected)
    # ReLU would have left nothing below nought.
    assert probe.activations["bn1"].min() < 0


@pytest.mark.parametrize("spec", [TINY, PREACTIVATED, dataclasses.replace(TINY, shortcut="none")])
def test_gradients_are_those_of_finite_differences(spec: ResNetSpec) -> None:
    """The loss moves as the gradient says when an output is moved a little, by a hook of the test's own."""
    network = create(spec, seed=3).double().eval()
    images = IMAGES.double()
    for name in [*unit_names(spec), "conv1", "layer1.0.bn1"]:
        with Probe(network, [name]) as probe:
            functional.cross_entropy(network(images), LABELS).backward()  # type: ignore[no-untyped-call]
        gradient = probe.gradients[name]
        direction = torch.randn(
            gradient.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        )
        losses = []
        for step in (1e-6, -1e-6):
            handle = network.get_submodule(name).register_forward_hook(
                lambda _module, _inputs, output, move=step * direction: output + move
            )
            with torch.no_grad():
                losses.append(float(functional.cross_entropy(network(images), LABELS)))
            handle.remove()
        slope = (losses[0] - losses[1]) / 2e-6
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-4, abs=1e-9), name


def test_the_network_is_left_as_it_was() -> None:
    network = create(TINY)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    plain = create(TINY)
    with Probe(network, unit_names(TINY)):
        loss_of(network).backward()  # type: ignore[no-untyped-call]
    loss_of(plain).backward()  # type: ignore[no-untyped-call]
    assert hooks_of(network) == 0
    for (name, ours), theirs in zip(network.named_parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, before[name])
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)


def test_hooks_go_at_an_error_too() -> None:
    network = create(TINY)
    with pytest.raises(RuntimeError, match="channels"), Probe(network, ["layer1.0"]):
        network(torch.zeros(1, 5, 8, 8))
    assert hooks_of(network) == 0


def test_what_was_noted_keeps_neither_network_nor_graph_alive() -> None:
    network = create(TINY)
    with Probe(network, unit_names(TINY)) as probe:
        loss_of(network).backward()  # type: ignore[no-untyped-call]
    alive = weakref.ref(network.get_parameter("conv1.weight"))
    assert all(not tensor.requires_grad for tensor in probe.activations.values())
    del network, probe._modules
    gc.collect()
    assert alive() is None
    assert probe.gradients["layer1.0"].shape == (6, 4, 8, 8)


def test_only_what_reduce_returns_is_kept_of_the_last_pass() -> None:
    network = create(TINY).eval()
    with Probe(network, ["layer2.0", "conv1"], reduce=torch.linalg.vector_norm) as probe:
        with torch.inference_mode():
            network(IMAGES[:1])
            network(IMAGES)
        assert probe.gradients == {}
    assert list(probe.activations) == ["conv1", "layer2.0"]
    expected = functional.conv2d(IMAGES, network.conv1.weight, padding=1).norm()
    torch.testing.assert_close(probe.activations["conv1"], expected)


def test_activations_are_the_same_where_they_are_computed_twice() -> None:
    spec = dataclasses.replace(TINY, activation_checkpointing=True)
    found = []
    for network in (create(TINY), create(spec)):
        with Probe(network, unit_names(TINY)) as probe:
            loss_of(network).backward()  # type: ignore[no-untyped-call]
        found.append((probe.activations, probe.gradients))
    for name in unit_names(TINY):
        assert torch.equal(found[0][0][name], found[1][0][name])
        torch.testing.assert_close(found[0][1][name], found[1][1][name])


def test_an_unknown_layer_gets_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown layer 'layer1\.0\.bn3' \(nearest: layer1\.0\.bn"):
        Probe(create(TINY), ["layer1.0.bn3"])
    with pytest.raises(UnknownNameError, match="unknown layer ''"):
        Probe(create(TINY), [""])


@pytest.mark.parametrize("name", ["resnet20", "plain20", "resnet20.akamaster", "resnet34.c", "resnet50"])
def test_layers_are_counted_as_the_papers_count_them(name: str) -> None:
    network: ResNet = create(name)
    layers, responses = convolution_names(network.spec), response_names(network.spec)
    assert len(layers) == len(responses) == network.spec.num_layers - 1  # all but the classifier
    assert all(isinstance(network.get_submodule(layer), nn.Conv2d) for layer in layers)
    assert all(isinstance(network.get_submodule(layer), nn.BatchNorm2d) for layer in responses)
    assert not any("downsample" in layer for layer in layers + responses)


def test_preactivated_layers_respond_by_their_convolutions() -> None:
    assert response_names(PREACTIVATED) == convolution_names(PREACTIVATED)
