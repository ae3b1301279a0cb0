"""The benchmark of data: it compares like with like, and names what is missing. Speeds are not tested."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from residual.benchmarks import data as benchmark
from residual.benchmarks.comparison import Comparison, Missing
from residual.benchmarks.data import measure_data
from residual.errors import ConfigurationError, DataError, RunError
from residual.preprocess import Preprocess
from tests.data.pictures import encode


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of images whose mean does not depend on the part that is shown."""
    for number in range(20):
        flat = np.full((40 + number, 60, 3), (200, 100, 12 * number), dtype=np.uint8)
        (tmp_path / f"{number}.jpg").write_bytes(encode(flat, "JPEG"))
    return tmp_path


def test_every_peer_has_a_row(photos: Path) -> None:
    pytest.importorskip("torchvision")
    pytest.importorskip("timm")
    before = torch.get_num_threads(), torch.get_rng_state()
    rows = measure_data(photos, repetitions=5, num_workers=1, image_px=32, least_images=96)
    assert [row.name for row in rows] == [
        "decode and crop, one thread, against torchvision with Pillow",
        "decode and crop, one thread, against torchvision on tensors",
        "loader, 1 workers, against torchvision's ImageFolder and torch's DataLoader",
        "loader, 1 workers, against timm's create_loader",
    ]
    for row in rows:
        assert isinstance(row, Comparison)
        assert row.repetitions == 5
        assert 0 < row.lowest <= row.ratio <= row.highest
        assert min(row.ours, row.theirs) > 0
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_peers_that_are_not_installed_are_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("torchvision", "timm") else found(name)
    )
    rows = measure_data(photos, image_px=32, least_images=64)
    assert [row.reason for row in rows if isinstance(row, Missing)] == [
        "torchvision is not installed",
        "torchvision is not installed",
        "torchvision is not installed",
        "timm is not installed",
    ]


def test_an_image_that_a_peer_cannot_read_is_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")
    (photos / "windows.bmp").write_bytes(encode(np.zeros((40, 60, 3), dtype=np.uint8), "BMP"))
    monkeypatch.setattr(benchmark, "_loaders", lambda *_: [])
    rows = measure_data(photos, image_px=32)
    assert isinstance(rows[0], Comparison)
    assert isinstance(rows[1], Missing)
    assert rows[1].reason.startswith("torchvision cannot decode one of the images (")


def test_sides_that_disagree_are_not_compared(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")

    def other(crop_px: int, resize_px: int, mean: tuple[float, ...], _std: tuple[float, ...]) -> Preprocess:
        return Preprocess(crop_px, resize_px, mean, (0.5,) * 3)

    monkeypatch.setattr(benchmark, "Preprocess", other)
    with pytest.raises(
        RunError, match=r"^decode and crop.* do not make the same of the images; expected the s"
    ):
        measure_data(photos, image_px=32)


def test_unusable_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no images; expected JPEG, PNG, WebP or BMP files$"):
        measure_data(tmp_path)
    with pytest.raises(DataError, match=r"is no folder; expected a folder with images$"):
        measure_data(tmp_path / "missing")


def test_too_few_repetitions_are_refused(photos: Path) -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(ConfigurationError, match=r"^repetitions is 1; expected 5 or more$"):
        measure_data(photos, repetitions=1, image_px=32)
