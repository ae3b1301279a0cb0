"""The confusion matrix: what its colours mean, who stands beside whom, and that every text can be read."""

from __future__ import annotations

import io
import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deepresidual.reporting.confusion_matrix import (
    class_order,
    confused_groups,
    counts_of,
    matrix_picture,
    matrix_rows,
)
from deepresidual.reporting.palette import contrast

COUNTS = st.lists(st.lists(st.integers(0, 50), min_size=5, max_size=5), min_size=5, max_size=5)
NAMES = ["a", "b", "c", "d", "e"]


@given(COUNTS)
def test_every_cell_counts_once_and_its_text_can_be_read(rows: list[list[int]]) -> None:
    counts = np.array(rows)
    shown = matrix_rows(NAMES, counts)
    assert sorted(row.name for row in shown) == NAMES
    order = [NAMES.index(row.name) for row in shown]
    np.testing.assert_array_equal(
        [[cell.count for cell in row.cells] for row in shown], counts[np.ix_(order, order)]
    )
    for row in shown:
        assert row.total == sum(cell.count for cell in row.cells)
        for cell in row.cells:
            colors = dict(re.findall(r"--([abcd]):(#[0-9a-f]{6})", cell.style))
            assert contrast(colors["a"], colors["b"]) >= 4.5
            assert contrast(colors["c"], colors["d"]) >= 4.5


def test_equal_shares_of_rows_are_equally_strong_and_the_hue_says_right_or_wrong() -> None:
    rows = matrix_rows(["a", "b"], np.array([[30, 30], [1, 1]]))
    right = {cell.style for row in rows for cell in row.cells if cell.is_right}
    wrong = {cell.style for row in rows for cell in row.cells if not cell.is_right}
    assert len(right) == len(wrong) == 1
    assert right != wrong


def test_confused_classes_stand_side_by_side() -> None:
    counts = counts_of(6, [*((row, row, 80) for row in range(6)), (0, 5, 20), (5, 0, 18), (2, 4, 15)])
    order = class_order(counts)
    assert abs(order.index(0) - order.index(5)) == 1
    assert abs(order.index(2) - order.index(4)) == 1
    groups = confused_groups([*"uvwxyz"], counts)
    assert [(group.names, group.inside, group.mistakes) for group in groups] == [
        (("u", "z"), 38, 38),
        (("w", "y"), 15, 15),
    ]


def test_two_classes_keep_their_order() -> None:
    assert class_order(np.array([[1, 9], [9, 1]])) == [0, 1]


@given(st.integers(25, 60), st.integers(0, 5))
def test_the_picture_is_a_pixel_a_cell_and_empty_where_nothing_is(size: int, seed: int) -> None:
    counts = np.random.default_rng(seed).integers(0, 3, (size, size))
    with Image.open(io.BytesIO(matrix_picture(counts))) as image:
        pixels = np.asarray(image)
    order = class_order(counts)
    np.testing.assert_array_equal(pixels[:, :, 3] > 0, counts[np.ix_(order, order)] > 0)


def test_a_thousand_classes_are_ordered_in_seconds() -> None:
    confusions = [(row, (row * 7 + step) % 1000, 3 - step) for row in range(1000) for step in range(3)]
    assert sorted(class_order(counts_of(1000, confusions))) == list(range(1000))
