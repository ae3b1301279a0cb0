"""Random erasing: where, how large, and in what colour."""

from __future__ import annotations

import numpy as np
import pytest

from deepresidual.data.augment import apply, choose
from deepresidual.data.augment.erasing import choose_rectangle, erase
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Augment
from deepresidual.runtime.random import SampleRandom, sample_generator
from tests.data.pictures import noise


def test_the_rectangle_has_the_mean_colour_and_the_rest_is_untouched() -> None:
    view = noise(10, 10)
    painted = erase(view, (2, 3, 7, 5), (0.485, 0.456, 0.406))
    # 123.7, 116.3 and 103.5, the last half to the even level
    assert np.unique(painted[3:5, 2:7].reshape(-1, 3), axis=0).tolist() == [[124, 116, 104]]
    rest = np.ones((10, 10), dtype=bool)
    rest[3:5, 2:7] = False
    np.testing.assert_array_equal(painted[rest], view[rest])


def test_erasing_changes_a_copy() -> None:
    view = noise(10, 10)
    before = view.copy()
    erase(view, (0, 0, 5, 5), (0.5,) * 3)
    np.testing.assert_array_equal(view, before)


def test_a_mean_beyond_the_levels_is_clipped() -> None:
    painted = erase(noise(4, 4), (0, 0, 4, 4), (-0.5, 2.0, 0.5))
    assert painted[0, 0].tolist() == [0, 255, 128]


def test_rectangles_cover_2_to_33_percent_at_aspects_of_0_3_to_3_3_everywhere() -> None:
    side = 200
    drawn = [choose_rectangle(1.0, sample_generator(0, 0, index), side) for index in range(3000)]
    boxes = np.array([box for box in drawn if box is not None])
    assert len(boxes) == len(drawn)
    widths, heights = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    areas, aspects = widths * heights / side**2, heights / widths
    # Sides are rounded to whole pixels, of which the shortest has 200 · √(0.02 / 3.3) = 15.6.
    assert 0.019 < areas.min() < 0.025
    assert 0.32 < areas.max() < 0.34
    assert abs(areas.mean() - 0.175) < 5 * 0.0895 / 3000**0.5
    assert 0.28 < aspects.min() < 0.32
    assert 3.1 < aspects.max() < 3.5
    # uniform on the scale of logarithms: half lie below √(0.3 · 3.3)
    assert abs(np.mean(aspects < 0.99**0.5) - 0.5) < 5 * 0.5 / 3000**0.5
    assert boxes.min() == 0
    assert boxes.max() == side


@pytest.mark.parametrize("probability", [0.0, 0.25, 1.0])
def test_so_many_images_are_erased_as_asked_for(probability: float) -> None:
    count = sum(
        choose_rectangle(probability, sample_generator(0, 0, index), 64) is not None for index in range(2000)
    )
    # five standard deviations of a share of a quarter: 5 · √(2000 · 3/16) = 97
    assert abs(count - 2000 * probability) <= (97 if probability == 0.25 else 0)


def test_an_image_of_one_pixel_stays_whole() -> None:
    assert all(choose_rectangle(1.0, sample_generator(0, 0, index), 1) is None for index in range(50))


@pytest.mark.parametrize("side_px", [8, 32])
def test_the_rectangle_lies_in_the_training_image_of_any_size(side_px: int) -> None:
    record = Preprocess(16, 16, (0.5,), (0.25,), channels="gray")
    pixels = np.zeros((16, 16, 1), dtype=np.uint8)
    for index in range(50):
        choice = choose(Augment(erasing=1.0), SampleRandom(0, 0, index), 16, 16, record, side_px)
        assert choice.erased is not None
        left, top, right, bottom = choice.erased
        assert 0 <= left < right <= side_px
        assert 0 <= top < bottom <= side_px
        view = apply(pixels, choice, record, side_px)
        assert (view == 128).sum() == (right - left) * (bottom - top)
