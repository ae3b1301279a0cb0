"""Models of 0 classes: a start for training and a source of features, refused where classes are asked for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import deepresidual
from deepresidual.cli import main
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.explanation import activation_maps
from deepresidual.models import TorchClassifier, create, load, save
from tests.conftest import SMALL_INPUT, TINY
from tests.suites import short

BACKBONE = dataclasses.replace(TINY, num_classes=0)
REFUSED = r"is a backbone without a classifier \(0 classes\); expected a model with classes; train one"


@pytest.fixture
def backbone(tmp_path: Path) -> Path:
    """A folder of a tiny network without a classifier."""
    save(TorchClassifier(create(BACKBONE), (), SMALL_INPUT), tmp_path / "backbone")
    return tmp_path / "backbone"


def test_a_network_of_no_classes_returns_what_the_classifier_would_read() -> None:
    whole, backbone = create(TINY), create(BACKBONE)
    backbone.load_state_dict({n: t for n, t in whole.state_dict().items() if not n.startswith("fc.")})
    images = torch.randn(2, 3, 8, 8)
    features = backbone.eval()(images)
    assert features.shape == (2, BACKBONE.num_features)
    torch.testing.assert_close(whole.fc(features), whole.eval()(images))
    assert backbone.score_map(images, 4).shape == (2, 8, 1, 1)
    assert list(backbone.features(images)) == ["stem", "layer1", "layer2"]
    assert sum(p.numel() for p in backbone.parameters()) == BACKBONE.num_parameters


def test_the_folder_comes_back_to_the_bit(backbone: Path) -> None:
    model, expected = load(backbone), create(BACKBONE).state_dict()
    assert (model.label_names, model.spec) == ((), BACKBONE)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.network.state_dict().items())
    config = json.loads((backbone / "config.json").read_text())
    assert (config["num_classes"], config["label_names"]) == (0, [])
    card = (backbone / "README.md").read_text()
    assert "a backbone without a classifier" in card
    assert "residual train DATA --weights" in card
    assert "residual predict" not in card
    assert "## Classes" not in card


@pytest.mark.parametrize("name", short(["resnet18", "resnet50"], "resnet18"))
def test_timm_opens_it_with_the_same_features(tmp_path: Path, name: str) -> None:
    import timm

    ours = create(name, num_classes=0, seed=1).eval()
    save(ours, tmp_path / "m")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(images), ours(images), atol=1e-4, rtol=1e-4)


def test_weights_that_contradict_the_config_are_refused(backbone: Path, tmp_path: Path) -> None:
    save(TorchClassifier(create(TINY), ("a", "b", "c"), SMALL_INPUT), tmp_path / "whole")
    weights = (tmp_path / "whole" / "model.safetensors").read_bytes()
    (tmp_path / "whole" / "model.safetensors").write_bytes((backbone / "model.safetensors").read_bytes())
    (backbone / "model.safetensors").write_bytes(weights)
    with pytest.raises(ModelFileError, match="the classifier has 3 rows and the config says 0 classes"):
        load(backbone)
    with pytest.raises(ModelFileError, match=r"does not fit the network .*− fc\.weight \(3, 8\)"):
        load(tmp_path / "whole")


@pytest.mark.usefixtures("no_findings")
def test_training_starts_from_it_with_a_new_classifier(backbone: Path, photos: Path, tmp_path: Path) -> None:
    result = deepresidual.train(
        photos,
        None,
        tmp_path / "run",
        weights=backbone,
        changes={"steps": 1, "batch_size": 4, "learning_rate": 1e-9, "head_stages": "last"},
        num_workers=0,
    )
    model = load(result.path)
    assert model.label_names == ("blue", "green", "red")
    assert model.network.fc.weight.shape == (3, 8)
    before = load(backbone).network.conv1.weight
    torch.testing.assert_close(model.network.conv1.weight, before, atol=1e-6, rtol=0)


@pytest.mark.parametrize("command", ["predict", "evaluate", "explain"])
def test_commands_that_need_classes_refuse_it_by_name(
    backbone: Path, photos: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--out", str(tmp_path / "out")] if command == "explain" else []
    assert main([command, str(backbone), str(photos), *options]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"error: {backbone} is a backbone without a classifier (0 classes)" in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "out").exists()


def test_functions_that_need_classes_refuse_it(backbone: Path) -> None:
    model = load(backbone)
    pixels = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    for ask in (
        lambda: model.predict(pixels[0].numpy()),
        lambda: model.logits(pixels.numpy()),
        lambda: model.rank(np.zeros((1, 0), np.float32)),
        lambda: activation_maps(model, pixels),
        lambda: deepresidual.evaluate(model, "digits"),
    ):
        with pytest.raises(ModelFileError, match=REFUSED):
            ask()


def test_fewer_than_no_classes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="num_classes holds -1; expected 0 to 1,000,000"):
        create(TINY, num_classes=-1)
