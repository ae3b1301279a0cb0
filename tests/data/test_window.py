"""Boxes follow the pixels: through every crop, mirroring, rotation, shear and shift, and back."""

from __future__ import annotations

import dataclasses
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deepresidual.data.augment import Choice, apply, center_choice, choose, window_of
from deepresidual.data.augment.policy import Operation, OperationKind, apply_operations, moves_of
from deepresidual.data.augment.window import Affine, Window
from deepresidual.data.loader import training_view
from deepresidual.data.objects import MIN_VISIBLE, Objects
from deepresidual.preprocess import Fit, Interpolation, Preprocess
from deepresidual.recipe import WHOLE_CROPS, Augment, CropKind, Policy
from deepresidual.runtime.random import SampleRandom
from tests.conftest import examples
from tests.data.pictures import encode

SIDE = 64


def unmoved(*, scale: float = 1.0, turned: tuple[Affine, ...] = ()) -> Window:
    """Return the window of a view that begins in the corner of a square image as large as the view."""
    return Window((SIDE, SIDE), SIDE, (scale, scale), (0.0, 0.0), (0, 0, SIDE, SIDE), turned)


def painted(box: tuple[int, int, int, int], side_px: int = SIDE) -> NDArray[np.uint8]:
    """Return a black gray picture in which a box is white, ``(S, S, 1)``."""
    left, top, right, bottom = box
    pixels = np.zeros((side_px, side_px, 1), np.uint8)
    pixels[top:bottom, left:right] = 255
    return pixels


def found(pixels: NDArray[np.uint8], level: int) -> tuple[float, ...] | None:
    """Return the box around the pixels that are at least so bright."""
    rows, columns = np.nonzero(pixels[:, :, 0] >= level)
    if not len(rows):
        return None
    return (columns.min(), rows.min(), columns.max() + 1.0, rows.max() + 1.0)


@st.composite
def boxes(draw: st.DrawFn, least_px: int = 8) -> tuple[int, int, int, int]:
    left, top = (draw(st.integers(0, SIDE - least_px)) for _ in range(2))
    right, bottom = (draw(st.integers(edge + least_px, SIDE)) for edge in (left, top))
    return (left, top, right, bottom)


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    most: dict[OperationKind, float] = {
        "rotate": 135.0, "shear-x": 0.99, "shear-y": 0.99, "translate-x": 0.45 * SIDE, "translate-y": 32.0
    }  # fmt: skip
    kind = draw(st.sampled_from(sorted(most)))
    return Operation(kind, draw(st.floats(-most[kind], most[kind])))


@settings(max_examples=examples(60))
@given(boxes(), st.lists(operations(), min_size=1, max_size=2))
def test_a_box_lies_around_what_operations_leave_of_its_pixels(
    box: tuple[int, int, int, int], chosen: list[Operation]
) -> None:
    """To 1½ px an operation.

    The filter reaches ½ px further, a pixel ends ½ px from its middle, and the tip of a sheared corner is
    narrower than a pixel.
    """
    view = apply_operations(painted(box), chosen, "bilinear", (0.0,))
    window = unmoved(turned=moves_of(chosen, SIDE))
    (expected,), (share,) = window.shown(np.array([box], np.float32))
    there = found(view, 1)
    tolerance = 1.5 * len(chosen)
    if share and min(expected[2:] - expected[:2]) > 2 * tolerance:
        assert there == pytest.approx(tuple(expected), abs=tolerance)
    elif there is not None:  # a narrow strip, of which the filter may have left something or not
        assert min(there[2] - there[0], there[3] - there[1]) <= 4 * tolerance


@settings(max_examples=examples(60))
@given(boxes(), st.lists(operations(), min_size=1, max_size=2))
def test_the_share_is_that_of_the_pixels_that_are_left(
    box: tuple[int, int, int, int], chosen: list[Operation]
) -> None:
    view = apply_operations(painted(box), chosen, "bilinear", (0.0,))
    _, (share,) = unmoved(turned=moves_of(chosen, SIDE)).shown(np.array([box], np.float32))
    left = view.sum() / 255
    area = (box[2] - box[0]) * (box[3] - box[1])
    # Half a pixel around what is left is blurred at most.
    assert left / area == pytest.approx(
        share, abs=2 * len(chosen) * (box[2] - box[0] + box[3] - box[1]) / area
    )


# -- crops, mirroring and all together --------------------------------------------------------------------

_SIZES = st.tuples(st.integers(40, 160), st.integers(40, 160))
_GEOMETRY = ("rotate", "shear-x", "shear-y", "translate-x", "translate-y")


@st.composite
def painted_images(draw: st.DrawFn) -> tuple[int, int, tuple[int, int, int, int]]:
    """Draw height and width of an image, and a box in it of at least a fifth of its sides."""
    height, width = draw(_SIZES)
    edges = []
    for side in (width, height):
        low = draw(st.integers(0, side - side // 5))
        edges.append((low, draw(st.integers(low + side // 5, side))))
    (left, right), (top, bottom) = edges
    return height, width, (left, top, right, bottom)


def view_and_objects(
    augment: Augment,
    record: Preprocess,
    image: tuple[int, int, tuple[int, int, int, int]],
    seed: int,
    side_px: int = SIDE,
) -> tuple[NDArray[np.uint8], Objects, Choice]:
    """Return a view of a painted image, its object in that view, and what was chosen."""
    height, width, box = image
    choice = choose(augment, SampleRandom(seed, 0, 0), height, width, record, side_px)
    kept = tuple(operation for operation in choice.operations if operation.kind in _GEOMETRY)
    choice = dataclasses.replace(choice, operations=kept)  # others change colours, by which it is found
    pixels = np.zeros((height, width, 1), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    view = apply(pixels, choice, record, side_px)
    objects = Objects(np.array([box], np.float32), np.zeros(1, np.int64))
    return view, objects.seen(window_of(choice, height, width, record, side_px)), choice


def record_of(fit: Fit, interpolation: Interpolation = "bilinear") -> Preprocess:
    resize_px = SIDE if fit == "crop" else 56
    return Preprocess(SIDE, resize_px, (0.0,), (1.0,), interpolation, channels="gray", fit=fit)


def in_view(view: NDArray[np.uint8], objects: Objects, tolerance: float, level: int) -> None:
    """Assert that the object of a view lies where the view shows it."""
    there = found(view, level)
    sides = np.zeros(2) if not len(objects) else objects.boxes[0, 2:] - objects.boxes[0, :2]
    # What is left of a turned box may be a strip from corner to corner, thinner than a pixel.
    thickness = objects.areas.sum() / max(1.0, sides.max())
    if min(sides.min(), thickness) > 2 * tolerance + 2:
        assert there == pytest.approx(tuple(objects.boxes[0]), abs=tolerance)
    elif there is not None and len(objects):
        left, top, right, bottom = objects.boxes[0].tolist()
        assert min(there[0] - left, there[1] - top, right - there[2], bottom - there[3]) >= -tolerance
    elif there is not None:
        assert min(there[2] - there[0], there[3] - there[1]) <= 2 * tolerance


@settings(max_examples=examples(60))
@given(
    painted_images(),
    st.sampled_from([(kind, fit) for fit in get_args(Fit) for kind in get_args(CropKind)]),
    st.booleans(),
    st.sampled_from(get_args(Interpolation)),
    st.sampled_from([32, SIDE]),
    st.integers(0, 2**32),
)
def test_a_box_lies_where_a_crop_shows_its_pixels(
    image: tuple[int, int, tuple[int, int, int, int]],
    kind_and_fit: tuple[CropKind, Fit],
    flip: bool,
    interpolation: Interpolation,
    side_px: int,
    seed: int,
) -> None:
    """To a pixel of the view: where half of the brightness is, the edge lies within that pixel."""
    kind, fit = kind_and_fit
    if kind in WHOLE_CROPS and fit == "crop":
        return
    augment = Augment(kind, flip=flip, min_side_px=SIDE, max_side_px=100, pad_px=9, min_area=0.1)
    view, objects, _ = view_and_objects(augment, record_of(fit, interpolation), image, seed, side_px)
    in_view(view, objects, tolerance=1.0, level=128)


@settings(max_examples=examples(60))
@given(
    painted_images(),
    st.sampled_from([(kind, fit) for fit in get_args(Fit) for kind in get_args(CropKind)]),
    st.sampled_from(["rand-augment", "trivial-augment"]),
    st.integers(0, 2**32),
)
def test_a_box_lies_where_a_crop_and_a_policy_show_its_pixels(
    image: tuple[int, int, tuple[int, int, int, int]],
    kind_and_fit: tuple[CropKind, Fit],
    policy: Policy,
    seed: int,
) -> None:
    """To 1½ px and half a pixel of the image for the crop, and 1½ for every operation.

    The faintest part of an enlarged edge counts, since the tip of a turned corner is faint.
    """
    kind, fit = kind_and_fit
    if kind in WHOLE_CROPS and fit == "crop":
        return
    augment = Augment(kind, flip=True, min_side_px=SIDE, max_side_px=100, policy=policy, magnitude=9)
    view, objects, choice = view_and_objects(augment, record_of(fit), image, seed)
    left, top, right, bottom = choice.box
    enlarged = SIDE / min(right - left, bottom - top)
    in_view(view, objects, tolerance=1.5 + enlarged / 2 + 1.5 * len(choice.operations), level=8)


@settings(max_examples=examples(40))
@given(
    st.tuples(st.integers(200, 700), st.integers(200, 700)),
    st.sampled_from([kind for kind in get_args(CropKind) if kind != "pad"]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_a_box_lies_where_a_large_jpeg_shows_it_that_is_decoded_smaller(
    size: tuple[int, int], kind: CropKind, flip: bool, seed: int
) -> None:
    """To a pixel, and half of one more: of the smaller image the view takes whole pixels."""
    height, width = size
    box = (width // 3, height // 4, width * 3 // 4, height * 2 // 3)
    pixels = np.zeros((height, width, 1), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    content = encode(pixels[:, :, 0], "JPEG", quality=95)
    record = record_of("whole")
    augment = Augment(kind, flip=flip, min_side_px=SIDE, max_side_px=100, min_area=0.1)
    view = training_view(content, augment, SampleRandom(seed, 0, 0), record, SIDE)
    choice = choose(augment, SampleRandom(seed, 0, 0), height, width, record, SIDE)
    objects = Objects(np.array([box], np.float32), np.zeros(1, np.int64))
    seen = objects.seen(window_of(choice, height, width, record, SIDE))
    in_view(view, seen, tolerance=1.5, level=128)


@settings(max_examples=examples(60))
@given(
    painted_images(),
    st.sampled_from(["center", "large-scale-jitter", "multi-scale"]),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_a_view_is_undone_for_what_it_shows_whole(
    image: tuple[int, int, tuple[int, int, int, int]], kind: CropKind, flip: bool, seed: int
) -> None:
    height, width, box = image
    record = record_of("whole")
    augment = Augment(kind, flip=flip, min_side_px=32, max_side_px=64)
    choice = choose(augment, SampleRandom(seed, 0, 0), height, width, record, SIDE)
    window = window_of(choice, height, width, record, SIDE)
    seen = Objects(np.array([box], np.float32), np.zeros(1, np.int64), scores=np.ones(1, np.float32)).seen(
        window
    )
    back = seen.unseen()
    (share,) = window.shown(np.array([box], np.float32))[1]
    if share == 1:
        assert back.boxes[0] == pytest.approx(box, abs=1e-3 * max(height, width))
        assert back.areas[0] == pytest.approx((box[2] - box[0]) * (box[3] - box[1]), rel=1e-3)
    for row in back.boxes:  # what is cut lies within what it is of
        assert (row[:2] >= np.array(box[:2]) - 0.01).all()
        assert (row[2:] <= np.array(box[2:]) + 0.01).all()
    assert back.window is None
    assert len(back) == len(seen) == (share > 0)


def test_evaluation_sees_where_the_central_view_shows() -> None:
    record = record_of("whole")
    pixels = np.zeros((90, 120, 1), np.uint8)
    pixels[30:60, 20:80] = 255
    window = window_of(center_choice(record, 90, 120), 90, 120, record, SIDE)
    (box,) = Objects(np.array([[20, 30, 80, 60]], np.float32), np.zeros(1, np.int64)).seen(window).boxes
    assert found(record.center_view(pixels), 128) == pytest.approx(tuple(box), abs=1)
    assert window.filled == (48, 64)


# -- what becomes of an object ----------------------------------------------------------------------------


def quarter_shown() -> Window:
    """Return the window of a view that shows the upper left quarter of an image of 64 px, twice as large."""
    return unmoved(scale=2.0)


def test_an_object_of_which_little_is_shown_becomes_a_crowd() -> None:
    boxes = np.array([[20, 10, 40, 20], [30, 10, 40, 20], [31, 10, 41, 20], [33, 0, 40, 9]], np.float32)
    seen = Objects(boxes, np.arange(4), difficult=np.array([False, True, False, False])).seen(quarter_shown())
    assert seen.labels.tolist() == [0, 1, 2]  # the last is not in the view
    assert MIN_VISIBLE == 0.25
    assert seen.crowd.tolist() == [False, True, True]  # 60, 20 and 10 hundredths of them are shown
    assert seen.difficult.tolist() == [False, True, False]
    assert seen.boxes.tolist() == [[40, 20, 64, 40], [60, 20, 64, 40], [62, 20, 64, 40]]


def test_a_crowd_stays_one_and_its_area_is_that_of_the_mask() -> None:
    crowd = Objects(
        np.array([[20, 10, 40, 20]], np.float32),
        np.zeros(1, np.int64),
        np.array([True]),
        areas=np.array([50], np.float32),
    )
    seen = crowd.seen(quarter_shown(), seed=7)
    assert seen.crowd.tolist() == [True]
    # 12 of 20 columns are shown, and a pixel is four.
    assert seen.areas == pytest.approx([50 * 0.6 * 4])
    assert (seen.seed, seen.window) == (7, quarter_shown())


def test_of_a_view_that_moves_and_moves_back_what_left_it_is_gone() -> None:
    away_and_back = [Operation("translate-x", 40), Operation("translate-x", -40)]
    window = unmoved(turned=moves_of(away_and_back, SIDE))
    seen = Objects(np.array([[10, 10, 30, 20], [40, 0, 50, 10]], np.float32), np.arange(2)).seen(window)
    assert seen.boxes.tolist() == [[10, 10, 24, 20]]  # columns from 24 on were moved out


def test_colours_move_nothing() -> None:
    assert moves_of([Operation("invert"), Operation("saturation", 1.5)], SIDE) == ()


def test_no_objects_are_seen_as_none() -> None:
    turned = unmoved(turned=moves_of([Operation("rotate", 30)], SIDE))
    for window in (quarter_shown(), turned):
        assert len(Objects.none().seen(window)) == 0
    assert len(Objects.none().seen(quarter_shown()).unseen()) == 0
