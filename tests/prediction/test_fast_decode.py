"""Fast decoding: how far it moves views of photos, where it changes nothing, and that it is recorded."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deepresidual.backends.images import FAST_DECODE_MARGIN, ImageFile, center_view, fast_center_view
from deepresidual.cli import main
from deepresidual.data.decode import OpenImage, decode
from deepresidual.errors import DataError
from deepresidual.models import TorchClassifier, save
from deepresidual.preprocess import Channels, Preprocess
from tests.data.pictures import encode

Capture = pytest.CaptureFixture[str]
DATA = Path(__file__).parents[3] / "shared" / "data"

RECORD = Preprocess(112, 128, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def exact(content: bytes, record: Preprocess) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return record.center_view(record.to_channels(decode(content)))


def scene(height: int, width: int) -> Image.Image:
    """Return a picture with edges and fine grain, as photos have."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (height // 40 + 1, width // 40 + 1, 3)).astype(np.uint8)
    shapes = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((shapes + generator.integers(-12, 13, shapes.shape)).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("side_px", [16, 32, 60])
@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("channels", ["rgb", "bgr", "gray"])
def test_views_of_large_photos_move_by_a_few_levels(
    side_px: int, orientation: int, channels: Channels
) -> None:
    means = (0.5,) if channels == "gray" else (0.5,) * 3
    record = Preprocess(side_px, side_px + 4, means, means, channels=channels)
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(scene(611, 803), "JPEG", exif=exif)
    view = fast_center_view(content, record)
    assert view.shape == (side_px, side_px, len(means))
    moved = np.abs(view.astype(int) - exact(content, record))
    assert 0 < moved.mean() < 1.5
    assert moved.max() < 30


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_other_formats_are_unchanged(kind: str) -> None:
    content = encode(scene(500, 600), kind)
    np.testing.assert_array_equal(fast_center_view(content, RECORD), exact(content, RECORD))


def test_photos_that_are_hardly_larger_than_the_view_are_unchanged() -> None:
    side = FAST_DECODE_MARGIN * 2 * 128
    content = encode(scene(side - 1, side), "JPEG")
    np.testing.assert_array_equal(fast_center_view(content, RECORD), exact(content, RECORD))
    larger = encode(scene(side, side), "JPEG")
    assert not np.array_equal(fast_center_view(larger, RECORD), exact(larger, RECORD))


def test_the_part_keeps_twice_the_side_of_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    original = OpenImage.decode_part

    def noted(self: OpenImage, box: tuple[float, float, float, float], side_px: int) -> object:
        pixels, part = original(self, box, side_px)
        seen.append(min(part[2] - part[0], part[3] - part[1]))
        return pixels, part

    monkeypatch.setattr(OpenImage, "decode_part", noted)
    for height in range(224, 1500, 399):
        fast_center_view(encode(scene(height, height + 50), "JPEG"), RECORD)
    assert min(seen[2:]) >= FAST_DECODE_MARGIN * 112
    assert max(seen) < 2 * FAST_DECODE_MARGIN * 112


def test_damage_is_found_all_the_same() -> None:
    content = encode(scene(600, 800), "JPEG")
    with pytest.raises(DataError, match="a part of the image data is missing"):
        fast_center_view(content[: len(content) // 2], RECORD)


def test_a_file_says_how_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encode(scene(600, 800), "JPEG"))
    content = path.read_bytes()
    np.testing.assert_array_equal(
        center_view(ImageFile(str(path), fast_decode=True), RECORD), fast_center_view(content, RECORD)
    )
    np.testing.assert_array_equal(center_view(ImageFile(str(path)), RECORD), exact(content, RECORD))


def test_it_is_recorded_with_the_rows(
    tmp_path: Path, tiny_model: TorchClassifier, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tiny_model, "model")
    Path("photos").mkdir()
    for number in range(3):
        scene(200 + number, 300).save(f"photos/{number}.jpg", quality=90)
    documents = []
    for options in ([], ["--fast-decode"]):
        assert main(["predict", "model", "photos", "--json", *options]) == 0
        documents.append(json.loads(capsys.readouterr().out))
    assert [document["fast_decode"] for document in documents] == [False, True]
    assert documents[0]["results"] != documents[1]["results"]
    assert main(["predict", "model", "photos", "--fast-decode", "--out", "parts"]) == 0
    manifest = json.loads(Path("parts/_manifest/manifest.json").read_text())
    assert manifest["fingerprint"]["fast_decode"] is True
    assert main(["predict", "model", "photos", "--out", "parts"]) == 2
    assert "parts was begun with something else: fast_decode was True and is False" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert main(["predict", "model", "-", "--fast-decode"]) == 2
    assert "- is given with --fast-decode; expected files" in capsys.readouterr().err


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real photos at {DATA}")
def test_views_of_real_photos_move_by_half_a_level() -> None:
    # A hard case: 32 px of photos of 500, with the finest of details.
    record = Preprocess(32, 32, (0.5,) * 3, (0.25,) * 3)
    moved = [
        np.abs(fast_center_view(content, record).astype(int) - exact(content, record))
        for content in (path.read_bytes() for path in sorted((DATA / "imagenet-samples").glob("*.JPEG"))[::5])
    ]
    means = [levels.mean() for levels in moved]
    assert 0.2 < np.mean(means) < 0.8  # measured 0.51 on all 250
    assert max(means) < 2
    assert max(int(levels.max()) for levels in moved) < 48
