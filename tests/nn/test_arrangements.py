"""The five arrangements of He et al. 2016, figure 4, against the figure written out by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deepresidual.models import create
from deepresidual.nn import ResNet
from deepresidual.spec import Arrangement, ResNetSpec, Unit
from tests.suites import short

relu = functional.relu

SPEC = ResNetSpec(unit="basic", depths=(2, 2), widths=(4, 8), stem="cifar", num_classes=3)


def network_of(arrangement: Arrangement, unit: Unit = "basic", **changes: Any) -> ResNet:
    """Return a network in evaluation mode whose BN statistics are not the initial ones."""
    network = create(dataclasses.replace(SPEC, arrangement=arrangement, unit=unit, **changes), seed=1)
    generator = torch.Generator().manual_seed(2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                assert isinstance(tensor, Tensor)
                nn.init.normal_(tensor, 0, 0.5, generator=generator)
            for tensor in (module.running_var, module.weight):
                assert isinstance(tensor, Tensor)
                nn.init.uniform_(tensor, 0.5, 1.5, generator=generator)
    return network.eval()


# The second unit of a stage: h(x) = x, basic units as in the figure.
FIGURE_4: dict[Arrangement, Callable[[Any, Tensor], Tensor]] = {
    "original": lambda u, x: relu(x + u.bn2(u.conv2(relu(u.bn1(u.conv1(x)))))),
    "bn-after-addition": lambda u, x: relu(u.bn2(x + u.conv2(relu(u.bn1(u.conv1(x)))))),
    "relu-before-addition": lambda u, x: x + relu(u.bn2(u.conv2(relu(u.bn1(u.conv1(x)))))),
    "relu-only-preactivation": lambda u, x: x + u.bn2(u.conv2(relu(u.bn1(u.conv1(relu(x)))))),
    "full-preactivation": lambda u, x: x + u.conv2(relu(u.bn2(u.conv1(relu(u.bn1(x)))))),
}


@pytest.mark.parametrize("arrangement", get_args(Arrangement))
def test_a_unit_is_the_one_of_the_figure(arrangement: Arrangement) -> None:
    unit = network_of(arrangement).get_submodule("layer1.1")
    images = torch.randn(2, 4, 6, 6)
    with torch.inference_mode():
        expected = FIGURE_4[arrangement](unit, images.clone())
        torch.testing.assert_close(unit(images), expected)


def test_a_pre_activated_bottleneck_is_the_figure_with_three_convolutions() -> None:
    unit: Any = network_of("full-preactivation", "bottleneck").get_submodule("layer1.1")
    x = torch.randn(2, 16, 6, 6)
    with torch.inference_mode():
        out = unit.conv2(relu(unit.bn2(unit.conv1(relu(unit.bn1(x))))))
        torch.testing.assert_close(unit(x), x + unit.conv3(relu(unit.bn3(out))))


@pytest.mark.parametrize(
    ("arrangement", "name", "activated"),
    [
        ("full-preactivation", "layer1.0", True),  # the first unit: before the split
        ("full-preactivation", "layer1.1", False),  # an identity stays clean
        ("full-preactivation", "layer2.0", True),  # projections are pre-activated
        ("full-preactivation", "layer2.1", False),
        ("relu-only-preactivation", "layer2.0", True),
        ("relu-only-preactivation", "layer2.1", False),
    ],
)
def test_what_the_shortcut_sees(arrangement: Arrangement, name: str, activated: bool) -> None:
    unit: Any = network_of(arrangement).get_submodule(name)
    x = torch.randn(2, unit.conv1.in_channels, 6, 6)
    last = unit.conv2 if arrangement == "full-preactivation" else unit.bn2
    nn.init.zeros_(last.weight)
    if last.bias is not None:
        nn.init.zeros_(last.bias)
    if arrangement == "relu-only-preactivation":
        nn.init.zeros_(last.running_mean)
    with torch.inference_mode():
        seen = x
        if activated:
            seen = relu(unit.bn1(x)) if arrangement == "full-preactivation" else relu(x)
        torch.testing.assert_close(unit(x), unit.downsample(seen))


def test_the_last_unit_of_pre_activated_networks_gets_an_extra_activation() -> None:
    network = network_of("full-preactivation")
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        last = network.features(images)["layer2"]
        expected = network.fc(relu(network.bn(last)).mean(dim=(2, 3)))
        torch.testing.assert_close(network(images), expected)
        assert (last < 0).any()  # the sum itself is not activated


def test_the_stem_of_a_pre_activated_cifar_network_is_one_convolution() -> None:
    network = network_of("full-preactivation")
    images = torch.randn(2, 3, 8, 8)
    with torch.inference_mode():
        assert torch.equal(network.features(images)["stem"], network.conv1(images))


def test_the_signal_passes_pre_activated_units_untouched() -> None:
    # 2016, equation 4: x_L = x_l + sum of F. The original arrangement cuts the negative part at every unit.
    maps = {}
    for arrangement in ("original", "full-preactivation"):
        unit: Any = network_of(arrangement).get_submodule("layer1.1")
        for parameter in unit.parameters():
            nn.init.zeros_(parameter)
        x = torch.randn(1, 4, 5, 5)
        maps[arrangement] = (x, unit(x.clone()))
    assert torch.equal(*maps["full-preactivation"])
    x, out = maps["original"]
    assert torch.equal(out, relu(x))


@pytest.mark.parametrize("unit", get_args(Unit))
@pytest.mark.parametrize("arrangement", get_args(Arrangement))
def test_gradients_agree_with_finite_differences(arrangement: Arrangement, unit: Unit) -> None:
    # Catches an in-place operation that spoils what the backward pass needs.
    network = network_of(arrangement, unit).double()
    images = torch.randn(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert torch.autograd.gradcheck(network, images.requires_grad_(), atol=1e-4)


@pytest.mark.parametrize("arrangement", get_args(Arrangement))
def test_every_arrangement_trains(arrangement: Arrangement) -> None:
    network = network_of(arrangement).train()
    network(torch.randn(4, 3, 8, 8)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("name", short(["resnet1001.preact", "resnet1202"], "resnet1001.preact"))
def test_a_thousand_layers_build_and_run_forward(name: str) -> None:
    # In training mode: with the initial statistics BN does not normalize, and 200 units a stage double the
    # variance until float32 overflows.
    network = create(name)
    with torch.no_grad():
        logits = network(torch.randn(2, 3, 32, 32))
    assert logits.shape == (2, 10)
    assert bool(logits.isfinite().all())
