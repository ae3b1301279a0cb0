"""Networks against their specs; those of torchvision stand against it in tests/parity."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from deepresidual import zoo
from deepresidual.models import create
from deepresidual.nn import ResNet
from deepresidual.nn.shortcut import PaddedIdentity, make_shortcut
from deepresidual.spec import Arrangement, ResNetSpec, Shortcut, Stem, Unit, UnitShape

GOLDEN = Path(__file__).parent.parent / "golden"

TINY = ResNetSpec(unit="basic", depths=(1, 1), widths=(4, 8), stem="cifar", num_classes=3)


def count_macs(network: ResNet, px: int) -> int:
    """Count multiply-adds of convolutions and linear layers by running the network on meta tensors."""
    macs = 0

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        nonlocal macs
        weight = module.weight
        assert isinstance(weight, Tensor)
        per_position = weight[0].numel()
        macs += per_position * output[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network.eval()(torch.empty(1, network.spec.in_channels, px, px, device="meta"))
    return macs


def distinct(specs: Iterable[tuple[str, ResNetSpec, int]]) -> list[Any]:
    """Return one spec and size of images of each architecture, under its first name."""
    found = {(spec.architecture, px): name for name, spec, px in reversed(list(specs))}
    return [pytest.param(spec, px, id=name) for (spec, px), name in reversed(found.items())]


def shortened(spec: ResNetSpec) -> ResNetSpec:
    """Return the network with a first, a middle and a last unit in each stage; more add no other kind."""
    return dataclasses.replace(spec, depths=tuple(min(depth, 3) for depth in spec.depths))


@pytest.mark.parametrize(
    ("spec", "px"),
    [
        *distinct((row.name, shortened(row.spec), row.preprocess.crop_px) for row in zoo.entries()),
        *(
            pytest.param(*case.values, id=f"whole {case.id}", marks=pytest.mark.test_all)
            for case in distinct((row.name, row.spec, row.preprocess.crop_px) for row in zoo.entries())
        ),
    ],
)
def test_closed_form_counts_equal_what_the_network_counts(spec: ResNetSpec, px: int) -> None:
    with torch.device("meta"):
        network = ResNet(spec)
    assert sum(parameter.numel() for parameter in network.parameters()) == spec.num_parameters
    assert count_macs(network, px) == spec.num_macs(px)


@pytest.mark.parametrize("px", [33, 64, 97, 225])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50.v1", "resnet20"])
def test_closed_form_macs_hold_at_odd_sizes(name: str, px: int) -> None:
    with torch.device("meta"):
        network = ResNet(shortened(zoo.entry(name).spec))
    assert count_macs(network, px) == network.spec.num_macs(px)


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
@pytest.mark.parametrize("arrangement", get_args(Arrangement))
@pytest.mark.parametrize("shortcut", get_args(Shortcut))
@pytest.mark.parametrize("unit", ["basic", "bottleneck"])
def test_layers_of_the_spec_are_the_modules_of_the_network(
    unit: Unit, shortcut: Shortcut, arrangement: Arrangement, stem: Stem
) -> None:
    spec = ResNetSpec(
        unit=unit, depths=(2, 2), widths=(4, 8), shortcut=shortcut, arrangement=arrangement, stem=stem
    )
    with torch.device("meta"):
        network = ResNet(spec)
    assert sum(parameter.numel() for parameter in network.parameters()) == spec.num_parameters
    with_parameters = [
        name for name, module in network.named_modules() if list(module.parameters(recurse=False))
    ]
    assert [layer.name for layer in spec.layers(64)] == with_parameters


def test_state_dict_names_are_frozen() -> None:
    golden = json.loads((GOLDEN / "state_dict_keys.json").read_text())
    for name, keys in golden.items():
        with torch.device("meta"):
            assert list(ResNet(zoo.entry(name).spec).state_dict()) == keys
    assert set(golden) == {
        "resnet20",
        "plain20",
        "resnet18",
        "resnet50",
        "resnet34.c",
        "resnet18.preact",
        "resnet50.keras-v2",
        "resnet110.exclusive-gating",
    }


def shortcut_of(kind: Shortcut, out_channels: int, stride: int) -> nn.Module | None:
    return make_shortcut(
        dataclasses.replace(TINY, shortcut=kind), UnitShape("layer2.0", 4, 4, out_channels, stride)
    )


@pytest.mark.parametrize("kind", [kind for kind in get_args(Shortcut) if kind != "none"])
@pytest.mark.parametrize(("out_channels", "stride"), [(4, 1), (8, 1), (4, 2), (8, 2)])
def test_a_shortcut_has_the_shape_of_its_unit(kind: Shortcut, out_channels: int, stride: int) -> None:
    shortcut = shortcut_of(kind, out_channels, stride)
    assert shortcut is not None
    assert shortcut(torch.randn(2, 4, 7, 6)).shape == (2, out_channels, -(-7 // stride), -(-6 // stride))


def test_a_plain_unit_has_no_shortcut() -> None:
    assert shortcut_of("none", 4, 1) is None


def test_option_a_samples_the_input_and_appends_zeros() -> None:
    images = torch.randn(2, 4, 6, 6)
    padded = PaddedIdentity(4, 8, 2)(images)
    assert torch.equal(padded[:, :4], images[:, :, ::2, ::2])
    assert not padded[:, 4:].any()


def test_option_a_on_both_sides_puts_half_of_the_zeros_before() -> None:
    images = torch.randn(2, 4, 6, 6)
    shortcut = shortcut_of("A-both-sides", 8, 2)
    assert shortcut is not None
    padded = shortcut(images)
    assert torch.equal(padded[:, 2:6], images[:, :, ::2, ::2])
    assert not padded[:, :2].any()
    assert not padded[:, 6:].any()


def test_option_a_can_also_narrow() -> None:
    images = torch.randn(2, 8, 4, 4)
    assert torch.equal(PaddedIdentity(8, 4, 1)(images), images[:, :4])


def test_with_silent_branches_a_residual_net_is_the_identity_and_a_plain_one_is_blind() -> None:
    # The argument of the degradation problem (2015, section 3.1): if F = 0, h(x) = x still passes.
    images = torch.randn(2, 3, 16, 16)
    maps = {}
    for shortcut in ("A", "none"):
        network = create(dataclasses.replace(TINY, depths=(3, 1), shortcut=shortcut)).eval()
        for name, parameter in network.named_parameters():
            if name.startswith("layer1") and "bn2" in name:
                nn.init.zeros_(parameter)
        maps[shortcut] = network.features(images)
    assert torch.equal(maps["A"]["layer1"], maps["A"]["stem"])
    assert not maps["none"]["layer1"].any()


def test_features_are_the_named_stages_and_lead_to_the_logits() -> None:
    network = create("resnet18", num_classes=4).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        maps = network.features(images)
        logits = network.fc(maps["layer4"].mean(dim=(2, 3)))
        torch.testing.assert_close(logits, network(images))
    assert {name: tuple(tensor.shape[1:]) for name, tensor in maps.items()} == {
        "stem": (64, 16, 16),
        "layer1": (64, 16, 16),
        "layer2": (128, 8, 8),
        "layer3": (256, 4, 4),
        "layer4": (512, 2, 2),
    }


def test_features_of_a_cifar_net_are_not_overwritten_later() -> None:
    network = create("resnet20").eval()
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        stem = network.relu(network.bn1(network.conv1(images)))
        assert torch.equal(network.features(images)["stem"], stem)


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (4, 17), (13, 1)])
def test_any_number_of_channels_and_classes(channels: int, classes: int) -> None:
    network = create("resnet20", num_classes=classes, in_channels=channels).eval()
    assert network(torch.randn(2, channels, 32, 32)).shape == (2, classes)


def test_stride_sits_where_the_spec_says() -> None:
    with torch.device("meta"):
        paper, practice = (ResNet(zoo.entry(name).spec) for name in ("resnet50.v1", "resnet50"))
    strides = [
        [unit.get_submodule(f"conv{number}").stride for number in (1, 2)]
        for network in (paper, practice)
        for unit in (network.get_submodule("layer2.0"),)
    ]
    assert strides == [[(2, 2), (1, 1)], [(1, 1), (2, 2)]]


def test_initialization_is_he_fan_out_and_depends_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    network, again, other = create("resnet18"), create("resnet18"), create("resnet18", seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    for (name, first), second, third in zip(
        network.named_parameters(), again.parameters(), other.parameters(), strict=True
    ):
        assert torch.equal(first, second), name
        assert first.dim() == 1 or not torch.equal(first, third), name
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            expected = (2 / fan_out) ** 0.5
            assert abs(module.weight.std().item() / expected - 1) < 0.05, name
        elif isinstance(module, nn.BatchNorm2d):
            assert bool((module.weight == 1).all())
            assert not module.bias.any()
            assert not torch.as_tensor(module.running_mean).any()


def test_a_tiny_network_trains_in_either_shape() -> None:
    for shortcut in ("none", "B"):
        network = create(dataclasses.replace(TINY, shortcut=shortcut))
        loss = network(torch.randn(4, 3, 8, 8)).square().sum()
        loss.backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
