"""The preprocessing record: pixels against plain Pillow and the formula, JSON there and back, every error."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deepresidual.errors import ConfigurationError
from deepresidual.models import load, save
from deepresidual.models.network import create
from deepresidual.preprocess import Channels, Interpolation, MeanImage, Preprocess
from deepresidual.spec import ResNetSpec
from tests.conftest import examples
from tests.data.pictures import noise, waves
from tests.golden.resized import differing

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FILTERS: tuple[Interpolation, ...] = ("nearest", "bilinear", "bicubic", "lanczos")
_SMOOTH_FILTERS = _FILTERS[1:]


def _record(
    crop_px: int = 28,
    resize_px: int = 32,
    interpolation: Interpolation = "bilinear",
    channels: Channels = "rgb",
) -> Preprocess:
    if channels == "gray":
        return Preprocess(crop_px, resize_px, (0.5,), (0.25,), interpolation, channels)
    return Preprocess(crop_px, resize_px, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), interpolation, channels)


def _resize_then_crop(pixels: NDArray[np.uint8], record: Preprocess) -> NDArray[np.uint8]:
    """Return the reference: resize the shorter side, then cut whole pixels around the center."""
    height, width = pixels.shape[:2]
    scale = record.resize_px / min(height, width)
    size = (round(width * scale), round(height * scale))
    resized = Image.fromarray(pixels).resize(size, Image.Resampling[record.interpolation.upper()])
    left, top = (size[0] - record.crop_px) // 2, (size[1] - record.crop_px) // 2
    return np.asarray(resized.crop((left, top, left + record.crop_px, top + record.crop_px)))


# -- the central view ------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", _SMOOTH_FILTERS)
@pytest.mark.parametrize(
    ("height", "width"), [(64, 64), (60, 60), (200, 300), (300, 200), (32, 48), (16, 20), (128, 384)]
)
def test_the_view_is_that_of_resize_then_crop(height: int, width: int, interpolation: Interpolation) -> None:
    # Both sides come out whole and the margins even, so the two ways sample the same places; one level is
    # what rounding the weights of a shorter row can change.
    record = _record(interpolation=interpolation)
    for pixels in (noise(height, width), waves(height, width)):
        view = record.center_view(pixels)
        assert view.shape == (28, 28, 3)
        assert view.dtype == np.uint8
        np.testing.assert_allclose(view, _resize_then_crop(pixels, record).astype(float), atol=1)


@settings(max_examples=examples(60))
@given(
    height=st.integers(40, 300),
    width=st.integers(40, 300),
    crop_px=st.integers(8, 32),
    interpolation=st.sampled_from(_SMOOTH_FILTERS),
)
def test_at_any_size_the_view_lies_within_a_pixel_of_resize_then_crop(
    height: int, width: int, crop_px: int, interpolation: Interpolation
) -> None:
    # The reference rounds the longer side (less than 1/4 px over half a crop) and cuts at whole pixels
    # (1/2 px); ours does neither. A ramp shows a shift as a difference in level.
    record = _record(crop_px, 32, interpolation)
    y, x = np.mgrid[0:height, 0:width]
    slope = 32 / min(height, width)  # a level for each pixel of the result
    pixels = np.stack([x * slope, y * slope, (x + y) * slope / 2], axis=-1).clip(0, 255).astype(np.uint8)
    difference = record.center_view(pixels).astype(int) - _resize_then_crop(pixels, record)
    inside = np.s_[2:-2, 2:-2]  # filters lean on the edge of the image at a crop's edge
    assert np.abs(difference[inside]).max() <= 2


def test_an_image_of_the_right_size_is_cut_and_not_filtered() -> None:
    pixels = noise(32, 32)
    np.testing.assert_array_equal(_record(28).center_view(pixels), pixels[2:30, 2:30])
    np.testing.assert_array_equal(_record(27).center_view(pixels), pixels[2:29, 2:29])
    np.testing.assert_array_equal(_record(32).center_view(pixels), pixels)


@pytest.mark.parametrize("width", [32, 33, 40, 45])
@pytest.mark.parametrize("crop_px", [27, 28])
def test_an_image_whose_shorter_side_is_right_is_cut_and_not_filtered(width: int, crop_px: int) -> None:
    record = _record(crop_px)
    pixels = noise(32, width)
    np.testing.assert_array_equal(record.center_view(pixels), _resize_then_crop(pixels, record))
    standing = np.ascontiguousarray(pixels.swapaxes(0, 1))
    np.testing.assert_array_equal(record.center_view(standing), _resize_then_crop(standing, record))


def test_nearest_keeps_the_values_of_pixels() -> None:
    pixels = (noise(90, 70) // 85) * 85
    assert set(np.unique(_record(interpolation="nearest").center_view(pixels))) <= {0, 85, 170, 255}


@settings(max_examples=examples(60))
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)) | st.sampled_from([(1, 5_000), (5_000, 1)]),
    interpolation=st.sampled_from(_FILTERS),
    channels=st.sampled_from(["rgb", "bgr", "gray"]),
)
def test_an_image_of_any_size_gives_a_view_of_the_right_shape(
    size: tuple[int, int], interpolation: Interpolation, channels: Channels
) -> None:
    record = _record(interpolation=interpolation, channels=channels)
    view = record.center_view(record.to_channels(np.full((*size, 3), 77, dtype=np.uint8)))
    assert view.shape == (28, 28, record.num_channels)
    assert view.dtype == np.uint8
    assert (view == 77).all()


# -- the order of the passes -----------------------------------------------------------------------------


def test_resized_pixels_are_those_that_are_stored_for_every_version_of_pillow() -> None:
    assert differing() == []


def _width_then_height(
    pixels: NDArray[np.uint8], box: tuple[float, float, float, float], width: int, height: int, name: str
) -> NDArray[np.uint8]:
    """Return the reference: all rows are resized to the width, and all columns of that to the height."""
    resampling, rows = Image.Resampling[name.upper()], len(pixels)
    image = Image.fromarray(pixels)
    image = image.resize((width, rows), resampling, (box[0], 0, box[2], rows))
    return np.asarray(image.resize((width, height), resampling, (0, box[1], width, box[3])))


_EDGES = st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted).filter(lambda e: e[1] - e[0] > 0.01)


@settings(max_examples=300, deadline=None)
@given(
    size=st.tuples(st.integers(1, 120), st.integers(1, 120)) | st.sampled_from([(900, 5), (5, 900)]),
    across=_EDGES | st.just([0.0, 1.0]),
    down=_EDGES | st.just([0.0, 1.0]),
    view=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    interpolation=st.sampled_from(_SMOOTH_FILTERS),
)
def test_the_width_is_resized_before_the_height(
    size: tuple[int, int],
    across: list[float],
    down: list[float],
    view: tuple[int, int],
    interpolation: Interpolation,
) -> None:
    height, width = size
    pixels = noise(height, width)
    box = (across[0] * width, down[0] * height, across[1] * width, down[1] * height)
    np.testing.assert_array_equal(
        _record(interpolation=interpolation).resize(pixels, box, *view),
        _width_then_height(pixels, box, *view, interpolation),
    )


def test_rows_outside_the_part_are_not_resized(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    plain = Image.fromarray

    def noted(pixels: NDArray[np.uint8]) -> Image.Image:
        seen.append(pixels.shape)
        return plain(pixels)

    monkeypatch.setattr(Image, "fromarray", noted)
    # Of 1,000 rows resized to 400, the middle 28 and the 2.5 that the filter reaches beyond them
    _record(28, 32).center_view(noise(1_000, 80))
    assert seen == [(74, 80, 3)]


# -- channels --------------------------------------------------------------------------------------------


def test_rgb_keeps_the_order_and_bgr_reverses_it() -> None:
    pixels = noise(3, 4)
    np.testing.assert_array_equal(_record(channels="rgb").to_channels(pixels), pixels)
    np.testing.assert_array_equal(_record(channels="bgr").to_channels(pixels), pixels[:, :, [2, 1, 0]])


def test_gray_is_the_luma_of_itu_r_601() -> None:
    pixels = noise(40, 50)
    red, green, blue = (pixels[:, :, channel].astype(int) for channel in range(3))
    # 0.299, 0.587 and 0.114 in sixteenths of a bit, as Pillow has them
    luma = (19_595 * red + 38_470 * green + 7_471 * blue + 2**15) >> 16
    gray = _record(channels="gray").to_channels(pixels)
    assert gray.shape == (40, 50, 1)
    np.testing.assert_array_equal(gray[:, :, 0], luma)


def test_a_gray_image_keeps_its_levels_exactly() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    gray = _record(channels="gray").to_channels(np.stack([levels] * 3, axis=-1))
    np.testing.assert_array_equal(gray[:, :, 0], levels)


def test_gray_has_one_channel_and_colour_three() -> None:
    assert _record(channels="gray").num_channels == 1
    assert _record(channels="rgb").num_channels == 3
    assert _record(channels="bgr").num_channels == 3


# -- normalization ---------------------------------------------------------------------------------------


def test_normalize_is_the_formula() -> None:
    record = _record()
    pixels = torch.from_numpy(np.stack([noise(28, 28, seed=seed) for seed in range(4)]))
    expected = (pixels.double() / 255 - torch.tensor(record.mean).double()) / torch.tensor(
        record.std
    ).double()
    normalized = record.normalize(pixels)
    assert normalized.dtype == torch.float32
    torch.testing.assert_close(normalized.double(), expected.permute(0, 3, 1, 2), rtol=1e-5, atol=1e-6)


def test_normalize_gives_channels_last_memory_and_leaves_the_pixels_alone() -> None:
    pixels = torch.from_numpy(np.stack([noise(28, 28, seed=seed) for seed in range(4)]))
    before = pixels.clone()
    normalized = _record().normalize(pixels)
    assert normalized.shape == (4, 3, 28, 28)
    assert normalized.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(pixels, before)


def test_normalize_of_gray_gives_one_channel() -> None:
    pixels = torch.from_numpy(noise(28, 28, 1)[None])
    normalized = _record(channels="gray").normalize(pixels)
    assert normalized.shape == (1, 1, 28, 28)
    torch.testing.assert_close(normalized[0, 0], (pixels[0, :, :, 0] / 255 - 0.5) / 0.25)


# -- the size of the input -------------------------------------------------------------------------------


def test_another_size_keeps_the_ratio_of_resize_to_crop() -> None:
    record = _record(224, 256)
    assert record.at_size(112) == _record(112, 128)
    assert record.at_size(224) == record
    assert _record(32, 32).at_size(1) == _record(1, 1)


@pytest.mark.parametrize("crop_px", [0, -1, 16_385])
def test_another_size_must_be_possible(crop_px: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"^the image size is {crop_px} px; expected 1 to 16384$"):
        _record().at_size(crop_px)


# -- JSON ------------------------------------------------------------------------------------------------


def test_the_record_as_json_is_this() -> None:
    assert _record(224, 256, "bicubic", "bgr").to_dict() == {
        "crop_px": 224,
        "resize_px": 256,
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.25, 0.3],
        "interpolation": "bicubic",
        "channels": "bgr",
    }


@given(
    crop_px=st.integers(1, 512),
    margin=st.integers(0, 512),
    interpolation=st.sampled_from(_FILTERS),
    channels=st.sampled_from(["rgb", "bgr", "gray"]),
    mean=st.tuples(*[st.floats(-10, 10)] * 3),
    std=st.tuples(*[st.floats(1e-6, 10)] * 3),
)
def test_json_gives_back_the_same_record(
    crop_px: int,
    margin: int,
    interpolation: Interpolation,
    channels: Channels,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> None:
    count = 1 if channels == "gray" else 3
    record = Preprocess(crop_px, crop_px + margin, mean[:count], std[:count], interpolation, channels)
    assert Preprocess.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_whole_numbers_are_read_as_mean_and_std() -> None:
    record = Preprocess.from_dict({**_record().to_dict(), "mean": [0, 0, 0], "std": [1, 1, 1]})
    assert record.mean == (0.0, 0.0, 0.0)
    assert record.std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop_px": 0}, r"^crop_px is 0 and resize_px is 32; expected 1 ≤ crop_px ≤ resize_px ≤ 16384$"),
        ({"crop_px": 33}, r"^crop_px is 33 and resize_px is 32; expected"),
        ({"resize_px": 16_385}, r"^crop_px is 28 and resize_px is 16385; expected"),
        ({"crop_px": 28.0}, r"^crop_px is 28\.0; expected a whole number$"),
        ({"crop_px": True}, r"^crop_px is True; expected a whole number$"),
        ({"resize_px": "32"}, r"^resize_px is '32'; expected a whole number$"),
        ({"resize_px": None}, r"^resize_px is None; expected a whole number$"),
        ({"mean": [0.5]}, r"^mean is \[0\.5\]; expected 3 finite numbers, one a channel$"),
        ({"mean": [0.5, 0.5, float("nan")]}, r"^mean is \[0\.5, 0\.5, nan\]; expected 3 finite numbers"),
        ({"mean": [10**400, 0, 0]}, r"^mean is .*; expected "),
        ({"mean": "0.5"}, r"^mean is '0\.5'; expected a list of numbers$"),
        ({"mean": [0.5, 0.5, "0.5"]}, r"^mean is \[0\.5, 0\.5, '0\.5'\]; expected a list of numbers$"),
        ({"mean": None}, r"^mean is None; expected a list of numbers$"),
        ({"std": [1, 1, 1, 1]}, r"^std is \[1\.0, 1\.0, 1\.0, 1\.0\]; expected 3 finite numbers"),
        ({"std": [1, 1, float("inf")]}, r"^std is \[1\.0, 1\.0, inf\]; expected 3 finite numbers"),
        ({"std": [1, 1, 0]}, r"^std is \[1\.0, 1\.0, 0\.0\]; expected numbers above 0$"),
        ({"std": [1, -1, 1]}, r"^std is \[1\.0, -1\.0, 1\.0\]; expected numbers above 0$"),
        ({"std": [True, 1, 1]}, r"^std is \[True, 1, 1\]; expected a list of numbers$"),
        ({"channels": "gray"}, r"^mean is \[0\.4, 0\.5, 0\.6\]; expected 1 finite numbers, one a channel$"),
        ({"channels": "cmyk"}, r"^channels is 'cmyk'; expected one of rgb, bgr, gray$"),
        (
            {"interpolation": "box"},
            r"^interpolation is 'box'; expected one of nearest, bilinear, bicubic, la",
        ),
        ({"interpolation": []}, r"^interpolation is \[\]; expected one of nearest"),
        ({"crop": 28}, r"^unknown field 'crop' in preprocess; expected crop_px$"),
        ({"colour": "x" * 3}, r"^unknown field 'colour' in preprocess; expected "),
    ],
)
def test_a_wrong_field_is_named_with_what_is_allowed(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Preprocess.from_dict({**_record().to_dict(), **change})


@pytest.mark.parametrize("field", ["crop_px", "resize_px", "mean", "std", "interpolation", "channels"])
def test_a_missing_field_is_named(field: str) -> None:
    fields = _record().to_dict()
    del fields[field]
    with pytest.raises(ConfigurationError, match=rf"^preprocess has no field '{field}'$"):
        Preprocess.from_dict(fields)


# -- the mean image --------------------------------------------------------------------------------------


def _pixels(side_px: int = 28, channels: int = 3, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(0.2, 0.8, (side_px, side_px, channels)).astype(np.float32)


def _with_image(channels: Channels = "bgr") -> Preprocess:
    image = MeanImage.from_array(_pixels(channels=1 if channels == "gray" else 3))
    record = _record(channels=channels)
    return dataclasses.replace(record, mean=image.average(), mean_image=image)


def test_a_mean_image_is_its_array() -> None:
    pixels = _pixels(5)
    image = MeanImage.from_array(pixels)
    assert (image.side_px, image.channels, len(image.values)) == (5, 3, 5 * 5 * 3 * 4)
    assert image.to_array().dtype == np.float32
    np.testing.assert_array_equal(image.to_array(), pixels)
    np.testing.assert_allclose(image.average(), pixels.astype(float).mean((0, 1)), rtol=1e-12)
    assert image == MeanImage.from_array(pixels.astype(float))
    assert hash(image) == hash(MeanImage.from_array(pixels.astype(">f4")))
    assert image != MeanImage.from_array(_pixels(5, seed=1))
    assert repr(image) == "MeanImage(side_px=5, channels=3)"
    assert image.values[:4] == np.float32(pixels[0, 0, 0]).astype("<f4").tobytes()


@pytest.mark.parametrize("channels", ["bgr", "rgb", "gray"])
def test_normalize_subtracts_the_mean_image_of_every_pixel(channels: Channels) -> None:
    record = _with_image(channels)
    assert record.mean_image is not None
    pixels = torch.from_numpy(np.stack([noise(28, 28, record.num_channels, seed=seed) for seed in range(3)]))
    image = torch.from_numpy(record.mean_image.to_array()).double()
    expected = (pixels.double() / 255 - image) / torch.tensor(record.std).double()
    normalized = record.normalize(pixels)
    assert normalized.dtype == torch.float32
    assert normalized.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(normalized.double(), expected.permute(0, 3, 1, 2), rtol=1e-5, atol=1e-6)


def test_a_mean_image_of_one_colour_is_the_mean() -> None:
    record = _record()
    image = MeanImage.from_array(np.broadcast_to(np.array(record.mean), (28, 28, 3)))
    pixels = torch.from_numpy(noise(28, 28)[None])
    same = dataclasses.replace(record, mean_image=image)
    torch.testing.assert_close(same.normalize(pixels), record.normalize(pixels), rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", [1, 27, 29])
def test_a_batch_of_another_size_than_the_mean_image_is_refused(side: int) -> None:
    with pytest.raises(
        ConfigurationError,
        match=rf"^the images have {side}×{side} pixels and mean_image has 28×28; expected the same; take at_",
    ):
        _with_image().normalize(torch.zeros(1, side, side, 3, dtype=torch.uint8))


def test_another_size_takes_the_average_of_the_mean_image() -> None:
    record = _with_image()
    assert record.at_size(28) == record
    smaller = record.at_size(14)
    assert smaller == dataclasses.replace(record, crop_px=14, resize_px=16, mean_image=None)
    assert smaller.at_size(28).mean_image is None


def test_a_mean_image_goes_through_json() -> None:
    record = _with_image()
    fields = record.to_dict()
    assert fields["mean_image"]["side_px"] == 28
    assert fields["mean_image"]["channels"] == 3
    assert set(fields["mean_image"]) == {"side_px", "channels", "float32_base64"}
    back = Preprocess.from_dict(json.loads(json.dumps(fields)))
    assert back == record
    assert back.mean_image == record.mean_image
    assert "mean_image" not in _record().to_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"side_px": 27},
            r"^float32_base64 of mean_image holds 12,544 characters; expected 11,664 characters",
        ),
        ({"side_px": 0}, r"^side_px of mean_image is 0; expected a whole number from 1 to 1024$"),
        ({"side_px": True}, r"^side_px of mean_image is True; expected a whole number from 1 to 1024$"),
        ({"side_px": 10**400}, r"^side_px of mean_image is 10{79}; expected a whole number from 1 to 1024$"),
        ({"side_px": 28.0}, r"^side_px of mean_image is 28\.0; expected a whole number"),
        ({"channels": 4}, r"^channels of mean_image is 4; expected a whole number from 1 to 3$"),
        ({"channels": "3"}, r"^channels of mean_image is 3; expected a whole number from 1 to 3$"),
        ({"float32_base64": None}, r"^float32_base64 of mean_image holds a NoneType; expected 12,544 char"),
        ({"float32_base64": "A"}, r"^float32_base64 of mean_image holds 1 characters; expected 12,544 char"),
        ({"float32_base64": "*" * 12_544}, r"^float32_base64 of mean_image is not in base64; expected lett"),
        ({"float32_base64": "é" * 12_544}, r"^float32_base64 of mean_image is not in base64; expected lett"),
        (
            {"float32_base64": "A" * 12_543 + "="},
            r"^mean_image has 9,407 bytes; expected 9,408 for 28×28 px ",
        ),
        ({"float32_base64": "//9/" * 3_136}, r"^mean_image has values that are not finite; expected finite"),
        ({"float32_base64": "A" * 12_544}, r"^mean is \[.*\]; expected the average of mean_image, \[0\.0, 0"),
        (
            {"side": 3},
            r"^mean_image holds channels, float32_base64, side, side_px; expected side_px, channels",
        ),
    ],
)
def test_a_wrong_mean_image_is_refused_by_its_field(change: dict[str, Any], message: str) -> None:
    fields = _with_image().to_dict()
    fields["mean_image"] |= change
    with pytest.raises(ConfigurationError, match=message):
        Preprocess.from_dict(fields)


@pytest.mark.parametrize(("value", "found"), [(None, "None"), ([1], r"\[1\]"), ({}, "nothing"), ("x", "x")])
def test_a_mean_image_that_is_no_object_is_refused(value: object, found: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^mean_image holds {found}; expected side_px, channels "):
        Preprocess.from_dict({**_record().to_dict(), "mean_image": value})


def test_a_mean_image_has_to_fit_the_record() -> None:
    record = _with_image()
    with pytest.raises(
        ConfigurationError,
        match=r"^mean_image has 28 px and 3 channels, and the network reads 27 px and 3; expected the same$",
    ):
        dataclasses.replace(record, crop_px=27)
    with pytest.raises(ConfigurationError, match=r"3 channels, and the network reads 28 px and 1; expected"):
        dataclasses.replace(_record(channels="gray"), mean_image=record.mean_image)
    with pytest.raises(ConfigurationError, match=r"^mean is \[0\.4, .*; expected the average of mean_image"):
        dataclasses.replace(record, mean=(0.4, 0.5, 0.6))
    with pytest.raises(
        ConfigurationError, match=r"^mean_image has the shape \(2, 3, 3\); expected \(S, S, C\)"
    ):
        MeanImage.from_array(np.zeros((2, 3, 3)))
    with pytest.raises(ConfigurationError, match=r"^mean_image has 7 bytes; expected 12 for 1×1 px of 3 "):
        MeanImage(1, 3, bytes(7))
    with pytest.raises(ConfigurationError, match=r"^mean_image has values that are not finite"):
        MeanImage.from_array(np.full((2, 2, 3), np.inf))


def test_a_model_folder_keeps_the_mean_image(tmp_path: Path) -> None:
    record = _with_image()
    network = create(ResNetSpec("basic", (1,), (4,), stem="cifar", num_classes=2), seed=0)
    save(network, tmp_path / "model", preprocess=record)
    model = load(tmp_path / "model")
    assert model.preprocess == record
    config = json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))
    # timm cannot subtract an image and takes its average.
    assert config["pretrained_cfg"]["mean"] == list(record.mean)
    card = (tmp_path / "model" / "README.md").read_text("utf-8")
    assert "A mean image of 28 px is subtracted instead of that mean, which is its average." in card
    save(network, tmp_path / "other", preprocess=_record())
    assert "mean image" not in (tmp_path / "other" / "README.md").read_text("utf-8")
    assert "mean_image" not in (tmp_path / "other" / "config.json").read_text("utf-8")


def test_the_record_of_gray_images_has_the_averages_of_the_channels() -> None:
    record = Preprocess(24, 27, (0.2, 0.4, 0.6), (0.1, 0.2, 0.6), "bicubic", "bgr")
    gray = record.in_gray()
    assert gray.channels == "gray"
    assert (*gray.mean, *gray.std) == pytest.approx((0.4, 0.3))
    assert (gray.crop_px, gray.resize_px, gray.interpolation) == (24, 27, "bicubic")
    assert gray.in_gray() == gray


def test_the_record_of_gray_images_has_no_mean_image() -> None:
    image = MeanImage.from_array(np.full((4, 4, 3), 0.5, np.float32))
    record = Preprocess(4, 4, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), mean_image=image)
    assert record.in_gray().mean_image is None
