"""The models that come with Residual are small, complete, and as good as their cards say."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors
from PIL import Image

import deepresidual
from deepresidual.cli import main
from deepresidual.errors import ModelFileError
from deepresidual.models import TorchClassifier, bundled, load, save

NAMES = bundled.names()
DIGITS = "resnet20-digits"


def test_there_are_networks_for_photos_and_for_digits() -> None:
    assert {"resnet20-cifar10", "resnet56-cifar10", DIGITS} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_small_and_says_where_it_comes_from(name: str) -> None:
    folder = bundled.folder_of(name)
    assert folder is not None
    assert (folder / "model.safetensors").stat().st_size < 2_000_000
    with safetensors.safe_open(folder / "model.safetensors", "pt") as file:
        assert file.get_slice("layer1.0.conv1.weight").get_dtype() == "F16"
    model = load(name)
    assert model.network.fc.weight.dtype.itemsize == 4
    (figures,) = model.metrics.values()
    assert figures["top1"] > {DIGITS: 0.98, "resnet20-cifar10": 0.84, "resnet56-cifar10": 0.86}[name]
    assert {"data", "recipe", "recipe_fingerprint", "seed", "torch", "licence"} <= set(model.provenance)
    card = (folder / "README.md").read_text("utf-8")
    assert f"{figures['top1']:.4f}" in card


def test_the_figure_on_the_card_is_what_evaluation_finds() -> None:
    found = deepresidual.evaluate(DIGITS, "digits")
    (figures,) = load(DIGITS).metrics.values()
    assert found.count == figures["count"]
    assert found.top1 == pytest.approx(figures["top1"])


def test_a_photo_is_named_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (200, 150), (90, 140, 220)).save(tmp_path / "sky.jpg")
    assert main(["predict", "resnet20-cifar10", str(tmp_path / "sky.jpg")]) == 0
    printed = capsys.readouterr().out
    assert any(name in printed for name in load("resnet20-cifar10").label_names)


@pytest.mark.usefixtures("no_findings")
def test_training_goes_on_from_one(tmp_path: Path) -> None:
    result = deepresidual.train(
        "digits", None, tmp_path / "run", weights=DIGITS, changes={"steps": 1, "batch_size": 8}, num_workers=0
    )
    assert load(result.path).spec == load(DIGITS).spec


def test_one_is_converted_by_its_name(tmp_path: Path) -> None:
    deepresidual.convert(DIGITS, tmp_path / "three", num_classes=3)
    ours, theirs = load(DIGITS).network, load(tmp_path / "three").network
    assert theirs.fc.weight.shape[0] == 3
    assert ours.conv1.weight.equal(theirs.conv1.weight)


def test_a_folder_wins_over_a_name(
    tmp_path: Path, tiny_model: TorchClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tiny_model, "resnet20-cifar10")
    assert load("resnet20-cifar10").spec == tiny_model.spec


def test_another_name_is_told_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="does not exist.*resnet20-cifar10"):
        load(tmp_path / "resnet20-cifar100")


# -- half precision --------------------------------------------------------------------------------------


def test_half_precision_halves_the_weights_and_keeps_the_logits(tmp_path: Path) -> None:
    network = deepresidual.create("resnet20", seed=0)
    save(network, tmp_path / "whole")
    save(network, tmp_path / "half", half=True)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert 1.9 < sizes[0] / sizes[1] < 2
    whole, half = load(tmp_path / "whole").network, load(tmp_path / "half").network
    for (name, first), second in zip(whole.state_dict().items(), half.state_dict().values(), strict=True):
        assert first.dtype == second.dtype
        expected = first.half().float() if first.ndim > 1 else first
        assert expected.equal(second), name


def test_a_weight_beyond_half_precision_is_refused(tmp_path: Path) -> None:
    network = deepresidual.create("resnet20", seed=0)
    network.fc.weight.data[0, 0] = 7e4
    with pytest.raises(ModelFileError, match="fc.weight has values up to 7e"):
        save(network, tmp_path / "half", half=True)
    assert not (tmp_path / "half").exists()
