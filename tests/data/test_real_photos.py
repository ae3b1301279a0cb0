"""Real photos, where they lie beside the project: nothing crashes, nothing is a false alarm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from deepresidual.data.augment import apply, choose
from deepresidual.data.decode import decode
from deepresidual.data.loader import training_view
from deepresidual.data.source import open_source
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Augment
from deepresidual.runtime.random import SampleRandom

DATA = Path(__file__).parents[3] / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real photos at {DATA}")


@pytest.mark.parametrize(
    ("folder", "count"),
    [("imagenet-samples", 250), pytest.param("hymenoptera", 397, marks=pytest.mark.test_all)],
)
def test_every_photo_decodes_to_the_pixels_of_pillow(folder: str, count: int) -> None:
    files = [
        path for path in sorted((DATA / folder).rglob("*")) if path.suffix.casefold() in (".jpg", ".jpeg")
    ]
    assert len(files) == count
    for path in files:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            assert np.array_equal(decode(path.read_bytes()), np.asarray(upright)), path.name


def test_training_views_of_photos_are_close_to_those_of_evaluation() -> None:
    record = Preprocess(112, 128, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    augment = Augment("random-resized", flip=True)
    moved = []
    for index, path in enumerate(sorted((DATA / "hymenoptera" / "val").rglob("*.jpg"))):
        content = path.read_bytes()
        pixels = decode(content)
        height, width = pixels.shape[:2]
        choice = choose(augment, SampleRandom(0, 0, index), height, width, record, 112)
        exact = apply(pixels, replace(choice, exact=True), record, 112)
        view = training_view(content, augment, SampleRandom(0, 0, index), record, 112)
        moved.append(np.abs(view.astype(int) - exact).mean())
    # Most of these are decoded smaller.
    assert np.mean(moved) < 3
    assert np.percentile(moved, 95) < 8
    assert max(moved) < 18  # a meadow, all of it as fine as the pixels


def test_the_gif_among_the_ants_is_read() -> None:
    source = open_source(DATA / "hymenoptera")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 245, "val": 153}
    assert source.ignored == ()
    keys = [source.split("train").key(index) for index in range(245)]
    sample = source.split("train").read(keys.index("train/ants/imageNotFound.gif"))
    assert decode(sample.content).shape == (300, 300, 3)


def test_cifar_as_parquet_has_its_classes_and_sizes() -> None:
    source = open_source(DATA / "cifar10-jpeg")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 50_000, "test": 10_000}
    assert source.classes[:2] == ("airplane", "automobile")
    counts = np.bincount(source.split("test").labels)
    assert counts.tolist() == [1000] * 10
    assert decode(source.split("train").read(49_999).content).shape == (32, 32, 3)
