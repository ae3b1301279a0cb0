"""Policies: our choice, Pillow's pixels; timm and torchvision say what the operations have to be."""

from __future__ import annotations

import random as python_random
from collections import Counter
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from deepresidual.data.augment import apply, choose
from deepresidual.data.augment.policy import (
    _RAND_AUGMENT,
    _TRIVIAL_AUGMENT,
    Operation,
    OperationKind,
    _increasing_strength,
    _wide_strength,
    apply_operations,
    choose_operations,
)
from deepresidual.preprocess import Channels, Preprocess
from deepresidual.recipe import Augment, Policy
from deepresidual.runtime.random import SampleRandom, sample_generator
from tests.data.pictures import noise, waves

_MEAN = (0.485, 0.456, 0.406)
_SIDE = 40
_KINDS: tuple[OperationKind, ...] = get_args(OperationKind)
_NEUTRAL: dict[OperationKind, float] = {
    "rotate": 0,
    "posterize": 8,
    "solarize": 256,
    "solarize-add": 0,
    "saturation": 1,
    "contrast": 1,
    "brightness": 1,
    "sharpness": 1,
    "shear-x": 0,
    "shear-y": 0,
    "translate-x": 0,
    "translate-y": 0,
}

# Our names and those of the two references.
_TIMM: dict[OperationKind, str] = {
    "auto-contrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
    "rotate": "Rotate",
    "posterize": "PosterizeIncreasing",
    "solarize": "SolarizeIncreasing",
    "solarize-add": "SolarizeAdd",
    "saturation": "ColorIncreasing",
    "contrast": "ContrastIncreasing",
    "brightness": "BrightnessIncreasing",
    "sharpness": "SharpnessIncreasing",
    "shear-x": "ShearX",
    "shear-y": "ShearY",
    "translate-x": "TranslateXRel",
    "translate-y": "TranslateYRel",
}
_TORCHVISION: dict[OperationKind | None, str] = {
    None: "Identity",
    "shear-x": "ShearX",
    "shear-y": "ShearY",
    "translate-x": "TranslateX",
    "translate-y": "TranslateY",
    "rotate": "Rotate",
    "saturation": "Color",
    "contrast": "Contrast",
    "brightness": "Brightness",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "auto-contrast": "AutoContrast",
    "equalize": "Equalize",
}


def _apply(pixels: np.ndarray[Any, Any], operation: Operation, interpolation: Any = "bilinear") -> Any:
    mean = _MEAN if pixels.shape[2] == 3 else (0.5,)
    return apply_operations(pixels, (operation,), interpolation, mean)


# -- against timm and torchvision --------------------------------------------------------------------------


def test_the_operations_are_those_of_timm_and_torchvision() -> None:
    timm = pytest.importorskip("timm.data.auto_augment")
    torchvision = pytest.importorskip("torchvision.transforms")
    assert [_TIMM[kind] for kind in _RAND_AUGMENT] == timm._RAND_INCREASING_TRANSFORMS
    space = torchvision.TrivialAugmentWide()._augmentation_space(31)
    assert sorted(_TORCHVISION[kind] for kind in _TRIVIAL_AUGMENT) == sorted(space)


def test_the_strongest_posterize_keeps_a_bit() -> None:
    assert [_increasing_strength("posterize", part, 1, _SIDE) for part in (0, 0.26, 0.75, 0.99, 1)] == [
        4,
        3,
        1,
        1,
        1,
    ]


@pytest.mark.parametrize("magnitude", [0.0, 0.4, 3.3, 7.0, 9.99, 10.0])
@pytest.mark.parametrize("kind", _RAND_AUGMENT)
def test_every_operation_of_rand_augment_gives_the_pixels_of_timm(
    kind: OperationKind, magnitude: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm.data.auto_augment")
    if (kind, magnitude) == ("posterize", 10.0):
        magnitude = 9.99  # at 10 timm asks Pillow for no bits at all, which is an error now
    levels = tuple(round(255 * value) for value in _MEAN)
    pixels = waves(_SIDE, _SIDE)
    for sign in (1, -1):
        monkeypatch.setattr(python_random, "random", lambda sign=sign: 1.0 if sign < 0 else 0.0)
        options = {"img_mean": levels, "interpolation": Image.Resampling.BILINEAR}
        reference = timm.AugmentOp(_TIMM[kind], prob=1.0, magnitude=magnitude, hparams=options)
        # timm moves to the left where we move to the right; either sign is drawn equally often.
        ours = -sign if kind.startswith("translate") else sign
        strength = _increasing_strength(kind, magnitude / 10, ours, _SIDE)
        np.testing.assert_array_equal(
            _apply(pixels, Operation(kind, strength, "mean")), np.asarray(reference(Image.fromarray(pixels)))
        )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [kind for kind in _TRIVIAL_AUGMENT if kind is not None])
def test_every_operation_of_trivial_augment_gives_the_pixels_of_torchvision(
    kind: OperationKind, channels: int
) -> None:
    torchvision = pytest.importorskip("torchvision.transforms")
    pixels = waves(_SIDE, _SIDE)[:, :, :channels]
    image = Image.fromarray(pixels.squeeze())
    magnitudes, signed = torchvision.TrivialAugmentWide()._augmentation_space(31)[_TORCHVISION[kind]]
    for place in range(31 if magnitudes.ndim else 1):
        for sign in (1, -1) if signed else (1,):
            # Rounded, because float32 has 15.999999 for 16 pixels, of which torchvision takes the whole ones.
            magnitude = sign * round(float(magnitudes[place] if magnitudes.ndim else 0), 5)
            reference = torchvision.autoaugment._apply_op(
                image, _TORCHVISION[kind], magnitude, torchvision.InterpolationMode.BILINEAR, None
            )
            view = _apply(pixels, Operation(kind, _wide_strength(kind, place, sign)))
            exact = np.asarray(reference).reshape(pixels.shape)
            # Its shears went through an arctangent.
            assert np.mean(view != exact) < 0.01, f"place {place}"
            assert np.abs(view.astype(int) - exact).mean() < 0.05, f"place {place}"


# -- definitions -------------------------------------------------------------------------------------------


def test_operations_on_a_row_of_pixels() -> None:
    row = np.array([[[10], [100], [127], [128], [200]]], dtype=np.uint8)
    expected: dict[OperationKind, tuple[float, list[int]]] = {
        "invert": (0, [245, 155, 128, 127, 55]),
        "posterize": (2, [0, 64, 64, 128, 192]),
        "solarize": (128, [10, 100, 127, 127, 55]),
        "solarize-add": (110, [120, 210, 237, 128, 200]),
        "brightness": (0.5, [5, 50, 63, 64, 100]),
        "contrast": (0.0, [113] * 5),  # the mean is 113
        "auto-contrast": (0, [0, 120, 157, 158, 255]),  # (level − 10) · 255 / 190, cut to a whole level
        "translate-x": (2, [0, 0, 10, 100, 127]),
        "translate-y": (1, [0] * 5),
    }
    for kind, (strength, levels) in expected.items():
        assert _apply(row, Operation(kind, strength)).ravel().tolist() == levels, kind


def test_a_quarter_turn_is_counter_clockwise() -> None:
    pixels = noise(8, 8)
    np.testing.assert_array_equal(_apply(pixels, Operation("rotate", 90)), np.rot90(pixels))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "strength"), _NEUTRAL.items())
def test_no_strength_is_no_change(kind: OperationKind, strength: float, channels: int) -> None:
    pixels = noise(12, 9, channels)
    np.testing.assert_array_equal(_apply(pixels, Operation(kind, strength)), pixels)


@pytest.mark.parametrize("kind", [kind for kind in _RAND_AUGMENT if kind in _NEUTRAL])
def test_magnitude_0_changes_little_or_nothing(kind: OperationKind) -> None:
    strength = _increasing_strength(kind, 0.0, 1, _SIDE)
    # timm's posterize keeps four bits at magnitude 0 already.
    assert strength == (4 if kind == "posterize" else _NEUTRAL[kind])


def test_what_comes_in_from_outside_is_black_or_the_mean_colour() -> None:
    pixels = np.full((6, 6, 3), 200, dtype=np.uint8)
    for fill, colour in (("black", [0, 0, 0]), ("mean", [124, 116, 104])):
        view = _apply(pixels, Operation("translate-x", 2, fill))  # type: ignore[arg-type]
        assert np.unique(view[:, :2].reshape(-1, 3), axis=0).tolist() == [colour]
        assert (view[:, 2:] == 200).all()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", _KINDS)
def test_every_operation_keeps_shape_and_type(kind: OperationKind, channels: int, interpolation: str) -> None:
    pixels = noise(12, 12, channels)
    view = _apply(pixels, Operation(kind, 1.5, "mean"), interpolation)
    assert view.shape == pixels.shape
    assert view.dtype == np.uint8


def test_no_operation_returns_the_view_itself() -> None:
    pixels = noise(4, 4)
    assert apply_operations(pixels, (), "bilinear", _MEAN) is pixels


# -- choosing ----------------------------------------------------------------------------------------------


def _operations(count: int, **fields: Any) -> list[tuple[Operation, ...]]:
    augment = Augment(**fields)
    return [choose_operations(augment, sample_generator(0, 0, index), _SIDE) for index in range(count)]


def test_rand_augment_draws_all_operations_equally_often_and_carries_out_half() -> None:
    chosen = _operations(3000, policy="rand-augment", num_operations=2)
    assert {len(operations) for operations in chosen} == {0, 1, 2}
    counts = Counter(operation.kind for operations in chosen for operation in operations)
    # five standard deviations of 6,000 draws: 5 · √(6000 / 4) = 194 of all, 5 · √(6000 / 30) = 71 of one
    assert abs(counts.total() - 3000) < 194
    assert set(counts) == set(_RAND_AUGMENT)
    assert all(abs(count - 200) < 71 for count in counts.values())


def test_trivial_augment_draws_one_of_14_at_one_of_31_strengths() -> None:
    chosen = _operations(7000, policy="trivial-augment")
    assert {len(operations) for operations in chosen} == {0, 1}
    counts = Counter(operations[0].kind if operations else None for operations in chosen)
    assert set(counts) == set(_TRIVIAL_AUGMENT)
    # five standard deviations of a share of 1/14: 5 · √(7000 · 13/196) = 108
    assert all(abs(count - 500) < 108 for count in counts.values())
    angles = {
        operations[0].strength for operations in chosen if operations and operations[0].kind == "rotate"
    }
    # 61 angles, each missed by 500 draws with a probability of 3e-4
    assert len(angles) >= 60
    assert angles <= {sign * 4.5 * place for place in range(31) for sign in (1, -1)}


def test_the_magnitude_spreads_by_its_standard_deviation_and_stays_in_range() -> None:
    angles = np.array(
        [
            abs(operation.strength)
            for operations in _operations(9000, policy="rand-augment", magnitude=7.0, magnitude_std=0.5)
            for operation in operations
            if operation.kind == "rotate"
        ]
    )
    magnitudes = angles / 3
    # Some 600 of them: five standard deviations of their mean are 5 · 0.5 / √600 = 0.1.
    assert abs(magnitudes.mean() - 7) < 0.1
    assert abs(magnitudes.std() - 0.5) < 0.08
    wide = _operations(2000, policy="rand-augment", magnitude=9.0, magnitude_std=10.0)
    rotations = [abs(each.strength) for all_ in wide for each in all_ if each.kind == "rotate"]
    assert min(rotations) == 0
    assert max(rotations) == 30


def test_without_a_standard_deviation_the_magnitude_is_fixed() -> None:
    chosen = _operations(500, policy="rand-augment", magnitude=5.0)
    strengths = {each.strength for all_ in chosen for each in all_ if each.kind == "shear-x"}
    assert strengths == {0.15, -0.15}


def test_none_draws_nothing() -> None:
    generator = sample_generator(0, 0, 0)
    assert choose_operations(Augment(), generator, _SIDE) == ()
    assert generator.random() == sample_generator(0, 0, 0).random()


@pytest.mark.parametrize("channels", ["rgb", "bgr", "gray"])
@pytest.mark.parametrize("policy", ["rand-augment", "trivial-augment"])
def test_a_policy_works_on_the_view_of_every_record(policy: Policy, channels: Channels) -> None:
    count = 1 if channels == "gray" else 3
    record = Preprocess(16, 16, (0.5,) * count, (0.25,) * count, channels=channels)
    augment = Augment("random-resized", flip=True, policy=policy, num_operations=3, erasing=0.3)
    pixels = noise(30, 24, count)
    views = []
    for index in range(40):
        choice = choose(augment, SampleRandom(0, 0, index), 30, 24, record, 16)
        views.append(apply(pixels, choice, record, 16))
        assert views[-1].shape == (16, 16, count)
        assert views[-1].dtype == np.uint8
    assert len({view.tobytes() for view in views}) > 35
