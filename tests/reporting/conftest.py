"""A finished run whose names are hostile, for all tests of reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepresidual.training.launch import train
from tests.conftest import write_photos

HOSTILE = "<script>alert(1)<"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that no test changes; a class of its data is called like a script."""
    root = tmp_path_factory.mktemp("report")
    photos = root / "photos"
    write_photos(photos / "train", 6)
    write_photos(photos / "test", 4)
    for part in ("train", "test"):
        (photos / part / "red").rename(photos / part / HOSTILE)
    train(
        photos,
        "resnet20",
        root / "run",
        changes={"epochs": 2.0, "batch_size": 6},
        image_px=8,
        num_workers=0,
        precision="fp32",
    )
    return root / "run"
