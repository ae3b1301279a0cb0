"""Real photos, where they lie beside the project: nothing crashes, nothing is a false alarm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from residual.data.decode import decode
from residual.data.source import open_source

DATA = Path(__file__).parents[3] / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real photos at {DATA}")


@pytest.mark.parametrize(("folder", "count"), [("imagenet-samples", 250), ("hymenoptera", 397)])
def test_every_photo_decodes_to_the_pixels_of_pillow(folder: str, count: int) -> None:
    files = [
        path for path in sorted((DATA / folder).rglob("*")) if path.suffix.casefold() in (".jpg", ".jpeg")
    ]
    assert len(files) == count
    for path in files:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            assert np.array_equal(decode(path.read_bytes()), np.asarray(upright)), path.name


def test_the_gif_among_the_ants_is_named() -> None:
    source = open_source(DATA / "hymenoptera")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 244, "val": 153}
    assert [str(file) for file in source.ignored] == [
        "train/ants/imageNotFound.gif is not used: GIF; only JPEG, PNG, WebP and BMP are used"
    ]


def test_cifar_as_parquet_has_its_classes_and_sizes() -> None:
    source = open_source(DATA / "cifar10-jpeg")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 50_000, "test": 10_000}
    assert source.classes[:2] == ("airplane", "automobile")
    counts = np.bincount(source.split("test").labels)
    assert counts.tolist() == [1000] * 10
    assert decode(source.split("train").read(49_999).content).shape == (32, 32, 3)
