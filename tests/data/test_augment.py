"""Augmentation: choices are functions of the generator, views are functions of pixels and choice."""

from __future__ import annotations

import dataclasses
import random as python_random
from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deepresidual.data.augment import Choice, apply, choose
from deepresidual.errors import ConfigurationError
from deepresidual.preprocess import Channels, Interpolation, MeanImage, Preprocess
from deepresidual.recipe import Augment, CropKind, Policy
from deepresidual.runtime.random import SampleRandom
from tests.conftest import examples
from tests.data.pictures import noise, waves

_KINDS: tuple[CropKind, ...] = ("center", "pad", "random-resized", "scale-jitter")
_SIZES = (
    st.tuples(st.integers(1, 80), st.integers(1, 80))
    | st.tuples(st.just(1), st.integers(1, 4_000))
    | st.tuples(st.integers(1, 4_000), st.just(1))
)
_SEEDS = st.integers(0, 2**63 - 1)


def _record(crop_px: int = 32, resize_px: int = 32, channels: Channels = "rgb") -> Preprocess:
    count = 1 if channels == "gray" else 3
    return Preprocess(crop_px, resize_px, (0.5,) * count, (0.25,) * count, channels=channels)


def _augment(kind: CropKind, **fields: Any) -> Augment:
    """Return an augmentation whose jitter fits the 28 and 32 px of the records here."""
    return Augment(kind, min_side_px=32, max_side_px=60, **fields)


def _choose(
    augment: Augment,
    height: int,
    width: int,
    record: Preprocess | None = None,
    *,
    seed: int = 0,
    epoch: int = 0,
    index: int = 0,
    side_px: int | None = None,
) -> Choice:
    record = record or _record()
    side_px = record.crop_px if side_px is None else side_px
    return choose(augment, SampleRandom(seed, epoch, index), height, width, record, side_px)


# -- choosing --------------------------------------------------------------------------------------------


@settings(max_examples=examples(30))
@given(seed=_SEEDS, epoch=st.integers(0, 999), kind=st.sampled_from(_KINDS), size=_SIZES)
def test_the_choice_is_a_function_of_the_random_numbers_alone(
    seed: int, epoch: int, kind: CropKind, size: tuple[int, int]
) -> None:
    everything: dict[str, Any] = {"color_jitter": 0.4, "pca_lighting": 0.1, "erasing": 0.5}
    augment = _augment(kind, flip=True, policy="rand-augment", **everything)
    first, second = (
        _choose(augment, *size, _record(28, 32), seed=seed, epoch=epoch, index=7) for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("kind", ["center", "pad"])
def test_cheap_crops_and_flips_follow_from_the_uniforms_alone(kind: CropKind) -> None:
    class NoGenerator(SampleRandom):
        @property
        def generator(self) -> np.random.Generator:
            raise AssertionError("drew from the generator")

    for across, down, mirror, expected in (
        (0.0, 0.0, 0.0, Choice((-4.0, -4.0, 28.0, 28.0), flip=True)),
        (0.5, 0.999, 0.5, Choice((0.0, 4.0, 32.0, 36.0), flip=False)),
        (0.12, 0.11, 0.49, Choice((-3.0, -4.0, 29.0, 28.0), flip=True)),  # 0.12 · 9 = 1.08, 0.11 · 9 = 0.99
    ):
        random = NoGenerator(0, 0, 0, uniforms=(across, down, mirror, 0.0))
        choice = choose(Augment(kind, flip=True), random, 32, 32, _record(), 32)
        if kind == "center":
            expected = Choice((0.0, 0.0, 32.0, 32.0), expected.flip)
        assert choice == expected


def test_a_repeated_sample_is_varied_differently() -> None:
    record, augment = _record(), Augment("random-resized")
    choices = {choose(augment, SampleRandom(0, 0, 5, repeat), 64, 48, record, 32) for repeat in range(20)}
    assert len(choices) == 20


@pytest.mark.parametrize("kind", ["pad", "random-resized", "scale-jitter"])
def test_samples_and_epochs_are_varied_differently(kind: CropKind) -> None:
    augment = _augment(kind, flip=True)
    by_sample = {_choose(augment, 64, 48, index=index) for index in range(40)}
    by_epoch = {_choose(augment, 64, 48, epoch=epoch) for epoch in range(40)}
    by_seed = {_choose(augment, 64, 48, seed=seed) for seed in range(40)}
    assert min(len(by_sample), len(by_epoch), len(by_seed)) > 20


def test_the_center_is_no_choice() -> None:
    choices = {_choose(Augment(), 72, 48, _record(28, 32), index=index) for index in range(9)}
    # 28/32 of the shorter side of 48 are 42
    assert choices == {Choice((3.0, 15.0, 45.0, 57.0), flip=False)}


def test_half_of_the_images_are_mirrored_where_asked_for() -> None:
    flips = [_choose(Augment(flip=True), 32, 32, index=index).flip for index in range(1000)]
    # five standard deviations of a fair coin: 5 · √250 = 79
    assert 421 <= sum(flips) <= 579


@pytest.mark.parametrize("kind", _KINDS)
def test_no_image_is_mirrored_where_not_asked_for(kind: CropKind) -> None:
    augment = _augment(kind, flip=False)
    assert not any(_choose(augment, 32, 32, index=index).flip for index in range(200))


def test_padding_shifts_to_every_place_and_no_other() -> None:
    boxes = [_choose(Augment("pad"), 32, 32, index=index).box for index in range(2000)]
    assert all((right - left, bottom - top) == (32, 32) for left, top, right, bottom in boxes)
    # 81 places, each missed by 2000 draws with probability e^-24.8
    assert {box[:2] for box in boxes} == {(x, y) for x in range(-4, 5) for y in range(-4, 5)}


@settings(max_examples=examples(100))
@given(seed=_SEEDS, size=_SIZES, min_area=st.floats(0.01, 1))
def test_a_random_box_lies_within_the_image(seed: int, size: tuple[int, int], min_area: float) -> None:
    height, width = size
    augment = Augment("random-resized", min_area=min_area)
    left, top, right, bottom = _choose(augment, height, width, seed=seed).box
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert all(edge.is_integer() for edge in (left, top, right, bottom))


@settings(max_examples=examples(100))
@given(seed=_SEEDS, height=st.integers(24, 400), ratio=st.floats(0.75, 4 / 3), min_area=st.floats(0.08, 0.7))
def test_a_random_box_has_the_area_and_the_ratio_that_were_asked_for(
    seed: int, height: int, ratio: float, min_area: float
) -> None:
    # In an image of such a ratio the whole central square, the last resort, is within the bounds as well.
    width = round(height * ratio)
    augment = Augment("random-resized", min_area=min_area)
    left, top, right, bottom = _choose(augment, height, width, seed=seed).box
    box_width, box_height = right - left, bottom - top
    # Sides are rounded to whole pixels: half a pixel each way.
    assert (box_width + 0.5) * (box_height + 0.5) >= min_area * height * width
    assert (box_width + 0.5) / (box_height - 0.5) >= 3 / 4
    assert (box_width - 0.5) / (box_height + 0.5) <= 4 / 3


def test_random_boxes_cover_the_range_of_areas_and_reach_every_side() -> None:
    augment = Augment("random-resized")
    boxes = np.array([_choose(augment, 100, 100, index=index).box for index in range(2000)])
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / 10_000
    assert areas.min() < 0.1
    assert areas.max() > 0.9
    # A large box often does not fit at a ratio other than 1, so the mean lies under (1 + 0.08) / 2.
    assert 0.42 < areas.mean() < 0.54
    assert boxes.min(axis=0).tolist()[:2] == [0, 0]
    assert boxes.max(axis=0).tolist()[2:] == [100, 100]


@pytest.mark.parametrize(("height", "width"), [(10, 1000), (1000, 10)])
def test_of_a_long_strip_the_central_square_is_shown(height: int, width: int) -> None:
    box = _choose(Augment("random-resized", min_area=0.5), height, width).box
    assert box == ((495, 0, 505, 10) if height == 10 else (0, 495, 10, 505))


# -- scale jitter ----------------------------------------------------------------------------------------


def test_scale_jitter_cuts_a_square_of_an_image_whose_shorter_side_was_resized() -> None:
    # The two steps of the paper (2015, section 3.4) with torchvision, against the one resize here.
    transforms = pytest.importorskip("torchvision.transforms.v2.functional")
    pixels, record = waves(90, 120), _record()
    for index in range(30):
        left, top, right, bottom = _choose(_augment("scale-jitter"), 90, 120, index=index).box
        shorter = round(90 * 32 / (bottom - top))
        assert 32 <= shorter <= 60
        resized = transforms.resize(Image.fromarray(pixels), shorter)
        x, y = round(left * resized.width / 120), round(top * resized.height / 90)
        cut = np.asarray(resized)[y : y + 32, x : x + 32]
        view = apply(pixels, Choice((left, top, right, bottom), flip=False), record, 32)
        # The same filter at the same places; a level of difference where both round.
        np.testing.assert_allclose(view.astype(int), cut.astype(int), atol=1)


def test_scale_jitter_draws_every_length_equally_often_and_cuts_everywhere() -> None:
    augment = Augment("scale-jitter", min_side_px=32, max_side_px=35)
    boxes = np.array([_choose(augment, 70, 140, index=index).box for index in range(2000)])
    shorter = np.round(70 * 32 / (boxes[:, 3] - boxes[:, 1])).astype(int)
    lengths, counts = np.unique(shorter, return_counts=True)
    assert lengths.tolist() == [32, 33, 34, 35]
    # five standard deviations of a share of a quarter: 5 · √(2000 · 3/16) = 97
    assert np.all(np.abs(counts - 500) < 97)
    assert boxes[:, 0].min() == 0
    np.testing.assert_allclose(boxes[:, 2].max(), 140)


def test_scale_jitter_of_the_smallest_length_shows_the_whole_shorter_side() -> None:
    augment = Augment("scale-jitter", min_side_px=32, max_side_px=32)
    left, top, right, bottom = _choose(augment, 64, 96).box
    assert (top, bottom, right - left) == (0, 64, 64)


def test_jitter_that_cannot_hold_the_training_image_is_refused() -> None:
    expected = (
        r"^min_side_px is 256 and the training images have 288 px; expected a min_side_px of at least 2"
    )
    with pytest.raises(ConfigurationError, match=expected):
        _choose(Augment("scale-jitter"), 400, 500, side_px=288)


# -- applying --------------------------------------------------------------------------------------------


def test_a_padded_crop_is_the_classical_one_for_every_shift() -> None:
    pixels = noise(32, 32)
    padded = np.pad(pixels, ((4, 4), (4, 4), (0, 0)))
    for y in range(9):
        for x in range(9):
            choice = Choice((x - 4.0, y - 4.0, x + 28.0, y + 28.0), flip=False)
            view = apply(pixels, choice, _record(), 32)
            np.testing.assert_array_equal(view, padded[y : y + 32, x : x + 32], err_msg=f"shift {x}, {y}")


def test_a_padded_crop_of_a_larger_image_shifts_what_the_center_shows() -> None:
    record = _record()
    pixels = noise(64, 64)
    padded = np.pad(record.center_view(pixels), ((4, 4), (4, 4), (0, 0)))
    for y in range(9):
        for x in range(9):
            # two pixels of the image for one of the input
            choice = Choice((2.0 * x - 8, 2.0 * y - 8, 2.0 * x + 56, 2.0 * y + 56), flip=False)
            view = apply(pixels, choice, record, 32)
            np.testing.assert_array_equal(view, padded[y : y + 32, x : x + 32], err_msg=f"shift {x}, {y}")


def _with_mean_image(side_px: int) -> Preprocess:
    image = MeanImage.from_array(np.random.default_rng(0).random((side_px, side_px, 3)))
    return Preprocess(side_px, side_px, image.average(), (63 / 255,) * 3, mean_image=image)


@pytest.mark.parametrize(
    "record",
    [
        Preprocess(32, 32, (125.3 / 255, 123.0 / 255, 113.9 / 255), (63 / 255, 62.1 / 255, 66.7 / 255)),
        Preprocess(32, 32, (0.2, 0.3, 0.4), (0.25,) * 3, channels="bgr"),
        Preprocess(32, 32, (0.305,), (0.376,), channels="gray"),
        _with_mean_image(32),
    ],
    ids=["rgb", "bgr", "gray", "mean image"],
)
@pytest.mark.parametrize("native_px", [32, 20])
def test_padding_with_the_mean_is_padding_with_zero_after_normalization(
    record: Preprocess, native_px: int
) -> None:
    # fb.resnet.torch, datasets/cifar10.lua: ColorNormalize, HorizontalFlip, RandomCrop(32, 4) with zeros
    pixels = record.to_channels(noise(native_px, native_px))
    augment = Augment("pad", flip=True, pad_fill="mean")
    half_a_level = 0.5 / 255 / min(record.std)
    flips = set()
    for index in range(12):
        choice = _choose(augment, native_px, native_px, record, index=index)
        view = torch.from_numpy(apply(pixels, choice, record, 32).copy())[None]
        inside = apply(np.full_like(pixels, 255), dataclasses.replace(choice, fill="black"), record, 32) > 0
        padding = record.normalize(view)[0].permute(1, 2, 0)[torch.from_numpy(~inside)]
        assert padding.abs().max() <= half_a_level + 1e-6 if len(padding) else True
        black = apply(pixels, dataclasses.replace(choice, fill="black"), record, 32)
        assert np.array_equal(view[0].numpy()[inside], black[inside])
        flips.add((choice.flip, bool(len(padding))))
    assert flips >= {(True, True), (False, True)}
    assert half_a_level < 0.01


@pytest.mark.parametrize("kind", _KINDS)
def test_a_mirrored_view_is_the_view_mirrored(kind: CropKind) -> None:
    pixels, record = noise(50, 40), _record(28, 32)
    box = _choose(_augment(kind), 50, 40, record, seed=3, epoch=1, index=4).box
    plain, mirrored = (apply(pixels, Choice(box, flip), record, 28) for flip in (False, True))
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    assert (plain != mirrored).any()


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (50, 40)])
def test_applying_is_pure(kind: CropKind, height: int, width: int) -> None:
    pixels, record = noise(height, width), _record()
    augment = _augment(
        kind, flip=True, policy="rand-augment", color_jitter=0.4, pca_lighting=0.1, erasing=1.0
    )
    before = pixels.copy()
    pixels.setflags(write=False)
    choice = _choose(augment, height, width, record, seed=1, epoch=2, index=3)
    first = apply(pixels, choice, record, 32)
    second = apply(pixels, choice, record, 32)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(pixels, before)


def test_nothing_draws_from_the_global_random_state() -> None:
    before = np.random.get_state(legacy=False)  # noqa: NPY002  # the state that must not change
    python_before = python_random.getstate()
    for kind in _KINDS:
        for policy in get_args(Policy):
            augment = _augment(
                kind, flip=True, policy=policy, color_jitter=0.4, pca_lighting=0.1, erasing=1.0
            )
            apply(noise(9, 9), _choose(augment, 9, 9), _record(), 32)
    assert python_random.getstate() == python_before
    after = np.random.get_state(legacy=False)  # noqa: NPY002
    assert str(after) == str(before)


# A margin of 33 less 28 is odd: the exact center lies between two pixels.
@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 33), (64, 64), (100, 60), (61, 97), (20, 20)])
@pytest.mark.parametrize("resize_px", [28, 32, 33])
def test_the_center_in_training_is_the_center_in_evaluation(height: int, width: int, resize_px: int) -> None:
    pixels, record, augment = noise(height, width), _record(28, resize_px), Augment("center")
    choice = _choose(augment, height, width, record)
    np.testing.assert_array_equal(apply(pixels, choice, record, 28), record.center_view(pixels))


@pytest.mark.parametrize("side_px", [14, 21, 28, 42])
def test_at_another_size_the_center_shows_the_same_share_of_the_image(side_px: int) -> None:
    pixels, record = noise(64, 48), _record(28, 32)
    choice = _choose(Augment("center"), 64, 48, record, side_px=side_px)
    np.testing.assert_array_equal(
        apply(pixels, choice, record, side_px), record.at_size(side_px).center_view(pixels)
    )


def test_a_smaller_training_image_is_padded_in_proportion() -> None:
    # Half of the 28 px that the network reads: four pixels of padding become two.
    pixels = noise(28, 28)
    small = _record(14, 14).center_view(pixels)
    padded = np.pad(small, ((2, 2), (2, 2), (0, 0)))
    for across in range(5):
        random = SampleRandom(0, 0, 0, uniforms=((across + 0.5) / 5, 0.5, 0.9, 0.0))
        choice = choose(Augment("pad"), random, 28, 28, _record(28, 28), 14)
        view = apply(pixels, choice, _record(28, 28), 14)
        np.testing.assert_array_equal(view, padded[2:16, across : across + 14])


@settings(max_examples=examples(80))
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
    augment = _augment(kind, flip=True)
    pixels = np.full((*size, record.num_channels), 200, dtype=np.uint8)
    view = apply(pixels, _choose(augment, *size, record, seed=seed), record, 32)
    assert view.shape == (32, 32, record.num_channels)
    assert view.dtype == np.uint8
    # Only padding is black, and it takes at most 4 px of each side.
    assert set(np.unique(view)) <= {0, 200}
    assert (view[4:-4, 4:-4] == 200).all()
    if kind != "pad":
        assert (view == 200).all()


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("interpolation", get_args(Interpolation))
def test_a_crop_is_resized_with_the_filter_of_the_record(interpolation: Interpolation, exact: bool) -> None:
    pixels, box = noise(90, 70), (6.0, 5.0, 62.0, 61.0)
    records = {
        name: dataclasses.replace(_record(28, 32), interpolation=name) for name in get_args(Interpolation)
    }
    view = apply(pixels, Choice(box, flip=False, exact=exact), records[interpolation], 28).astype(int)
    # torch's filters round their weights and see nothing beyond the part.
    inside = np.s_[3:-3, 3:-3]
    differences = {
        name: np.abs(view - record.resize(pixels, box, 28, 28))[inside].mean()
        for name, record in records.items()
    }
    assert differences.pop(interpolation) < 0.5
    assert min(differences.values()) > 3


# -- errors ----------------------------------------------------------------------------------------------


def test_an_unknown_crop_is_named_with_the_choices() -> None:
    with pytest.raises(ConfigurationError, match=r"^crop is 'corner'; expected one of center, pad, random-r"):
        Augment("corner")  # type: ignore[arg-type]


@pytest.mark.parametrize("pad_px", [-1, 1025])
def test_padding_out_of_range_is_named(pad_px: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"^pad_px is {pad_px}; expected a number from 0 to 1024$"):
        Augment("pad", pad_px=pad_px)


@pytest.mark.parametrize("min_area", [0.0, -0.1, 1.01, float("nan")])
def test_an_area_out_of_range_is_named(min_area: float) -> None:
    with pytest.raises(
        ConfigurationError, match=rf"^min_area is {min_area}; expected a number above 0 to 1$"
    ):
        Augment("random-resized", min_area=min_area)
