"""The benchmark of data: it compares like with like, and names what is missing. Speeds are not tested."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.data import ROWS, benchmark_data
from deepresidual.benchmarks import data as alone
from deepresidual.errors import ConfigurationError, DataError, RunError
from deepresidual.preprocess import Preprocess
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
    result = benchmark_data(photos, repetitions=1, num_workers=1, image_px=32, least_images=96)
    assert [row.name for row in result.rows] == list(ROWS)
    for row in result.rows:
        assert row.ratio is not None
        assert row.ratio.count == 1
        assert 0 < row.ratio.lowest <= row.ratio.median <= row.ratio.highest
        assert min(row.ours or 0, row.theirs or 0) > 0
    assert result.versions["timm"] is not None
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])


def test_peers_that_are_not_installed_are_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("torchvision", "timm") else found(name)
    )
    rows = benchmark_data(photos, image_px=32, least_images=64).rows
    assert [row.reason for row in rows] == [
        "unmeasured: torchvision is not installed",
        "unmeasured: torchvision is not installed",
        "unmeasured: torchvision is not installed",
        "unmeasured: timm is not installed",
    ]


def test_an_image_that_a_peer_cannot_read_is_named(photos: Path) -> None:
    pytest.importorskip("torchvision")
    (photos / "windows.bmp").write_bytes(encode(np.zeros((40, 60, 3), dtype=np.uint8), "BMP"))
    rows = benchmark_data(photos, rows=["decode", "decode-tensors"], image_px=32).rows
    assert rows[0].ratio is not None
    assert rows[1].ratio is None
    assert rows[1].reason.startswith("unmeasured: torchvision cannot decode one of the images (")


def test_sides_that_disagree_are_not_compared(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")

    def other(crop_px: int, resize_px: int, mean: tuple[float, ...], _std: tuple[float, ...]) -> Preprocess:
        return Preprocess(crop_px, resize_px, mean, (0.5,) * 3)

    monkeypatch.setattr(alone, "Preprocess", other)
    with pytest.raises(
        RunError, match=r"^decode: the sides do not make the same of the images; expected the same"
    ):
        benchmark_data(photos, image_px=32)


def test_unusable_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"has no images; expected JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC files$"
    ):
        benchmark_data(tmp_path)
    with pytest.raises(DataError, match=r"is no folder; expected a folder with images$"):
        benchmark_data(tmp_path / "missing")


def test_rows_and_repetitions_that_there_are_not_are_refused(photos: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^repetitions is 0; expected 1 to 1,000$"):
        benchmark_data(photos, repetitions=0)
    with pytest.raises(ConfigurationError, match=r"^unknown row 'loder' .nearest: loader"):
        benchmark_data(photos, rows=["loder"])


def test_a_row_can_be_measured_alone(photos: Path) -> None:
    pytest.importorskip("torchvision")
    rows = benchmark_data(photos, rows=["decode"], repetitions=1, image_px=32).rows
    assert [row.name for row in rows] == ["decode"]
