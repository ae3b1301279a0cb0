"""What a spec can change beside the arrangement: additions, padding, strides, biases, training."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from deepresidual import zoo
from deepresidual.models import create
from deepresidual.nn import ResNet
from deepresidual.nn.addition import StochasticDepth
from deepresidual.nn.padding import SamePadConv2d, SamePadMaxPool2d, make_max_pool
from deepresidual.spec import FirstActivation, Padding, ResNetSpec

SPEC = ResNetSpec(unit="basic", depths=(2, 2), widths=(4, 8), stem="cifar", shortcut="A", num_classes=3)
IMAGES = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
relu = functional.relu


def unit_of(**changes: Any) -> Any:
    """Return the second unit of the first stage, whose shortcut is the identity, in evaluation mode."""
    network = create(dataclasses.replace(SPEC, **changes), seed=1)
    return network.eval().get_submodule("layer1.1")


def residual_of(unit: Any, x: Tensor) -> Tensor:
    """F(x) of a basic unit as the paper's equation 1 has it."""
    result: Tensor = unit.bn2(unit.conv2(relu(unit.bn1(unit.conv1(x)))))
    return result


@torch.no_grad()
def test_constant_scaling_multiplies_both_branches() -> None:
    unit = unit_of(shortcut="scaled", shortcut_scale=0.5, residual_scale=0.25)
    torch.testing.assert_close(unit(IMAGES), relu(0.5 * IMAGES + 0.25 * residual_of(unit, IMAGES)))


@torch.no_grad()
@pytest.mark.parametrize("exclusive", [True, False])
def test_gates_weigh_as_table_1_of_2016_says(exclusive: bool) -> None:
    unit = unit_of(shortcut="exclusive-gating" if exclusive else "shortcut-only-gating", gate_bias=-1.0)
    gate = torch.sigmoid(unit.addition.gate(IMAGES))
    assert gate.std() > 0.01
    residual = residual_of(unit, IMAGES)
    expected = relu((1 - gate) * IMAGES + (gate * residual if exclusive else residual))
    torch.testing.assert_close(unit(IMAGES), expected)


def test_gates_begin_at_their_bias() -> None:
    network = create("resnet110.exclusive-gating")
    biases = [value for name, value in network.named_parameters() if name.endswith("gate.bias")]
    assert len(biases) == 54
    assert all((bias == -6).all() for bias in biases)


def test_dropout_falls_on_the_shortcut_alone_and_in_training_alone() -> None:
    unit = unit_of(shortcut="dropout")
    with torch.no_grad():
        torch.testing.assert_close(unit(IMAGES), relu(IMAGES + residual_of(unit, IMAGES)))
        shortcut = unit.downsample.train()(torch.ones(1, 4, 50, 50))
    assert set(shortcut.unique().tolist()) == {0.0, 2.0}
    assert 0.45 < (shortcut == 0).float().mean() < 0.55


# -- padding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (6, 11)])
def test_same_padding_puts_the_odd_pixel_below_and_right(size: tuple[int, int]) -> None:
    conv = SamePadConv2d(3, 2, 7, stride=2)
    images = torch.randn(1, 3, *size)
    # TensorFlow's documentation: the total is max((⌈n/s⌉ − 1)·s + k − n, 0), the smaller half before.
    vertical, horizontal = ((-(-side // 2) - 1) * 2 + 7 - side for side in size)
    padded = functional.pad(
        images, (horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2)
    )
    torch.testing.assert_close(conv(images), functional.conv2d(padded, conv.weight, conv.bias, stride=2))
    assert conv(images).shape[2:] == tuple(-(-side // 2) for side in size)
    pooled = SamePadMaxPool2d(3, 2)(-images.abs() - 1)
    assert pooled.shape[2:] == tuple(-(-side // 2) for side in size)
    assert pooled.max() < 0


@pytest.mark.parametrize(
    ("padding", "corner", "size"),
    [("torch", -1, 3), ("keras", 0, 3), ("caffe", -1, 2), ("tensorflow", -1, 3)],
)
def test_each_framework_pools_as_it_pads(padding: Padding, corner: int, size: int) -> None:
    pooled = make_max_pool(padding)(torch.full((1, 1, 5, 5), -1.0))
    assert pooled.shape == (1, 1, size, size)
    assert pooled[0, 0, 0, 0] == corner


@pytest.mark.parametrize("px", [63, 64, 65, 97])
@pytest.mark.parametrize("padding", ["torch", "keras", "caffe", "tensorflow"])
def test_closed_form_sizes_hold_for_every_padding(padding: Padding, px: int) -> None:
    spec = dataclasses.replace(zoo.entry("resnet18").spec, padding=padding)
    with torch.device("meta"):
        maps = ResNet(spec).features(torch.empty(1, 3, px, px))
    sizes = {layer.name: layer.out_px for layer in spec.layers(px)}
    assert maps["layer4"].shape[-1] == sizes["layer4.1.conv2"]
    assert maps["stem"].shape[-1] == sizes["layer1.0.conv1"]


# -- where strides, activations and biases sit -------------------------------------------------------


def test_keras_v2_strides_in_the_last_unit_with_a_sub_sampled_identity() -> None:
    network = create("resnet50.keras-v2")
    units = list(network.spec.units())
    assert [unit.name for unit in units if unit.stride == 2] == ["layer1.2", "layer2.3", "layer3.5"]
    with_projection = [
        unit.name for unit in units if f"{unit.name}.downsample.0.weight" in network.state_dict()
    ]
    assert with_projection == ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    shortcut: Any = network.get_submodule("layer1.2.downsample")
    images = torch.randn(1, 256, 8, 8)
    assert torch.equal(shortcut(images), images[:, :, ::2, ::2])
    biased = {name for name in network.state_dict() if "conv" in name and name.endswith("bias")}
    assert biased == {"conv1.bias", *(f"{unit.name}.conv3.bias" for unit in units)}


@torch.no_grad()
@pytest.mark.parametrize("place", get_args(FirstActivation))
def test_the_first_activation_stands_where_the_spec_says(place: FirstActivation) -> None:
    spec = dataclasses.replace(SPEC, arrangement="full-preactivation", first_activation=place)
    network: Any = create(spec, seed=1).eval()
    images = torch.randn(2, 3, 6, 6)
    x = network.conv1(images)
    first = network.layer1[0]
    if place == "stem":
        assert not hasattr(first, "bn1")
        x = activated = relu(network.bn1(x))
    else:
        activated = relu(first.bn1(x))
    residual = first.conv2(relu(first.bn2(first.conv1(activated))))
    expected = residual + (x if place == "branch" else activated)
    torch.testing.assert_close(network.features(images)["layer1"], network.layer1[1](expected))


def test_biases_of_the_caffe_and_keras_networks() -> None:
    assert "conv1.bias" in create("resnet50.caffe").state_dict()
    assert not any(name.endswith("conv1.bias") for name in create("resnet101.caffe").state_dict())
    keras = create("resnet50.keras")
    biases = [name for name in keras.state_dict() if name.endswith("bias") and "bn" not in name]
    assert len([name for name in biases if "downsample.1" not in name]) == 1 + 48 + 4 + 1


# -- what only training sees -------------------------------------------------------------------------


def test_xavier_draws_uniformly_within_glorots_bound() -> None:
    network = create("resnet50.tf")
    weight = network.conv1.weight
    bound = (6 / (7 * 7 * 3 + 7 * 7 * 64)) ** 0.5
    assert bound * 0.98 < weight.abs().max() <= bound
    assert not network.fc.bias.any()
    assert (network.bn1.eps, network.bn1.momentum) == (1e-3, 1e-3)


@torch.no_grad()
def test_zero_initialized_last_bn_makes_units_identities() -> None:
    network = create(dataclasses.replace(SPEC, shortcut="B", zero_init_last_bn=True))
    unit: Any = network.get_submodule("layer1.1")
    assert torch.equal(unit(IMAGES.abs()), IMAGES.abs())
    assert zoo.name_of(dataclasses.replace(zoo.entry("resnet18").spec, zero_init_last_bn=True)) == "resnet18"


def test_stochastic_depth_drops_samples_in_training_and_rises_with_depth() -> None:
    units = list(dataclasses.replace(SPEC, stochastic_depth=0.4).units())
    assert [round(unit.drop_rate, 6) for unit in units] == [0.1, 0.2, 0.3, 0.4]
    torch.manual_seed(0)
    drop = StochasticDepth(0.25)
    out = drop(torch.ones(4000, 1, 2, 2))
    assert sorted(out.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert all(sample.min() == sample.max() for sample in out)
    assert 0.22 < (out[:, 0, 0, 0] == 0).float().mean() < 0.28
    assert torch.equal(drop.eval()(IMAGES), IMAGES)


def test_output_stride_dilates_instead_of_striding() -> None:
    spec = dataclasses.replace(zoo.entry("resnet50").spec, output_stride=8)
    with torch.device("meta"):
        maps = ResNet(spec).features(torch.empty(1, 3, 64, 64))
    assert [maps[f"layer{stage}"].shape[-1] for stage in (1, 2, 3, 4)] == [16, 8, 8, 8]
    dilations = {unit.name: spec.convolutions(unit)[1].dilation for unit in spec.units()}
    assert [dilations[name] for name in ("layer3.0", "layer3.1", "layer4.0", "layer4.1")] == [1, 2, 2, 4]
    assert spec.num_parameters == zoo.entry("resnet50").spec.num_parameters


@pytest.mark.parametrize("name", ["resnet20", "resnet164.preact", "resnet110.dropout"])
def test_activation_checkpointing_changes_no_bit(name: str) -> None:
    spec = dataclasses.replace(zoo.entry(name).spec, depths=(2, 2, 2))
    images = torch.randn(4, 3, 8, 8)
    results = []
    for checkpointing in (False, True):
        network = create(dataclasses.replace(spec, activation_checkpointing=checkpointing), seed=3)
        torch.manual_seed(5)
        network.train()(images).square().sum().backward()
        gradients = [parameter.grad for parameter in network.parameters()]
        results.append((gradients, list(network.buffers())))
    for plain, checkpointed in zip(*results, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(plain, checkpointed, strict=True))


_STEP = """
import dataclasses, resource, sys
import torch
from deepresidual import create, zoo
spec = dataclasses.replace(zoo.entry(sys.argv[1]).spec, activation_checkpointing=True)
network = create(spec)
optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
before = network.conv1.weight.detach().clone()
loss = torch.nn.functional.cross_entropy(network(torch.randn(8, 3, 32, 32)), torch.arange(8))
loss.backward()
optimizer.step()
assert loss.isfinite() and not torch.equal(before, network.conv1.weight)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.test_all
@pytest.mark.parametrize("name", ["resnet1202", "resnet1001", "resnet1001.preact"])
def test_the_deepest_networks_train_a_step_within_8_gb(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", _STEP, name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 8e9


def test_modules_say_what_they_are() -> None:
    text = repr(
        create(dataclasses.replace(SPEC, shortcut="scaled", shortcut_scale=0.5, stochastic_depth=0.4))
    )
    assert "ScaledAddition(shortcut_scale=0.5, residual_scale=1.0)" in text
    assert "StochasticDepth(rate=0.1)" in text
    assert "exclusive=True" in repr(create(dataclasses.replace(SPEC, shortcut="exclusive-gating")))
    assert isinstance(create(SPEC), nn.Module)
