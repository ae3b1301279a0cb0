"""A model in use: create, predict, rank."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import deepresidual
from deepresidual.errors import ConfigurationError, DataError, UnknownNameError
from deepresidual.models import TorchClassifier, create
from tests.conftest import SMALL_INPUT, TINY, write_photos


def test_create_takes_a_name_or_a_spec() -> None:
    assert deepresidual.create("resnet20", num_classes=4).fc.out_features == 4
    assert deepresidual.create(TINY, in_channels=1).conv1.in_channels == 1


def test_create_names_the_nearest_networks() -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'resnet21'"):
        deepresidual.create("resnet21")


def test_predict_gives_the_same_for_a_path_an_image_and_an_array(
    tmp_path: Path, tiny_model: TorchClassifier
) -> None:
    path = write_photos(tmp_path, 1) / "red" / "red-000.png"
    pixels = np.asarray(Image.open(path))
    (single,) = tiny_model.predict(path)
    for same in (str(path), pixels, Image.open(path)):
        assert tiny_model.predict(same) == [single]
    assert [each.classes for each in tiny_model.predict([path, pixels])] == [single.classes] * 2


def test_probabilities_are_a_softmax_best_first(tiny_model: TorchClassifier) -> None:
    image = np.full((20, 30, 3), 90, dtype=np.uint8)
    (prediction,) = tiny_model.predict(image, top_k=3)
    view = torch.from_numpy(SMALL_INPUT.center_view(image)[None].copy())
    with torch.inference_mode():
        expected = tiny_model.network.eval()(SMALL_INPUT.normalize(view)).softmax(dim=1)[0]
    ranked = sorted(zip(expected.tolist(), tiny_model.label_names, strict=True), reverse=True)
    assert prediction.classes == tuple(name for _, name in ranked)
    assert prediction.probabilities == pytest.approx([value for value, _ in ranked])
    assert sum(prediction.probabilities) == pytest.approx(1)


def test_a_gray_array_is_taken_as_gray(tiny_model: TorchClassifier) -> None:
    gray = np.full((9, 9), 77, dtype=np.uint8)
    assert tiny_model.predict(gray) == tiny_model.predict(np.repeat(gray[:, :, None], 3, axis=2))


def test_predicting_nothing_gives_nothing(tiny_model: TorchClassifier) -> None:
    assert tiny_model.predict([]) == []


@pytest.mark.parametrize("top_k", [0, 4, -1])
def test_top_k_out_of_range_is_named(tiny_model: TorchClassifier, top_k: int) -> None:
    with pytest.raises(ConfigurationError, match=f"top_k is {top_k}; expected 1 to 3"):
        tiny_model.predict(np.zeros((8, 8, 3), dtype=np.uint8), top_k=top_k)


def test_an_array_of_floats_is_refused(tiny_model: TorchClassifier) -> None:
    with pytest.raises(ConfigurationError, match=r"shape \(8, 8, 3\) and type float64; expected"):
        tiny_model.predict(np.zeros((8, 8, 3)))


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, tiny_model: TorchClassifier) -> None:
    (tmp_path / "note.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"note\.jpg: not an image that can be used \(found text\)"):
        tiny_model.predict(tmp_path / "note.jpg")
    with pytest.raises(DataError, match=r"missing\.jpg: the file cannot be read"):
        tiny_model.predict(tmp_path / "missing.jpg")


@pytest.mark.parametrize("mode", ["EXIF", "RGBA", "I;16"])
def test_an_open_image_is_decoded_by_the_same_rule_as_its_file(
    tmp_path: Path, tiny_model: TorchClassifier, mode: str
) -> None:
    generator = np.random.default_rng(0)
    path = tmp_path / "image.png"
    if mode == "I;16":
        Image.fromarray(generator.integers(0, 65_536, (9, 12)).astype(np.uint16)).save(path)
    elif mode == "RGBA":
        Image.fromarray(generator.integers(0, 256, (9, 12, 4)).astype(np.uint8)).save(path)
    else:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(generator.integers(0, 256, (9, 12, 3)).astype(np.uint8)).save(path, exif=exif)
    with Image.open(path) as image:
        assert tiny_model.predict(image) == tiny_model.predict(path)


def test_a_damaged_open_image_is_a_data_error(tmp_path: Path, tiny_model: TorchClassifier) -> None:
    path = write_photos(tmp_path, 1) / "red" / "red-000.png"
    path.write_bytes(path.read_bytes()[:-400])
    with Image.open(path) as image, pytest.raises(DataError, match="damaged PNG"):
        tiny_model.predict(image)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path, tiny_model: TorchClassifier) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match=r"pipe\.jpg: not a regular file"):
        tiny_model.predict(tmp_path / "pipe.jpg")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (5, "an image is an int; expected a path, a Pillow image, an array or the bytes of a file"),
        (np.zeros((0, 5, 3), dtype=np.uint8), r"shape \(0, 5, 3\)"),
        ("a\0b", "the path holds a null character"),
    ],
)
def test_what_is_no_image_is_refused(tiny_model: TorchClassifier, image: Any, message: str) -> None:
    with pytest.raises((ConfigurationError, DataError), match=message):
        tiny_model.predict([image])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": "3"}, "num_classes is '3'; expected a whole number"),
        ({"num_classes": 2.0}, "num_classes is 2.0; expected a whole number"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": "a"}, "seed is 'a'"),
        ({"name_or_spec": None}, "unknown model 'None'"),
    ],
)
def test_create_refuses_wrong_types(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        create(**{"name_or_spec": "resnet20", **arguments})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a", "b"), "there are 2 label names for a classifier of 3 rows"),
        (("a", "b", "a"), "label name 'a' occurs twice"),
        ((1, 2, 3), r"the label names are \(1, 2, 3\); expected strings"),
    ],
)
def test_label_names_must_fit(names: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TorchClassifier(create(TINY), names, SMALL_INPUT)


def test_channels_must_fit() -> None:
    with pytest.raises(
        ConfigurationError, match="preprocessing to rgb gives 3 channels and the network reads 1"
    ):
        TorchClassifier(create(TINY, in_channels=1), ("a", "b", "c"), SMALL_INPUT)
