"""Pictures of an evaluation: which images, what their heat maps show, and that training is not disturbed."""

from __future__ import annotations

import dataclasses
import io
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from deepresidual.data.source import open_source
from deepresidual.evaluation import Evaluation, evaluate_split
from deepresidual.explanation import activation_maps, enlarged
from deepresidual.models import TorchClassifier
from deepresidual.tasks.pictures import heat_maps_of, photos_of
from deepresidual.training import journal
from deepresidual.training.launch import train
from tests.conftest import TINY, write_photos
from tests.training.parts import SilentJournal


def pixels_of(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def evaluation(tiny_model: TorchClassifier, photos: Path) -> Evaluation:
    evaluation = evaluate_split(tiny_model, open_source(photos).split("test"), "test")
    return dataclasses.replace(evaluation, mistakes=evaluation.mistakes[:5])


def test_there_is_a_photo_of_each_as_the_network_saw_it(
    tiny_model: TorchClassifier, photos: Path, evaluation: Evaluation
) -> None:
    split = open_source(photos).split("test")
    found = photos_of(split, evaluation, tiny_model.preprocess)
    assert len(evaluation.best) > 0
    names = [f"mistakes/{number:02d}" for number in range(5)]
    assert list(found) == names + [f"best/{number:02d}" for number in range(len(evaluation.best))]
    indices = [mistake.index for mistake in evaluation.mistakes] + [hit.index for hit in evaluation.best]
    for picture, index in zip(found.values(), indices, strict=True):
        pixels = pixels_of(split.read(index).content)
        box = tiny_model.preprocess.center_box(*pixels.shape[:2])
        side = round(min(box[2] - box[0], box[3] - box[1]))
        seen = tiny_model.preprocess.resize(pixels, box, side, side)
        np.testing.assert_array_equal(pixels_of(picture), seen)


def test_the_heat_is_for_the_class_that_was_said(
    tiny_model: TorchClassifier, photos: Path, evaluation: Evaluation
) -> None:
    split = open_source(photos).split("test")
    found = heat_maps_of(tiny_model, split, evaluation)
    names = [f"mistake-{number:02d}" for number in range(5)]
    assert list(found) == names + [f"best-{number:02d}" for number in range(len(evaluation.best))]
    said = [mistake.predicted for mistake in evaluation.mistakes] + [hit.label for hit in evaluation.best]
    indices = [mistake.index for mistake in evaluation.mistakes] + [hit.index for hit in evaluation.best]
    for name, drawn, index in zip(said, found.values(), indices, strict=True):
        view = tiny_model.preprocess.center_view(pixels_of(split.read(index).content))
        row = tiny_model.label_names.index(name)
        maps = activation_maps(tiny_model, torch.from_numpy(view.copy())[None], rows=[row])
        heat = enlarged(maps.values, 32)[0].numpy()
        with Image.open(io.BytesIO(drawn)) as image:
            pixels = np.asarray(image)
        assert (pixels[:, :, :3] == (217, 30, 110)).all()
        # One of 32 opacities, and sums of a batch round otherwise, which can tip a value into the next.
        assert np.abs(pixels[:, :, 3] / 255 / 0.78 - heat).max() <= 1 / 32 + 0.01


def test_large_photos_are_made_small(tiny_model: TorchClassifier, tmp_path: Path) -> None:
    write_photos(tmp_path / "train", 2, side=400)
    write_photos(tmp_path / "test", 2, side=400)
    split = open_source(tmp_path).split("test")
    evaluation = evaluate_split(tiny_model, split, "test")
    for picture in photos_of(split, evaluation, tiny_model.preprocess).values():
        assert max(pixels_of(picture).shape) == 160
    for picture in heat_maps_of(tiny_model, split, evaluation).values():
        assert pixels_of(picture).shape == (32, 32, 3)


def test_training_is_not_disturbed(tiny_model: TorchClassifier, photos: Path, evaluation: Evaluation) -> None:
    network = tiny_model.network.train()
    network.fc.weight.grad = torch.ones_like(network.fc.weight)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    heat_maps_of(tiny_model, open_source(photos).split("test"), evaluation)
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(network.fc.weight.grad, torch.ones_like(network.fc.weight))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_nothing_to_show_is_nothing(
    tiny_model: TorchClassifier, photos: Path, evaluation: Evaluation
) -> None:
    split = open_source(photos).split("test")
    nothing = dataclasses.replace(evaluation, mistakes=(), best=())
    assert photos_of(split, nothing, tiny_model.preprocess) == {}
    assert heat_maps_of(tiny_model, split, nothing) == {}


# -- in a run ----------------------------------------------------------------------------------------------


def trained(photos: Path, out: Path) -> Path:
    changes = {"epochs": 3.0, "batch_size": 10}
    train(photos, TINY, out, changes=changes, image_px=8, num_workers=0, precision="fp32")
    return out


def test_a_run_ends_with_the_heat_maps_of_its_model_however_little_time_there_was(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * len(drawn))

    def draw_for_an_hour(*parts: Any) -> dict[str, bytes]:
        drawn.append("once more")
        return heat_maps_of(*parts)

    monkeypatch.setattr("deepresidual.training.launch.Journal", SilentJournal)
    quick = trained(photos, tmp_path / "quick")
    monkeypatch.setattr("deepresidual.tasks.classification.heat_maps_of", draw_for_an_hour)
    monkeypatch.setattr(journal, "time", clock)
    slow = trained(photos, tmp_path / "slow")
    assert len(drawn) == 2  # at the first evaluation of three, and at the end
    names = sorted(path.name for path in (quick / "heat-maps").iterdir())
    assert names == sorted(path.name for path in (slow / "heat-maps").iterdir())
    evaluation = json.loads((slow / "evaluation.json").read_text())
    assert len(names) == len(evaluation["mistakes"]) + len(evaluation["best"])
    for name in names:
        assert (quick / "heat-maps" / name).read_bytes() == (slow / "heat-maps" / name).read_bytes()


def test_the_surest_hit_of_each_class_is_named(
    tiny_model: TorchClassifier, photos: Path, evaluation: Evaluation
) -> None:
    """By hand: the hit of each class with the lowest loss, from the probabilities of single images."""
    split = open_source(photos).split("test")
    found: dict[str, tuple[float, int]] = {}
    for index in range(len(split)):
        sample = split.read(index)
        (said,) = tiny_model.predict([Image.open(io.BytesIO(sample.content))])
        label = tiny_model.label_names[sample.target]
        if said.classes[0] == label:
            found[label] = min(found.get(label, (np.inf, 0)), (-np.log(said.probabilities[0]), index))
    assert {(hit.label, hit.index) for hit in evaluation.best} == {
        (label, index) for label, (_, index) in found.items()
    }
    losses = [hit.loss for hit in evaluation.best]
    assert losses == sorted(losses)
    for hit in evaluation.best:
        assert hit.loss == pytest.approx(found[hit.label][0], rel=1e-4)
        assert hit.probability == pytest.approx(np.exp(-hit.loss), rel=1e-4)
        assert hit.key == split.read(hit.index).key
    document = json.loads(json.dumps(evaluation.to_dict()))
    assert Evaluation.from_dict(document) == evaluation
