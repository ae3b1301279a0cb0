"""Classifiers that read statistics of several stages, and timm's names for the parts of a network."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from deepresidual import zoo
from deepresidual.cli import main
from deepresidual.errors import ConfigurationError
from deepresidual.evaluation import evaluate
from deepresidual.explanation import activation_maps
from deepresidual.explanation.layers import captured_map
from deepresidual.models import TorchClassifier, create, load, save
from deepresidual.models.convert import convert
from deepresidual.nn import ResNet
from deepresidual.nn.pooling import StatisticsPool
from deepresidual.spec import Arrangement, Head, ResNetSpec
from deepresidual.training.launch import train
from deepresidual.zoo.table import stages
from tests.conftest import COLORS, SMALL_INPUT, TINY

BOTH = Head(("layer1", "layer2"), ("mean", "std"))
SPEC = dataclasses.replace(TINY, head=BOTH)
IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def by_hand(network: ResNet, images: Tensor, head: Head) -> Tensor:
    """Return the features of a network whose stages end with an activation."""
    maps = network.features(images)
    of = {
        "mean": lambda m: m.mean(dim=(2, 3)),
        "std": lambda m: m.std(dim=(2, 3), unbiased=False),
    }
    return torch.cat([of[name](maps[stage]) for stage in head.stages for name in head.statistics], dim=1)


@pytest.mark.parametrize("statistics", [("mean",), ("std",), ("mean", "std")])
def test_features_are_the_statistics_of_the_stages_one_after_the_other(statistics: Any) -> None:
    head = Head(("layer1", "layer2"), statistics)
    network = create(dataclasses.replace(TINY, head=head)).eval()
    features = network.pooled_features(IMAGES)
    assert features.shape == (3, network.num_features) == (3, 12 * len(statistics))
    torch.testing.assert_close(features, by_hand(network, IMAGES, head))
    torch.testing.assert_close(network(IMAGES), network.fc(features))


def test_the_usual_head_is_said_in_one_way_and_written_nowhere() -> None:
    assert dataclasses.replace(TINY, head=Head(("layer2",))) == TINY
    assert "head" not in TINY.to_dict()
    assert TINY.has_usual_head
    assert (TINY.num_features, TINY.out_channels, TINY.pooling) == (8, 8, "average pooling")
    network = create(TINY).eval()
    last = network.features(IMAGES)["layer2"]
    assert torch.equal(network(IMAGES), network.fc(functional.adaptive_avg_pool2d(last, 1).flatten(1)))


def test_a_spec_with_a_head_counts_and_comes_back() -> None:
    assert ResNetSpec.from_dict(json.loads(json.dumps(SPEC.to_dict()))) == SPEC
    assert SPEC.num_features == 2 * (4 + 8)
    assert SPEC.num_parameters == sum(p.numel() for p in create(SPEC).parameters())
    assert SPEC.num_macs(8) - TINY.num_macs(8) == (24 - 8) * 3
    assert SPEC.pooling == "mean and std of layer1, layer2"
    assert stages(SPEC, 8)[-1].layers[0] == SPEC.pooling
    assert zoo.name_of(dataclasses.replace(zoo.entry("resnet20").spec, head=Head((), ("std",)))) is None
    (difference,) = SPEC.differences(TINY)
    assert difference.startswith("head is {'stages': ['layer1', 'layer2']")
    assert TINY.differences(SPEC)
    wide = dataclasses.replace(TINY, unit="bottleneck", head=BOTH)
    assert create(wide).fc.in_features == 2 * (16 + 32)


@pytest.mark.parametrize(
    ("stages_read", "statistics", "said"),
    [
        (("layer1",), ("mean",), "reads layer1; expected layer2, the last stage, too"),
        (("layer2", "layer1"), ("mean",), "expected some of layer1, layer2, in order"),
        (("layer1", "layer7"), ("mean",), "expected some of layer1, layer2, in order"),
        (("layer2", "layer2"), ("mean",), "names of stages, each once"),
        (["layer2"], ("mean",), "names of stages, each once"),
        ((), (), "one or both of mean, std, in this order"),
        ((), ("std", "mean"), "one or both of mean, std, in this order"),
        ((), ("max",), "one or both of mean, std, in this order"),
        (tuple(f"layer{n}" for n in range(9)), ("mean",), "at most 8"),
    ],
)
def test_heads_that_no_network_has_are_refused(stages_read: Any, statistics: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        dataclasses.replace(TINY, head=Head(stages_read, statistics))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (None, "head is None; expected an object"),
        ({"stages": []}, "the head has no field 'statistics'"),
        ({"stages": [], "statistics": ["mean"], "maps": 1}, "unknown field 'maps' in the head"),
        ({"stages": [1], "statistics": ["mean"]}, "names of stages"),
        ({"stages": "layer2", "statistics": ["mean"]}, "names of stages"),
    ],
)
def test_heads_of_a_damaged_file_are_refused(fields: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ResNetSpec.from_dict({**TINY.to_dict(), "head": fields})


def test_the_deviation_of_a_constant_map_is_0_with_a_gradient() -> None:
    pool = StatisticsPool(("mean", "std"))
    for side in (1, 4):
        maps = torch.full((2, 3, side, side), 0.7, requires_grad=True)
        pooled = pool(maps)
        assert torch.equal(pooled[:, 3:], torch.zeros(2, 3))
        pooled.sum().backward()
        assert maps.grad is not None
        assert maps.grad.isfinite().all()
    maps = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pool, (maps,))


@pytest.mark.parametrize("arrangement", get_args(Arrangement))
def test_every_arrangement_learns_through_all_stages(arrangement: Arrangement) -> None:
    network = create(dataclasses.replace(SPEC, arrangement=arrangement, depths=(2, 2)))
    network.fc.weight.data[:, 8:] = 0  # so the classifier sees the first stage alone
    network(IMAGES).logsumexp(1).sum().backward()
    early, late = (network.get_parameter(f"{name}.weight").grad for name in ("conv1", "layer2.0.conv1"))
    assert early is not None
    assert late is not None
    assert early.any()
    assert not late.any()


def test_of_a_preactivated_network_the_last_map_is_read_after_its_last_activation() -> None:
    network = create(dataclasses.replace(SPEC, arrangement="full-preactivation")).eval()
    maps = network.features(IMAGES)
    activated = functional.relu(network.bn(maps["layer2"]))
    features = network.pooled_features(IMAGES)
    torch.testing.assert_close(features[:, :4], maps["layer1"].mean(dim=(2, 3)))
    torch.testing.assert_close(features[:, 8:16], activated.mean(dim=(2, 3)))


def test_checkpointed_channels_last_and_compiled_networks_compute_the_same() -> None:
    plain = create(SPEC)
    saving = create(dataclasses.replace(SPEC, activation_checkpointing=True))
    for network in (plain, saving):
        network(IMAGES).square().sum().backward()
    for one, other in zip(plain.parameters(), saving.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)  # type: ignore[arg-type]
    expected = plain.eval()(IMAGES)
    last = create(SPEC).to(memory_format=torch.channels_last).eval()
    last.load_state_dict(plain.state_dict())
    torch.testing.assert_close(last(IMAGES.to(memory_format=torch.channels_last)), expected)
    compiled = torch.compile(plain, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(IMAGES), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(plain(IMAGES).float(), expected, rtol=0.1, atol=0.1)


def test_timms_names_answer() -> None:
    network = create(TINY).eval()
    maps = network.forward_features(IMAGES)
    assert maps.shape == (3, 8, 8 // 2, 8 // 2)
    assert torch.equal(network.forward_head(maps), network(IMAGES))
    assert torch.equal(network.forward_head(maps, pre_logits=True), network.pooled_features(IMAGES))
    assert (network.num_classes, network.num_features) == (3, 8)
    assert network.get_classifier() is network.fc
    with pytest.raises(ConfigurationError, match="reads the last map and this network's classifier reads"):
        create(SPEC).forward_head(maps)


def test_a_new_classifier_comes_from_its_seed_and_leaves_the_rest() -> None:
    network, other = create(TINY).double().eval(), create(TINY, seed=5)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.reset_classifier(5, seed=1)
    other.reset_classifier(5, seed=1)
    assert torch.equal(network.fc.weight, other.fc.weight.double())
    assert (network.num_classes, network.spec.num_classes, network.fc.training) == (5, 5, False)
    assert all(torch.equal(t, before[n]) for n, t in network.state_dict().items() if not n.startswith("fc."))
    assert network(IMAGES.double()).shape == (3, 5)
    network.reset_classifier(2, head=BOTH)
    assert network(IMAGES.double()).shape == (3, 2)
    network.reset_classifier(0, head=Head())
    assert network(IMAGES.double()).shape == (3, 8)
    assert create(network.spec).state_dict().keys() == network.state_dict().keys()
    with pytest.raises(ConfigurationError, match="num_classes holds -1"):
        network.reset_classifier(-1)
    with pytest.raises(ConfigurationError, match="seed is -1"):
        network.reset_classifier(2, seed=-1)


@pytest.fixture
def model() -> TorchClassifier:
    """A model whose classifier reads two stages."""
    return TorchClassifier(create(SPEC, seed=3).eval(), tuple(COLORS), SMALL_INPUT)


def test_a_folder_says_the_head_and_comes_back(model: TorchClassifier, tmp_path: Path) -> None:
    save(model, tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    assert config["residual"]["format_version"] == 1
    assert config["residual"]["spec"]["head"] == {
        "stages": ["layer1", "layer2"],
        "statistics": ["mean", "std"],
    }
    assert (config["architecture"], config["num_features"]) == ("custom", 24)
    assert "What the classifier reads: mean and std of layer1, layer2." in (
        (tmp_path / "model/README.md").read_text()
    )
    loaded = load(tmp_path / "model")
    assert loaded.spec == SPEC
    expected = model.network.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.network.state_dict().items())
    torch.testing.assert_close(loaded.network(IMAGES), model.network(IMAGES))


def test_timm_does_not_take_a_network_of_its_own_name_with_another_head(tmp_path: Path) -> None:
    spec = dataclasses.replace(zoo.entry("resnet18").spec, num_classes=2, head=Head((), ("mean", "std")))
    save(create(spec), tmp_path / "model")
    assert json.loads((tmp_path / "model/config.json").read_text())["architecture"] == "custom"


@pytest.mark.parametrize("to", ["torchvision", "timm", "transformers", "keras"])
def test_other_libraries_are_refused_by_name(
    to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = dataclasses.replace(zoo.entry("resnet18").spec, num_classes=2, head=Head(("layer3", "layer4")))
    save(create(spec), tmp_path / "model")
    out = tmp_path / ("out.keras" if to == "keras" else "out")
    assert main(["convert", str(tmp_path / "model"), str(out), "--to", to]) == 2
    said = (
        f"error: {to} has no network whose classifier reads mean of layer3, layer4; expected one that reads"
    )
    assert said in capsys.readouterr().err
    assert not out.exists()


def test_it_predicts_and_is_evaluated_but_not_on_whole_images(model: TorchClassifier, photos: Path) -> None:
    result = evaluate(model, photos, views="flip")
    assert result.count == 15
    for views in ("ten-crop", "one"):
        assert evaluate(model, photos, views=views).count == 15
    with pytest.raises(
        ConfigurationError, match="reads mean and std of layer1, layer2, of which there is no map"
    ):
        evaluate(model, photos, views="multi-scale")
    with pytest.raises(ConfigurationError, match="take other views than whole images"):
        model.logits_of_whole(np.zeros((1, 9, 8, 3), dtype=np.uint8))


@pytest.mark.parametrize("layer", ["last", "layer2", "layer1", "layer1.0.conv1"])
def test_heat_maps_weigh_by_the_derivative_through_everything_that_is_read(
    model: TorchClassifier, layer: str
) -> None:
    pixels = torch.randint(
        0, 256, (2, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    maps = activation_maps(model, pixels, layer=layer, rows=[0, 2])
    images = model.preprocess.normalize(pixels)
    with captured_map(model.network, layer) as captured:
        logits = model.network(images)
    torch.testing.assert_close(maps.logits, logits.detach())
    (slope,) = torch.autograd.grad(logits[0, 0] + logits[1, 2], captured.values)
    # A step along the derivative changes the logits as the derivative says.
    step = 1e-3
    module = model.network.avgpool if layer == "last" else model.network.get_submodule(layer)

    def push(_module: Any, *values: Any) -> Any:
        moved = (values[0][0] if layer == "last" else values[1]) + step * slope
        return (moved,) if layer == "last" else moved

    hook = module.register_forward_pre_hook(push) if layer == "last" else module.register_forward_hook(push)
    with hook, torch.no_grad():
        pushed = model.network(images)
    gain = (pushed[0, 0] + pushed[1, 2] - logits[0, 0] - logits[1, 2]).item()
    assert gain == pytest.approx(step * float(slope.square().sum()), rel=0.05)
    expected = (slope.mean(dim=(2, 3), keepdim=True) * captured.values).sum(dim=1).relu()
    torch.testing.assert_close(maps.values, expected.detach())


def test_it_is_trained_and_is_a_start_for_training(photos: Path, tmp_path: Path) -> None:
    changes = {"epochs": 1, "batch_size": 16}
    first = train(photos, out=tmp_path / "first", model=SPEC, image_px=8, changes=changes)
    trained = load(first.path)
    assert trained.spec.head == BOTH
    (prediction,) = trained.predict(next(photos.rglob("*.png")), top_k=1)
    assert prediction.classes[0] in COLORS
    second = train(
        photos, out=tmp_path / "second", model=SPEC, weights=first.path, image_px=8, changes=changes
    )
    before, after = trained.network.state_dict(), load(second.path).network.state_dict()
    assert torch.equal(before["conv1.weight"], after["conv1.weight"]), "frozen by the recipe"
    assert not torch.equal(before["fc.weight"], after["fc.weight"])


def test_convert_copies_a_folder_with_a_head(model: TorchClassifier, tmp_path: Path) -> None:
    save(model, tmp_path / "model")
    convert(tmp_path / "model", tmp_path / "copy")
    assert load(tmp_path / "copy").spec == SPEC
