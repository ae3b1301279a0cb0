"""torchvision's own networks, saved by torch.save and read here, and the other way."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from deepresidual import zoo
from deepresidual.conversion.ecosystem import Exported, ForeignCheckpoint
from deepresidual.conversion.readers import read
from deepresidual.conversion.selection import select_network
from deepresidual.conversion.torchvision import TorchVision
from deepresidual.errors import ConfigurationError, MissingDependencyError, ModelFileError
from deepresidual.models import create
from deepresidual.nn import ResNet
from tests.on_demand import OnDemand
from tests.parity.agreement import (
    TINY,
    check_both_ways,
    check_names_and_shapes,
    converted,
    in_memory,
    largest_difference,
    randomize,
)
from tests.parity.conftest import Parity
from tests.suites import short

torchvision: Any = OnDemand("torchvision")

NAMES = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
)
# The others differ from these in depth alone.
DISTINCT = ("resnet18", "resnet50", "resnext50_32x4d", "wide_resnet50_2")


def read_here(checkpoint: ForeignCheckpoint) -> ResNet:
    return converted(TorchVision(), checkpoint)[0]


TINY_NETWORKS: dict[str, tuple[str, dict[str, int]]] = {
    "basic": ("BasicBlock", {}),
    "bottleneck": ("Bottleneck", {}),
    "groups": ("Bottleneck", {"groups": 32, "width_per_group": 4}),
    "wide": ("Bottleneck", {"width_per_group": 128}),
}


def tiny(kind: str, **options: Any) -> Any:
    block, widths = TINY_NETWORKS[kind]
    resnet = torchvision.models.resnet
    return resnet.ResNet(getattr(resnet, block), TINY, num_classes=7, **widths, **options)


@pytest.mark.parametrize("kind", TINY_NETWORKS)
def test_tiny_networks_are_the_same_here_and_there(kind: str) -> None:
    theirs = tiny(kind)
    check_both_ways(TorchVision(), converted(TorchVision(), in_memory(theirs))[1].spec, theirs)


@pytest.mark.parametrize("name", short(NAMES, *DISTINCT))
def test_every_network_has_the_names_and_shapes_of_torchvisions(name: str) -> None:
    with torch.device("meta"):
        theirs = getattr(torchvision.models, name)(num_classes=7)
        spec = dataclasses.replace(zoo.entry(name).spec, num_classes=7)
        check_names_and_shapes(TorchVision(), spec, theirs)
    recognition = TorchVision().recognize(in_memory(theirs))
    assert recognition is not None
    assert zoo.name_of(recognition.spec) == name


@pytest.mark.parametrize("name", short(NAMES, "resnet18"))
def test_networks_of_torchvision_are_the_same_here(name: str, parity: Parity) -> None:
    theirs = randomize(getattr(torchvision.models, name)(num_classes=7), seed=1)
    ours = read_here(in_memory(theirs))
    assert zoo.name_of(ours.spec) == name
    for size in ((64, 64), (75, 97)):
        parity(name, "torchvision", "in", largest_difference(ours, theirs, size), 1e-5)


@pytest.mark.parametrize("name", short(NAMES, "resnet18"))
def test_what_is_written_torchvision_loads(name: str, tmp_path: Path, parity: Parity) -> None:
    ours = randomize(create(name, num_classes=7), seed=2)
    assert isinstance(ours, ResNet)
    model = Exported(ours.spec, ours.state_dict(), zoo.default_preprocess(ours.spec), tuple("abcdefg"))
    TorchVision().write(model, tmp_path / "out.pth")
    theirs = getattr(torchvision.models, name)(num_classes=7)
    theirs.load_state_dict(torch.load(tmp_path / "out.pth", weights_only=True))
    parity(name, "torchvision", "out", largest_difference(ours, theirs.eval()), 1e-5)
    back = read_here(read(tmp_path / "out.pth")).state_dict()
    assert all(torch.equal(back[key], tensor) for key, tensor in ours.state_dict().items())


@pytest.mark.parametrize(
    ("output_stride", "dilate"),
    [(16, [False, False, True]), (8, [False, True, True]), (4, [True, True, True])],
)
def test_dilation_is_torchvisions(output_stride: int, dilate: list[bool]) -> None:
    theirs = tiny("bottleneck", replace_stride_with_dilation=dilate)
    randomize(theirs, seed=3)
    spec = dataclasses.replace(
        zoo.entry("resnet50").spec, depths=TINY, output_stride=output_stride, num_classes=7
    )
    ours = ResNet(spec)
    ours.load_state_dict(theirs.state_dict())
    assert largest_difference(ours.eval(), theirs, (43, 65)) <= 1e-5
    reference = TorchVision().reference(in_memory(theirs), spec)
    assert largest_difference(ours, reference.logits) <= 1e-5


def test_prefixes_of_data_parallel_are_understood() -> None:
    theirs = randomize(tiny("basic"), seed=4)
    ours = read_here(select_network(in_memory(theirs, "module.")).checkpoint)
    assert largest_difference(ours, theirs) <= 1e-5


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_a_backbone_has_the_same_features(kind: str) -> None:
    theirs = randomize(tiny(kind), seed=6)
    theirs.fc = torch.nn.Identity()
    checkpoint = in_memory(theirs)
    ours = read_here(checkpoint)
    assert ours.spec.num_classes == 0
    assert largest_difference(ours, theirs) <= 1e-5
    assert largest_difference(ours, TorchVision().reference(checkpoint, ours.spec).logits) <= 1e-5


def test_counters_of_batches_may_be_missing() -> None:
    theirs = randomize(tiny("basic"), seed=7)
    checkpoint = in_memory(theirs)
    old = {name: t for name, t in checkpoint.tensors.items() if not name.endswith(".num_batches_tracked")}
    ours = read_here(dataclasses.replace(checkpoint, tensors=old))
    assert largest_difference(ours, theirs) <= 1e-5
    assert ours.bn1.num_batches_tracked == 0


def test_gray_images() -> None:
    theirs = tiny("basic")
    theirs.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    randomize(theirs, seed=5)
    ours = read_here(in_memory(theirs))
    assert largest_difference(ours, theirs, channels=1) <= 1e-5
    assert (
        largest_difference(ours, TorchVision().reference(in_memory(theirs), ours.spec).logits, channels=1)
        <= 1e-5
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv1.0.weight": torch.ones(1)}, r"a tensor that its networks do not have \(conv1.0.weight\)"),
        ({"layer1.0.se.fc1.weight": torch.ones(1)}, "do not have .layer1.0.se.fc1.weight."),
        ({"layer1.7.conv1.weight": torch.ones(1)}, "has units with gaps between their numbers"),
        ({"conv1.weight": torch.ones(3)}, "is no network that Residual has"),
        ({"fc.weight": torch.ones(0, 512)}, "is no network that Residual has .fc.weight has 0 rows"),
    ],
)
def test_other_networks_are_refused_by_the_tensor(change: dict[str, Any], message: str) -> None:
    with torch.device("meta"):
        checkpoint = in_memory(torchvision.models.resnet18())
    changed = dataclasses.replace(checkpoint, tensors={**checkpoint.tensors, **change})
    with pytest.raises(ModelFileError, match=message):
        TorchVision().recognize(changed)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50.v1", "torchvision has no such network: stride_on is '1x1' and there '3x3'"),
        ("resnet34.a", "shortcut is 'A' and there 'B'"),
        ("resnet50.preact", "arrangement is 'full-preactivation' and there 'original'"),
        ("resnet50.tf", "padding is 'tensorflow' and there 'torch', bn_eps is 0.001 and there 1e-05"),
        ("resnet20", "widths is .16, 32, 64. .*stem is 'cifar' and there 'imagenet'"),
    ],
)
def test_what_torchvision_lacks_is_named(name: str, message: str, tmp_path: Path) -> None:
    spec = zoo.entry(name).spec
    model = Exported(spec, {}, zoo.default_preprocess(spec), ())
    with pytest.raises(ConfigurationError, match=message):
        TorchVision().write(model, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()
    with pytest.raises(MissingDependencyError, match=message):
        TorchVision().reference(ForeignCheckpoint(Path("file.pth"), "torch", {}, ""), spec)
