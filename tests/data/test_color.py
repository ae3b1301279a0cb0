"""Colour: jitter as fb.resnet.torch defines it, PCA as AlexNet does, in one map and rounded once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from deepresidual.data.augment import Choice, apply, choose
from deepresidual.data.augment.color import ColorChoice, apply_color, choose_color
from deepresidual.errors import ConfigurationError
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Augment
from deepresidual.runtime.random import SampleRandom, sample_generator
from tests.data.pictures import noise, waves

_RGB = Preprocess(16, 16, (0.5,) * 3, (0.25,) * 3)
_BGR = Preprocess(16, 16, (0.5,) * 3, (0.25,) * 3, channels="bgr")
_GRAY = Preprocess(16, 16, (0.5,), (0.25,), channels="gray")


def _reference(pixels: NDArray[np.uint8], choice: ColorChoice, order: Sequence[str]) -> NDArray[np.float64]:
    """Return fb.resnet.torch's Brightness, Contrast and Saturation, one after the other, not rounded."""
    image = pixels.astype(np.float64)
    for jitter in order:
        gray = image @ (0.299, 0.587, 0.114)
        other = {"brightness": 0.0, "contrast": gray.mean(), "saturation": gray[:, :, None]}[jitter]
        weight = getattr(choice, jitter)
        image = weight * image + (1 - weight) * other
    return image


def _rounded(image: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.floor(image + 0.5).clip(0, 255)


def test_brightness_contrast_and_saturation_of_two_pixels() -> None:
    pixels = np.array([[[100, 0, 0], [0, 200, 50]]], dtype=np.uint8)
    # luma: 29.9 and 117.4 + 5.7 = 123.1; their mean is 76.5
    for choice, exact in (
        (ColorChoice(brightness=0.5), [[50, 0, 0], [0, 100, 25]]),
        (ColorChoice(contrast=0.5), [[88.25, 38.25, 38.25], [38.25, 138.25, 63.25]]),
        (ColorChoice(saturation=0.5), [[64.95, 14.95, 14.95], [61.55, 161.55, 86.55]]),
    ):
        np.testing.assert_array_equal(apply_color(pixels, choice)[0], _rounded(np.array(exact)))


@pytest.mark.parametrize("order", list(permutations(["brightness", "contrast", "saturation"])))
def test_jitters_are_those_of_fb_resnet_torch_in_any_order(order: tuple[str, ...]) -> None:
    for seed in range(6):
        choice = choose_color(Augment(color_jitter=0.9), sample_generator(0, 0, seed))
        for pixels in (noise(20, 30, seed=seed), waves(20, 30)):
            exact = _reference(pixels, choice, order)
            # Of the two neighbours of an exact half, float32 may take either.
            clear = np.abs(exact - np.floor(exact) - 0.5) > 1e-3
            np.testing.assert_array_equal(apply_color(pixels, choice)[clear], _rounded(exact)[clear])


def test_pca_shifts_every_pixel_along_the_components() -> None:
    pixels = np.full((4, 5, 3), 100, dtype=np.uint8)
    first = apply_color(pixels, ColorChoice(components=(1.0, 0.0, 0.0)))
    # 255 · 0.2175 · (−0.5675, −0.5808, −0.5836) = −31.475, −32.213, −32.368
    assert np.unique(first.reshape(-1, 3), axis=0).tolist() == [[69, 68, 68]]
    second = apply_color(pixels, ColorChoice(components=(0.0, -2.0, 0.0)))
    # 255 · 0.0188 · −2 · (0.7192, −0.0045, −0.6948) = −6.896, 0.043, 6.662
    assert np.unique(second.reshape(-1, 3), axis=0).tolist() == [[93, 100, 107]]
    third = apply_color(pixels, ColorChoice(components=(0.0, 0.0, 4.0)))
    # 255 · 0.0045 · 4 · (0.4009, −0.8140, 0.4203) = 1.840, −3.736, 1.929
    assert np.unique(third.reshape(-1, 3), axis=0).tolist() == [[102, 96, 102]]


def test_no_change_is_no_change() -> None:
    for pixels in (noise(9, 7), noise(9, 7, 1)):
        np.testing.assert_array_equal(apply_color(pixels, ColorChoice()), pixels)


def test_weights_and_shifts_have_the_distributions_that_were_asked_for() -> None:
    augment = Augment(color_jitter=0.4, pca_lighting=0.1)
    choices = [choose_color(augment, sample_generator(0, 0, index)) for index in range(2000)]
    weights = np.array([(choice.brightness, choice.contrast, choice.saturation) for choice in choices])
    assert weights.min() >= 0.6
    assert weights.max() <= 1.4
    # A uniform number in [−0.4, 0.4] has the standard deviation 0.8 / √12 = 0.231; five of the mean's.
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=5 * 0.231 / 2000**0.5)
    np.testing.assert_allclose(weights.std(axis=0), 0.231, atol=0.012)
    assert np.abs(np.corrcoef(weights.T) - np.eye(3)).max() < 5 / 2000**0.5
    components = np.array([choice.components for choice in choices])
    np.testing.assert_allclose(components.mean(axis=0), 0, atol=5 * 0.1 / 2000**0.5)
    np.testing.assert_allclose(components.std(axis=0), 0.1, atol=0.01)


def test_only_what_was_asked_for_changes() -> None:
    jitter = choose_color(Augment(color_jitter=0.4), sample_generator(0, 0, 0))
    assert jitter == ColorChoice(jitter.brightness, jitter.contrast, jitter.saturation)
    assert 1 not in (jitter.brightness, jitter.contrast, jitter.saturation)
    shift = choose_color(Augment(pca_lighting=0.1), sample_generator(0, 0, 0))
    assert shift == ColorChoice(components=shift.components)
    assert 0 not in shift.components


def test_gray_images_change_as_colours_without_saturation_do() -> None:
    pixels = noise(20, 30, channels=1)
    choice = ColorChoice(brightness=0.8, contrast=1.3, saturation=0.2)
    exact = _reference(np.repeat(pixels, 3, axis=2), choice, ["saturation", "contrast", "brightness"])[
        :, :, :1
    ]
    clear = np.abs(exact - np.floor(exact) - 0.5) > 1e-3
    np.testing.assert_array_equal(apply_color(pixels, choice)[clear], _rounded(exact)[clear])


def test_colours_in_the_order_blue_green_red_change_alike() -> None:
    pixels = noise(16, 16)
    augment = Augment(
        color_jitter=0.4, pca_lighting=1.0, policy="rand-augment", num_operations=4, erasing=0.5
    )
    for index in range(20):
        choice = choose(augment, SampleRandom(0, 0, index), 16, 16, _RGB, 16)
        rgb = apply(pixels, choice, _RGB, 16)
        bgr = apply(pixels[:, :, ::-1], choice, _BGR, 16)
        np.testing.assert_array_equal(bgr[:, :, ::-1], rgb)


def test_the_view_is_mirrored_and_coloured() -> None:
    pixels = noise(16, 16)
    color = ColorChoice(brightness=0.5)
    view = apply(pixels, Choice((0.0, 0.0, 16.0, 16.0), flip=True, color=color), _RGB, 16)
    np.testing.assert_array_equal(view, apply_color(np.ascontiguousarray(pixels[:, ::-1]), color))


def test_components_of_gray_images_are_refused() -> None:
    expected = (
        r"^pca_lighting is 0.1 and the network reads gray images; expected images in colour; set pca_lighting"
    )
    with pytest.raises(ConfigurationError, match=expected):
        choose(Augment(pca_lighting=0.1), SampleRandom(0, 0, 0), 16, 16, _GRAY, 16)
