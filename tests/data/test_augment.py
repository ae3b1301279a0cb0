"""Augmentation: choices are functions of the generator, views are functions of pixels and choice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from residual.data.augment import Augment, Choice, CropKind
from residual.errors import ConfigurationError
from residual.preprocess import Channels, Preprocess
from residual.runtime.random import sample_generator
from tests.data.pictures import noise

_KINDS: tuple[CropKind, ...] = ("center", "pad", "random-resized")
_SIZES = (
    st.tuples(st.integers(1, 80), st.integers(1, 80))
    | st.tuples(st.just(1), st.integers(1, 4_000))
    | st.tuples(st.integers(1, 4_000), st.just(1))
)
_SEEDS = st.integers(0, 2**63 - 1)


def _record(crop_px: int = 32, resize_px: int = 32, channels: Channels = "rgb") -> Preprocess:
    count = 1 if channels == "gray" else 3
    return Preprocess(crop_px, resize_px, (0.5,) * count, (0.25,) * count, channels=channels)


# -- choosing --------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(seed=_SEEDS, epoch=st.integers(0, 999), kind=st.sampled_from(_KINDS), size=_SIZES)
def test_the_choice_is_a_function_of_the_generator_alone(
    seed: int, epoch: int, kind: CropKind, size: tuple[int, int]
) -> None:
    augment = Augment(kind, flip=True)
    first, second = (
        augment.choose(sample_generator(seed, epoch, 7), *size, _record(28, 32)) for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("kind", ["pad", "random-resized"])
def test_samples_and_epochs_are_varied_differently(kind: CropKind) -> None:
    augment = Augment(kind, flip=True)
    by_sample = {augment.choose(sample_generator(0, 0, index), 64, 48, _record()) for index in range(40)}
    by_epoch = {augment.choose(sample_generator(0, epoch, 0), 64, 48, _record()) for epoch in range(40)}
    by_seed = {augment.choose(sample_generator(seed, 0, 0), 64, 48, _record()) for seed in range(40)}
    assert min(len(by_sample), len(by_epoch), len(by_seed)) > 20


def test_the_center_is_no_choice() -> None:
    choices = {Augment().choose(sample_generator(0, 0, index), 72, 48, _record(28, 32)) for index in range(9)}
    # 28/32 of the shorter side of 48 are 42
    assert choices == {Choice((3.0, 15.0, 45.0, 57.0), flip=False)}


def test_half_of_the_images_are_mirrored_where_asked_for() -> None:
    flips = [
        Augment(flip=True).choose(sample_generator(0, 0, index), 32, 32, _record()).flip
        for index in range(1000)
    ]
    # five standard deviations of a fair coin: 5 · √250 = 79
    assert 421 <= sum(flips) <= 579


@pytest.mark.parametrize("kind", _KINDS)
def test_no_image_is_mirrored_where_not_asked_for(kind: CropKind) -> None:
    augment = Augment(kind, flip=False)
    assert not any(augment.choose(sample_generator(0, 0, i), 32, 32, _record()).flip for i in range(200))


def test_padding_shifts_to_every_place_and_no_other() -> None:
    boxes = [
        Augment("pad").choose(sample_generator(0, 0, index), 32, 32, _record()).box for index in range(2000)
    ]
    assert all((right - left, bottom - top) == (32, 32) for left, top, right, bottom in boxes)
    # 81 places, each missed by 2000 draws with probability e^-24.8
    assert {box[:2] for box in boxes} == {(x, y) for x in range(-4, 5) for y in range(-4, 5)}


@settings(max_examples=300, deadline=None)
@given(seed=_SEEDS, size=_SIZES, min_area=st.floats(0.01, 1))
def test_a_random_box_lies_within_the_image(seed: int, size: tuple[int, int], min_area: float) -> None:
    height, width = size
    augment = Augment("random-resized", min_area=min_area)
    left, top, right, bottom = augment.choose(sample_generator(seed, 0, 0), height, width, _record()).box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert all(edge.is_integer() for edge in (left, top, right, bottom))


@settings(max_examples=300, deadline=None)
@given(seed=_SEEDS, height=st.integers(24, 400), ratio=st.floats(0.75, 4 / 3), min_area=st.floats(0.08, 0.7))
def test_a_random_box_has_the_area_and_the_ratio_that_were_asked_for(
    seed: int, height: int, ratio: float, min_area: float
) -> None:
    # In an image of such a ratio the whole central square, the last resort, is within the bounds as well.
    width = round(height * ratio)
    augment = Augment("random-resized", min_area=min_area)
    left, top, right, bottom = augment.choose(sample_generator(seed, 0, 0), height, width, _record()).box
    box_width, box_height = right - left, bottom - top
    # Sides are rounded to whole pixels: half a pixel each way.
    assert (box_width + 0.5) * (box_height + 0.5) >= min_area * height * width
    assert (box_width + 0.5) / (box_height - 0.5) >= 3 / 4
    assert (box_width - 0.5) / (box_height + 0.5) <= 4 / 3


def test_random_boxes_cover_the_range_of_areas_and_reach_every_side() -> None:
    augment = Augment("random-resized")
    boxes = np.array(
        [augment.choose(sample_generator(0, 0, index), 100, 100, _record()).box for index in range(2000)]
    )
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / 10_000
    assert areas.min() < 0.1
    assert areas.max() > 0.9
    # A large box often does not fit at a ratio other than 1, so the mean lies under (1 + 0.08) / 2.
    assert 0.42 < areas.mean() < 0.54
    assert boxes.min(axis=0).tolist()[:2] == [0, 0]
    assert boxes.max(axis=0).tolist()[2:] == [100, 100]


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10)])
def test_of_a_long_strip_the_central_square_is_shown(height: int, width: int) -> None:
    box = (
        Augment("random-resized", min_area=0.5)
        .choose(sample_generator(0, 0, 0), height, width, _record())
        .box
    )
    assert box == ((495, 0, 505, 10) if height == 10 else (0, 495, 10, 505))


# -- applying --------------------------------------------------------------------------------------------


def test_a_padded_crop_is_the_classical_one_for_every_shift() -> None:
    pixels = noise(32, 32)
    padded = np.pad(pixels, ((4, 4), (4, 4), (0, 0)))
    for y in range(9):
        for x in range(9):
            choice = Choice((x - 4.0, y - 4.0, x + 28.0, y + 28.0), flip=False)
            view = Augment("pad").apply(pixels, choice, _record())
            np.testing.assert_array_equal(view, padded[y : y + 32, x : x + 32], err_msg=f"shift {x}, {y}")


def test_a_padded_crop_of_a_larger_image_shifts_what_the_center_shows() -> None:
    record = _record()
    pixels = noise(64, 64)
    padded = np.pad(record.center_view(pixels), ((4, 4), (4, 4), (0, 0)))
    for y in range(9):
        for x in range(9):
            # two pixels of the image for one of the input
            choice = Choice((2.0 * x - 8, 2.0 * y - 8, 2.0 * x + 56, 2.0 * y + 56), flip=False)
            view = Augment("pad").apply(pixels, choice, record)
            np.testing.assert_array_equal(view, padded[y : y + 32, x : x + 32], err_msg=f"shift {x}, {y}")


@pytest.mark.parametrize("kind", _KINDS)
def test_a_mirrored_view_is_the_view_mirrored(kind: CropKind) -> None:
    pixels, record = noise(50, 40), _record(28, 32)
    box = Augment(kind).choose(sample_generator(3, 1, 4), 50, 40, record).box
    plain, mirrored = (Augment(kind).apply(pixels, Choice(box, flip), record) for flip in (False, True))
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    assert (plain != mirrored).any()


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (50, 40)])
def test_applying_is_pure(kind: CropKind, height: int, width: int) -> None:
    pixels, record, augment = noise(height, width), _record(), Augment(kind, flip=True)
    before = pixels.copy()
    pixels.setflags(write=False)
    choice = augment.choose(sample_generator(1, 2, 3), height, width, record)
    first = augment.apply(pixels, choice, record)
    second = augment.apply(pixels, choice, record)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(pixels, before)


def test_nothing_draws_from_the_global_random_state() -> None:
    before = np.random.get_state(legacy=False)  # noqa: NPY002  # the state that must not change
    for kind in _KINDS:
        augment = Augment(kind, flip=True)
        augment.apply(noise(9, 9), augment.choose(sample_generator(0, 0, 0), 9, 9, _record()), _record())
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    assert str(after) == str(before)


# A margin of 33 less 28 is odd: the exact center lies between two pixels.
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 33), (64, 64), (100, 60), (61, 97), (20, 20)])
@pytest.mark.parametrize("resize_px", [28, 32, 33])
def test_the_center_in_training_is_the_center_in_evaluation(height: int, width: int, resize_px: int) -> None:
    pixels, record, augment = noise(height, width), _record(28, resize_px), Augment("center")
    choice = augment.choose(sample_generator(0, 0, 0), height, width, record)
    np.testing.assert_array_equal(augment.apply(pixels, choice, record), record.center_view(pixels))


@settings(max_examples=200, deadline=None)
@given(
    size=_SIZES,
    seed=_SEEDS,
    kind=st.sampled_from(_KINDS),
    channels=st.sampled_from(["rgb", "gray"]),
    resize_px=st.sampled_from([32, 37]),
)
def test_the_view_has_the_shape_of_the_input_whatever_the_image(
    size: tuple[int, int], seed: int, kind: CropKind, channels: Channels, resize_px: int
) -> None:
    record = _record(32, resize_px, channels)
    augment = Augment(kind, flip=True)
    pixels = np.full((*size, record.num_channels), 200, dtype=np.uint8)
    view = augment.apply(pixels, augment.choose(sample_generator(seed, 0, 0), *size, record), record)
    assert view.shape == (32, 32, record.num_channels)
    assert view.dtype == np.uint8
    # Only padding is black, and it takes at most 4 px of each side.
    assert set(np.unique(view)) <= {0, 200}
    assert (view[4:-4, 4:-4] == 200).all()
    if kind != "pad":
        assert (view == 200).all()


# -- errors ----------------------------------------------------------------------------------------------


def test_an_unknown_crop_is_named_with_the_choices() -> None:
    with pytest.raises(ConfigurationError, match=r"^crop is 'corner'; expected one of center, pad, random-r"):
        Augment("corner")  # type: ignore[arg-type]


@pytest.mark.parametrize("pad_px", [-1, 1025])
def test_padding_out_of_range_is_named(pad_px: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"^pad_px is {pad_px}; expected 0 to 1024$"):
        Augment("pad", pad_px=pad_px)


@pytest.mark.parametrize("min_area", [0.0, -0.1, 1.01, float("nan")])
def test_an_area_out_of_range_is_named(min_area: float) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"^min_area is {min_area}; expected a fraction above 0, at"
    ):
        Augment("random-resized", min_area=min_area)
