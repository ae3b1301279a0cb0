"""Images of everything that holds several: arrays, tensors, bytes, data sets of PyTorch and Hugging Face."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import TensorDataset
from torchvision.datasets import ImageFolder

from deepresidual.backends.pytorch import TorchClassifier
from deepresidual.data.source import open_source
from deepresidual.errors import ConfigurationError, DataError


@pytest.fixture(scope="module")
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (5, 12, 9, 3), dtype=np.uint8)


def as_hugging_face(pixels: NDArray[np.uint8]) -> datasets.Dataset:
    images = {"image": [Image.fromarray(image) for image in pixels]}
    return datasets.Dataset.from_dict(images, features=datasets.Features({"image": datasets.Image()}))


def as_tensors(pixels: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())


FORMS: dict[str, Callable[[NDArray[np.uint8]], Any]] = {
    "one array": lambda pixels: pixels,
    "pairs": lambda pixels: [(image, 3) for image in pixels],
    "tensors": lambda pixels: list(as_tensors(pixels)),
    "one tensor": as_tensors,
    "a data set of tensors": lambda pixels: TensorDataset(as_tensors(pixels), torch.zeros(len(pixels))),
    "rows without labels": as_hugging_face,
    "mappings": lambda pixels: ({"img": image, "label": 0} for image in pixels),
}


@pytest.mark.parametrize("form", FORMS)
def test_images_are_predicted_in_any_form(
    form: str, pixels: NDArray[np.uint8], tiny_model: TorchClassifier
) -> None:
    expected = tiny_model.predict([Image.fromarray(image) for image in pixels], top_k=3)
    assert tiny_model.predict(FORMS[form](pixels), top_k=3) == expected


def test_splits_folders_and_bytes_are_predicted_as_their_files(
    photos: Path, tiny_model: TorchClassifier
) -> None:
    split = open_source(photos).split("test")
    files = [photos / split.key(index) for index in range(len(split))]
    expected = tiny_model.predict(files)
    assert tiny_model.predict(split) == expected  # type: ignore[arg-type]  # a split is no iterable
    assert tiny_model.predict(file.read_bytes() for file in files) == expected
    assert tiny_model.predict(files[0].read_bytes())[0].classes == expected[0].classes
    folder: Any = ImageFolder(str(photos / "test"))
    assert len(tiny_model.predict(folder)) == len(files)


def test_what_is_no_image_is_named(pixels: NDArray[np.uint8], tiny_model: TorchClassifier) -> None:
    with pytest.raises(ConfigurationError, match=r"has no image \(photo, label\); expected one called image"):
        tiny_model.predict([{"photo": pixels[0], "label": 1}])  # type: ignore[list-item]
    with pytest.raises(ConfigurationError, match="an image is an int; expected a path"):
        tiny_model.predict(5)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"its image is a tensor of float32, shape \(3, 8, 8\).*transforms"):
        tiny_model.predict([(torch.zeros(3, 8, 8), 1)])  # type: ignore[list-item]


def test_what_takes_folders_and_archives_is_named(
    photos: Path, tiny_model: TorchClassifier, tmp_path: Path
) -> None:
    with pytest.raises(
        DataError, match=r"it is a folder; expected an image file; .*find_images.*residual pr"
    ):
        tiny_model.predict(photos)
    packed = Path(shutil.make_archive(str(tmp_path / "few"), "zip", photos))
    with pytest.raises(DataError, match=r"few\.zip: it holds files, and is no image; .*find_images"):
        tiny_model.predict(packed)
    packed = Path(shutil.make_archive(str(tmp_path / "few"), "gztar", photos))
    with pytest.raises(DataError, match=r"few\.tar\.gz: compressed tars are not read; unpack it, or make"):
        tiny_model.predict(packed)
