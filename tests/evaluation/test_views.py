"""Views show what the papers say: the same pixels as cutting by hand or by torchvision."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from deepresidual.errors import ConfigurationError
from deepresidual.evaluation import Views
from deepresidual.evaluation.views import ViewKind
from deepresidual.preprocess import MeanImage, Preprocess
from tests.evaluation.parts import noise
from tests.on_demand import OnDemand

transforms = OnDemand("torchvision.transforms.functional")

PHOTO = Preprocess(crop_px=24, resize_px=28, mean=(0.5,) * 3, std=(0.25,) * 3)
WHOLE = Preprocess(crop_px=32, resize_px=32, mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.mark.parametrize("kind", ["one", "flip", "ten-crop"])
@pytest.mark.parametrize("shape", [(28, 28), (41, 60), (60, 33), (20, 9)])
def test_the_first_view_is_the_central_crop_to_the_last_bit(kind: ViewKind, shape: tuple[int, int]) -> None:
    pixels = noise(0, *shape)
    first = Views(kind).cut(pixels, PHOTO)[0]
    np.testing.assert_array_equal(first, PHOTO.center_view(pixels))


@pytest.mark.parametrize("shape", [(28, 28), (28, 40), (47, 28)])
def test_ten_crop_cuts_what_torchvision_cuts(shape: tuple[int, int]) -> None:
    # The shorter side is 28 px already, so that nothing is resized and the pixels are the same.
    pixels = noise(1, *shape)
    views = Views("ten-crop").cut(pixels, PHOTO)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    *corners, center = transforms.five_crop(tensor, [24])
    assert len(views) == 5
    for view, reference in zip(views, [center, *corners], strict=True):
        np.testing.assert_array_equal(view, reference.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("shape", [(56, 56), (57, 91), (301, 143), (14, 20)])
def test_ten_crop_of_other_sizes_is_near_resizing_first(shape: tuple[int, int]) -> None:
    pixels = np.asarray(Image.fromarray(noise(2, 9, 9)).resize(shape[::-1], Image.Resampling.BICUBIC))
    shorter = min(shape)
    height, width = (28 * side // shorter for side in shape)
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    tensor = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    *corners, center = transforms.five_crop(tensor, [24])
    for view, reference in zip(Views("ten-crop").cut(pixels, PHOTO), [center, *corners], strict=True):
        # The filter sees no pixels beyond the crop, which shows along its edges only.
        difference = np.abs(view.astype(int) - reference.permute(1, 2, 0).numpy().astype(int))
        assert difference[2:-2, 2:-2].max() <= 1
        assert difference.max() <= 24


def test_where_resizing_leaves_nothing_to_cut_corners_are_those_of_the_padded_image() -> None:
    pixels = noise(3, 32, 32)
    padded = np.pad(pixels, ((4, 4), (4, 4), (0, 0)))
    views = Views("ten-crop").cut(pixels, WHOLE)
    expected = [pixels, padded[:32, :32], padded[:32, 8:], padded[8:, :32], padded[8:, 8:]]
    for view, reference in zip(views, expected, strict=True):
        np.testing.assert_array_equal(view, reference)


def test_padded_corners_of_an_oblong_image_lie_at_its_ends() -> None:
    pixels = noise(4, 32, 50)
    padded = np.pad(pixels, ((4, 4), (4, 4), (0, 0)))
    views = Views("ten-crop").cut(pixels, WHOLE)
    expected = [padded[:32, :32], padded[:32, 26:], padded[8:, :32], padded[8:, 26:]]
    for view, reference in zip(views[1:], expected, strict=True):
        np.testing.assert_array_equal(view, reference)


def test_multi_scale_shows_the_whole_image_at_every_size() -> None:
    pixels = noise(5, 40, 60)
    views = Views("multi-scale", (20, 40, 64)).cut(pixels, PHOTO)
    assert [view.shape for view in views] == [(20, 30, 3), (40, 60, 3), (64, 96, 3)]
    np.testing.assert_array_equal(views[1], pixels)
    resized = Image.fromarray(pixels).resize((30, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(views[0], np.asarray(resized))


def test_of_a_strip_multi_scale_shows_the_middle() -> None:
    pixels = noise(6, 10, 100)
    (view,) = Views("multi-scale", (10,)).cut(pixels, PHOTO)
    np.testing.assert_array_equal(view, pixels[:, 30:70])


@pytest.mark.parametrize(
    ("crop_px", "resize_px", "sizes"),
    [
        (224, 256, (224, 256, 384, 480, 640)),
        (112, 128, (112, 128, 192, 240, 320)),
        (32, 32, (28, 32)),
        (4, 4, (4,)),
    ],
)
def test_sizes_are_the_papers_in_proportion(crop_px: int, resize_px: int, sizes: tuple[int, ...]) -> None:
    record = dataclasses.replace(PHOTO, crop_px=crop_px, resize_px=resize_px)
    assert Views("multi-scale").sizes_for(record) == sizes


def test_views_at_another_size() -> None:
    assert Views("ten-crop", image_px=48).preprocess(PHOTO).resize_px == 56
    record = Views("one", image_px=48, resize_px=48).preprocess(PHOTO)
    assert (record.crop_px, record.resize_px) == (48, 48)
    assert Views().preprocess(PHOTO) is PHOTO


def test_whole_images_get_the_average_of_a_mean_image() -> None:
    image = MeanImage.from_array(np.full((24, 24, 3), 0.5))
    record = dataclasses.replace(PHOTO, mean_image=image)
    assert Views("multi-scale").preprocess(record) == PHOTO
    assert Views("ten-crop").preprocess(record) is record


@pytest.mark.parametrize(
    ("views", "message"),
    [
        ({"kind": "tencrop"}, r"unknown kind of views 'tencrop' \(nearest: ten-crop"),
        (
            {"kind": "flip", "sizes": (32,)},
            "sizes are given for the views 'flip'; expected sizes for 'multi-s",
        ),
        (
            {"kind": "multi-scale", "image_px": 32},
            "image_px or resize_px is given for the views 'multi-scale'",
        ),
        (
            {"kind": "multi-scale", "sizes": (0, 4)},
            "a size is 0; expected whole numbers of pixels from 1 to 4,",
        ),
        ({"kind": "multi-scale", "sizes": (9, 4, 9)}, r"the sizes \[9, 4, 9\] repeat one"),
    ],
)
def test_views_that_cannot_be_are_refused(views: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Views(**views)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("image_px", "resize_px", "message"),
    [(0, None, "the image size is 0 px"), (None, 8, "crop_px is 24 and resize_px is 8")],
)
def test_sizes_that_cannot_be_are_refused(image_px: int | None, resize_px: int | None, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Views("one", image_px=image_px, resize_px=resize_px).preprocess(PHOTO)
