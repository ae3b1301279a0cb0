"""Drawn boxes: where they lie, what colour they have, and tags that stay in the picture and apart."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from deepresidual.backends.detected import Detected
from deepresidual.data.objects import Objects
from deepresidual.reporting.boxes import (
    class_color,
    draw_objects,
    paint_objects,
    picture_suffix,
    place_tags,
)

GRAY = np.full((480, 640, 3), 128, np.uint8)
NAMES = ("cat", "dog")


def objects(*boxes: tuple[float, float, float, float], labels: tuple[int, ...] = ()) -> Objects:
    """Return objects with falling scores."""
    scores = np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)
    return Objects(np.array(boxes, np.float32), np.array(labels or [0] * len(boxes)), scores=scores)


def rgb(color: str) -> NDArray[np.uint8]:
    """Return a colour as three numbers."""
    return np.array(tuple(bytes.fromhex(color[1:])), np.uint8)


def test_the_line_lies_on_the_box_in_the_colour_of_the_class() -> None:
    painted = paint_objects(GRAY, objects((100, 200, 300, 400), (400, 50, 600, 150), labels=(0, 1)), NAMES)
    for x, y, label in ((100, 300, 0), (300, 300, 0), (200, 400, 0), (400, 100, 1), (500, 150, 1)):
        assert (painted[y, x] == rgb(class_color(label))).all()
    assert (painted[300, 200] == 128).all()  # inside of the box
    assert (painted[450, 50] == 128).all()  # far away
    assert (GRAY == 128).all()  # the image itself is as it was


def test_the_edge_of_the_line_is_smooth() -> None:
    white = np.full_like(GRAY, 255)
    shades = [
        len(np.unique(paint_objects(white, objects((x, 200.0, x + 200, 400.0)), NAMES)[300], axis=0))
        for x in (100.0, 100.3)
    ]
    assert min(shades) > 3  # paper, line, halo, and what lies between


def test_small_pictures_are_enlarged_and_large_ones_keep_their_size() -> None:
    assert paint_objects(np.zeros((64, 64, 3), np.uint8), Objects.none(), NAMES).shape == (384, 384, 3)
    assert paint_objects(np.zeros((40, 900, 3), np.uint8), Objects.none(), NAMES).shape == (40, 900, 3)
    assert paint_objects(GRAY, Objects.none(), NAMES).shape == GRAY.shape


BOXES = st.lists(
    st.tuples(
        *[st.floats(0, 600, width=32) for _ in range(2)], *[st.floats(1, 300, width=32) for _ in range(2)]
    ),
    min_size=1,
    max_size=12,
)


@given(BOXES, st.sampled_from([(480, 640), (30, 700), (700, 30)]))
def test_tags_stay_inside_of_the_picture(
    corners: list[tuple[float, float, float, float]], size: tuple[int, int]
) -> None:
    height, width = size
    boxes = [(min(x, width - 1), min(y, height - 1), x + w, y + h) for x, y, w, h in corners]
    for tag in place_tags(objects(*boxes), ("a long name of a class", "b"), height, width):
        left, top, right, bottom = tag.box
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height


def test_tags_do_not_cover_each_other_where_there_is_room() -> None:
    found = objects((100, 100, 300, 300), (100, 102, 300, 310), (104, 100, 310, 300), (0, 0, 120, 60))
    boxes = [tag.box for tag in place_tags(found, NAMES, 480, 640)]
    for first, second in itertools.combinations(boxes, 2):
        is_apart = (
            first[2] <= second[0] or second[2] <= first[0] or first[3] <= second[1] or second[3] <= first[1]
        )
        assert is_apart


def crowd(labels: tuple[int, ...] = ()) -> Objects:
    """Return 40 objects of 12 x 12 pixels, one beside the other: smaller than what a tag says."""
    corners = [(100.0 + 14 * x, 200.0 + 14 * y) for y in range(5) for x in range(8)]
    return objects(*[(x, y, x + 12, y + 12) for x, y in corners], labels=labels)


def test_of_many_small_objects_tags_say_less_or_are_left_out() -> None:
    texts = [tag.text for tag in place_tags(crowd(), NAMES, 480, 640)]
    assert texts[0] == "cat 0.90"  # once, so that the colour is explained
    assert 0 < len(texts[1:]) < 39
    assert {len(text) for text in texts[1:]} == {len("0.90")}


def test_of_several_classes_the_shorter_tag_is_the_class_and_each_has_one() -> None:
    tags = place_tags(crowd((0,) * 39 + (1,)), NAMES, 480, 640)
    assert {tag.text for tag in tags if tag.color == class_color(0)} == {"cat 0.90", "cat"}
    assert [tag.text for tag in tags if tag.color == class_color(1)] == ["dog 0.50"]


def test_annotated_objects_of_one_class_are_named_once_where_they_are_small_and_many() -> None:
    annotated = Objects(crowd().boxes, crowd().labels)
    assert [tag.text for tag in place_tags(annotated, NAMES, 480, 640)] == ["cat"]


def test_a_class_without_a_name_has_the_score_alone() -> None:
    found = objects((100, 100, 200, 200), (300, 300, 400, 400), labels=(0, 1))
    assert [tag.text for tag in place_tags(found, ("", "x"), 480, 640)] == ["0.90", "x 0.50"]
    annotated = Objects(found.boxes, found.labels)
    assert [tag.text for tag in place_tags(annotated, ("", "x"), 480, 640)] == ["x"]


def test_a_small_object_alone_has_its_whole_tag() -> None:
    assert [tag.text for tag in place_tags(objects((5, 5, 9, 9)), NAMES, 480, 640)] == ["cat 0.90"]


def test_annotated_objects_have_no_score() -> None:
    annotated = Objects(np.array([[100, 100, 300, 300]], np.float32), np.array([0]))
    both = (annotated, objects((100, 100, 300, 300)))
    assert [tag.text for each in both for tag in place_tags(each, NAMES, 480, 640)] == ["cat", "cat 0.90"]


def test_twenty_classes_and_one_have_colours_of_their_own() -> None:
    assert len({class_color(label) for label in range(21)}) == 21
    assert class_color(21) == class_color(0)


@pytest.mark.parametrize(
    ("path", "suffix", "kind"),
    [
        ("a.PNG", ".png", "PNG"),
        ("a.jpeg", ".jpeg", "JPEG"),
        ("a.webp", ".webp", "WEBP"),
        ("a.tif", ".jpg", "JPEG"),
    ],
)
def test_a_picture_has_the_format_of_its_photo_or_is_a_jpeg(path: str, suffix: str, kind: str) -> None:
    assert picture_suffix(path) == suffix
    detected = Detected(objects((100, 100, 300, 300)), NAMES, 480, 640)
    with Image.open(io.BytesIO(draw_objects(GRAY, detected, suffix=suffix))) as picture:
        assert (picture.format, picture.size) == (kind, (640, 480))


def test_what_would_steer_a_terminal_is_written_as_text() -> None:
    (tag,) = place_tags(objects((100, 100, 300, 300)), ("белка\n\x1b[2J", "b"), 480, 640)
    assert tag.text == "белка\\n\\x1b[2J 0.90"
