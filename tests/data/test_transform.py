"""``ImageTransform``: the images of evaluation and of training, for loops of one's own."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepresidual.backends.pytorch import TorchClassifier
from deepresidual.data.source import open_source
from deepresidual.data.transform import ImageTransform
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Augment

SEEN = Preprocess(crop_px=8, resize_px=10, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 14, 3), dtype=np.uint8))


def test_without_augmentation_it_is_what_prediction_sees(tiny_model: TorchClassifier, photos: Path) -> None:
    transform = ImageTransform(tiny_model.preprocess)
    split = open_source(photos).split("test")
    files = [photos / split.key(index) for index in range(3)]
    for file in files:
        with Image.open(file) as image, torch.inference_mode():
            logits = tiny_model.network.eval()(transform(image)[None])
        probabilities = tiny_model.predict(file, top_k=3)[0].probabilities
        assert logits.softmax(dim=1)[0].sort(descending=True).values.tolist() == pytest.approx(probabilities)
        assert torch.equal(transform(file), transform(file.read_bytes()))


def test_with_one_it_follows_the_random_state_of_torch() -> None:
    transform = pickle.loads(  # noqa: S301  # as workers of a loader get it
        pickle.dumps(ImageTransform(SEEN, Augment(crop="random-resized", flip=True, color_jitter=0.4)))
    )
    torch.manual_seed(0)
    first, second = transform(photo()), transform(photo())
    torch.manual_seed(0)
    assert torch.equal(transform(photo()), first)
    assert not torch.equal(first, second)
    assert (first.shape, first.dtype) == ((3, 8, 8), torch.float32)


def test_gray_networks_get_one_channel() -> None:
    gray = Preprocess(crop_px=8, resize_px=8, mean=(0.5,), std=(0.2,), channels="gray")
    assert ImageTransform(gray)(photo()).shape == (1, 8, 8)
    assert ImageTransform(gray, Augment(crop="pad", flip=True))(photo()).shape == (1, 8, 8)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="min_side_px"):
        ImageTransform(SEEN, Augment(crop="scale-jitter", min_side_px=4, max_side_px=6))
    with pytest.raises(DataError, match="its image is a NoneType"):
        ImageTransform(SEEN)(None)
