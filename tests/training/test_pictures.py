"""Pictures of an evaluation: which images, what their heat maps show, and that training is not disturbed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from residual.data.source import open_source
from residual.evaluation import Evaluation, evaluate_split
from residual.explanation import activation_maps, enlarged, overlay
from residual.models import Model
from residual.training.pictures import pictures_of
from tests.conftest import write_photos


def pixels_of(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def evaluation(tiny_model: Model, photos: Path) -> Evaluation:
    return evaluate_split(tiny_model, open_source(photos).split("test"), "test", num_mistakes=5)


def test_there_is_a_photo_and_a_heat_map_of_each(
    tiny_model: Model, photos: Path, evaluation: Evaluation
) -> None:
    split = open_source(photos).split("test")
    pictures = pictures_of(tiny_model, split, evaluation)
    assert len(pictures.mistakes) == len(evaluation.mistakes) == 5
    assert len(pictures.best) == len(evaluation.best) > 0
    names = [f"mistake-{number:02d}" for number in range(5)]
    assert list(pictures.heat_maps) == names + [f"best-{number:02d}" for number in range(len(pictures.best))]
    for picture, shown in zip(
        (*pictures.mistakes, *pictures.best), (*evaluation.mistakes, *evaluation.best), strict=True
    ):
        with Image.open(io.BytesIO(split.read(shown.index).content)) as image:
            np.testing.assert_array_equal(pixels_of(picture), np.asarray(image.convert("RGB")))


def test_the_heat_is_for_the_class_that_was_said(
    tiny_model: Model, photos: Path, evaluation: Evaluation
) -> None:
    pictures = pictures_of(tiny_model, open_source(photos).split("test"), evaluation)
    preprocess = tiny_model.preprocess
    samples = [
        (mistake.predicted, picture)
        for mistake, picture in zip(evaluation.mistakes, pictures.mistakes, strict=True)
    ]
    samples += [(hit.label, picture) for hit, picture in zip(evaluation.best, pictures.best, strict=True)]
    for (said, photo), drawn in zip(samples, pictures.heat_maps.values(), strict=True):
        view = preprocess.center_view(pixels_of(photo))  # these photos are smaller than what is cut down
        row = tiny_model.label_names.index(said)
        maps = activation_maps(tiny_model, torch.from_numpy(view.copy())[None], rows=[row])
        heat = enlarged(maps.values, 128)[0].numpy()
        expected = overlay(view.repeat(16, axis=0).repeat(16, axis=1), heat)
        assert np.abs(pixels_of(drawn).astype(int) - expected).max() <= 1  # sums of a batch round otherwise


def test_large_photos_are_made_small(tiny_model: Model, tmp_path: Path) -> None:
    write_photos(tmp_path / "train", 2, side=400)
    write_photos(tmp_path / "test", 2, side=400)
    split = open_source(tmp_path).split("test")
    pictures = pictures_of(tiny_model, split, evaluate_split(tiny_model, split, "test"))
    for picture in (*pictures.mistakes, *pictures.best):
        assert max(pixels_of(picture).shape) == 160
    for picture in pictures.heat_maps.values():
        assert pixels_of(picture).shape == (128, 128, 3)


def test_training_is_not_disturbed(tiny_model: Model, photos: Path, evaluation: Evaluation) -> None:
    network = tiny_model.network.train()
    network.fc.weight.grad = torch.ones_like(network.fc.weight)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    pictures_of(tiny_model, open_source(photos).split("test"), evaluation)
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(network.fc.weight.grad, torch.ones_like(network.fc.weight))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_a_perfect_or_hopeless_evaluation_has_fewer_pictures(
    tiny_model: Model, photos: Path, evaluation: Evaluation
) -> None:
    import dataclasses

    split = open_source(photos).split("test")
    nothing = pictures_of(tiny_model, split, dataclasses.replace(evaluation, mistakes=(), best=()))
    assert (nothing.mistakes, nothing.best, nothing.heat_maps) == ([], [], {})


def test_the_surest_hit_of_each_class_is_named(
    tiny_model: Model, photos: Path, evaluation: Evaluation
) -> None:
    """By hand: the hit of each class with the lowest loss, from the probabilities of single images."""
    split = open_source(photos).split("test")
    found: dict[str, tuple[float, int]] = {}
    for index in range(len(split)):
        sample = split.read(index)
        (said,) = tiny_model.predict([Image.open(io.BytesIO(sample.content))])
        label = tiny_model.label_names[sample.label]
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
