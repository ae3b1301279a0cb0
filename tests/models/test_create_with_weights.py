"""Networks that begin with learned weights, and timm's habits with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deepresidual import zoo
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.models import TorchClassifier, bundled, create, load, save

CIFAR = "resnet20-cifar10"


def test_a_network_with_the_weights_of_a_model() -> None:
    network = create("resnet20", weights=CIFAR)
    assert network.training
    trained = load(CIFAR).network.state_dict()
    assert all(torch.equal(trained[name], tensor) for name, tensor in network.state_dict().items())


def test_a_new_head_is_drawn_from_the_seed_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    network = create("resnet20", num_classes=2, weights=CIFAR, seed=3)
    assert f"{CIFAR}: a new classifier of 2 rows, randomly initialized, for 10\n" == capsys.readouterr().err
    assert network.num_classes == 2
    assert torch.equal(network.conv1.weight, load(CIFAR).network.conv1.weight)
    assert torch.equal(network.fc.weight, create("resnet20", num_classes=2, seed=3).fc.weight)
    again = create("resnet20", num_classes=2, weights=CIFAR, seed=4)
    assert not torch.equal(network.fc.weight, again.fc.weight)


def test_no_classifier_and_other_channels() -> None:
    backbone = create("resnet20", num_classes=0, in_channels=1, weights=CIFAR)
    gray = torch.rand(2, 1, 32, 32)
    trained = load(CIFAR).network
    features = backbone.eval()(gray)
    assert features.shape == (2, backbone.num_features)
    expected = trained.forward_features(gray.repeat(1, 3, 1, 1)).mean(dim=(2, 3))
    assert torch.allclose(features, expected, atol=1e-4)
    with pytest.raises(ConfigurationError, match="in_channels is 4; expected 1 or 3"):
        create("resnet20", in_channels=4, weights=CIFAR)


@pytest.mark.parametrize("name", bundled.names())
def test_the_name_of_a_bundled_model_is_its_network_with_its_weights(name: str) -> None:
    trained = load(name).network.state_dict()
    network = create(name)
    assert all(torch.equal(trained[key], tensor) for key, tensor in network.state_dict().items())
    drawn = create(name, pretrained=False)
    assert drawn.spec.architecture == network.spec.architecture
    assert not torch.equal(drawn.conv1.weight, network.conv1.weight)


def test_the_name_of_released_weights_without_them_is_their_network() -> None:
    network = create("resnet18.a1_in1k", num_classes=5, pretrained=False)
    assert network.spec == create("resnet18", num_classes=5).spec


def test_pretrained_asks_for_the_default_release(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fake_load(name: str) -> TorchClassifier:
        asked.append(name)
        spec = zoo.entry("resnet18").spec
        labels = tuple(str(row) for row in range(spec.num_classes))
        return TorchClassifier(create("resnet18", seed=9).eval(), labels, zoo.default_preprocess(spec))

    monkeypatch.setattr("deepresidual.models.weights.load_torch", fake_load)
    network = create("resnet18", num_classes=2, pretrained=True)
    assert asked == ["resnet18.tv_in1k"]
    assert torch.equal(network.conv1.weight, create("resnet18", seed=9).conv1.weight)
    create("resnet18.a1_in1k")
    create("resnet18.a1_in1k", pretrained=True)
    assert asked[1:] == ["resnet18.a1_in1k"] * 2


def test_what_is_asked_for_in_vain(tmp_path: Path, tiny_model: TorchClassifier) -> None:
    with pytest.raises(ConfigurationError, match="'resnet20' is a network without released weights"):
        create("resnet20", pretrained=True)
    with pytest.raises(
        ConfigurationError, match="the weights resnet20-cifar10 are of resnet20, and the network is resnet32"
    ):
        create("resnet32", weights=CIFAR)
    save(tiny_model, tmp_path / "tiny")
    with pytest.raises(ConfigurationError, match="are of another network, and the network is resnet20"):
        create("resnet20", weights=tmp_path / "tiny")
    with pytest.raises(ModelFileError, match="there are no weights, 'resnet18.a9_in1k'"):
        create("resnet18", weights="resnet18.a9_in1k")


def test_the_spec_s_training_fields_are_kept() -> None:
    import dataclasses

    spec = dataclasses.replace(zoo.entry("resnet20").spec, stochastic_depth=0.2)
    assert create(spec, weights=CIFAR).spec.stochastic_depth == 0.2


def test_timm_s_habits_go_on_from_there() -> None:
    network = create("resnet20", weights=CIFAR).eval()
    images = torch.rand(2, 3, 32, 32)
    maps = network.forward_features(images)
    assert maps.shape == (2, network.num_features, 8, 8)
    assert torch.equal(network.forward_head(maps), network(images))
    assert network.forward_head(maps, pre_logits=True).shape == (2, network.num_features)
    assert network.get_classifier() is network.fc
    network.reset_classifier(4)
    assert network(images).shape == (2, 4)
    assert network.num_classes == network.spec.num_classes == 4
    network.reset_classifier(0)
    assert network(images).shape == (2, network.num_features)
