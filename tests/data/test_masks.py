"""Masks: polygons and runs, drawn as COCO draws them, whole or as far as they reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from pycocotools import mask as official

from deepresidual.data.masks import Crop, Masks, Runs
from deepresidual.errors import ConfigurationError, DataError

# Of pycocotools' own arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

HEIGHT, WIDTH = 30, 40
TRIANGLE = np.array([(2.0, 3.0), (20.5, 5.0), (9.0, 25.25)])
SQUARE = np.array([(25.0, 10.0), (35.0, 10.0), (35.0, 20.0), (25.0, 20.0)])

bitmaps = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 1))


def pasted(crop: Crop, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the pixels of a whole image."""
    whole = np.zeros(size, np.uint8)
    rows, columns = crop.pixels.shape
    whole[crop.top : crop.top + rows, crop.left : crop.left + columns] = crop.pixels
    return whole


def encoded(bitmap: NDArray[np.uint8]) -> Runs:
    """Return the runs that pycocotools makes of pixels."""
    found: Any = official.encode(np.asfortranarray(bitmap))
    return Runs((bitmap.shape[0], bitmap.shape[1]), found["counts"])


def drawn(*polygons: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return what pycocotools draws."""
    parts = official.frPyObjects([polygon.reshape(-1).tolist() for polygon in polygons], HEIGHT, WIDTH)
    found: NDArray[np.uint8] = official.decode(official.merge(parts))
    return found


@given(bitmaps)
def test_runs_are_read_and_written_as_pycocotools_does(bitmap: NDArray[np.uint8]) -> None:
    runs, size = encoded(bitmap), (bitmap.shape[0], bitmap.shape[1])
    crop = runs.crop()
    np.testing.assert_array_equal(pasted(crop, size), bitmap)
    assert runs.area == bitmap.sum()
    assert runs.lengths().sum() == bitmap.size
    assert Runs.of_crop(crop, size) == runs
    assert Runs.of(runs.lengths(), size) == runs


@given(bitmaps)
def test_a_crop_has_no_empty_edges(bitmap: NDArray[np.uint8]) -> None:
    crop = encoded(bitmap).crop()
    if not bitmap.any():
        assert not crop.pixels.size
        return
    for edge in (crop.pixels[0], crop.pixels[-1], crop.pixels[:, 0], crop.pixels[:, -1]):
        assert edge.any()
    found = Masks.of([encoded(bitmap)]).crop(0)
    assert found.box == crop.box


@pytest.mark.parametrize("polygons", [[TRIANGLE], [TRIANGLE, SQUARE], [SQUARE + 12.3], [TRIANGLE - 7]])
def test_polygons_are_drawn_as_pycocotools_draws_them(polygons: list[NDArray[np.float64]]) -> None:
    masks = Masks.of([polygons]).on((HEIGHT, WIDTH))
    expected = drawn(*polygons)
    np.testing.assert_array_equal(pasted(masks.crop(0), (HEIGHT, WIDTH)), expected)
    assert masks.areas().tolist() == [expected.sum()]
    assert masks.runs(0).to_dict() == {
        "size": [HEIGHT, WIDTH],
        "counts": encoded(expected).counts.decode(),
    }


def test_masks_are_chosen_and_joined_and_keep_their_kind() -> None:
    runs = encoded(drawn(SQUARE))
    masks = Masks.of([[TRIANGLE, SQUARE], None, runs])
    assert masks.known.tolist() == [True, False, True]
    both = Masks.joined([masks[np.array([2, 0])], masks[1:]])
    assert len(both) == 4
    assert both.drawn.tolist() == [True, False, False, True]
    assert [len(polygon) for polygon in both.polygons(1)] == [3, 4]
    np.testing.assert_array_equal(both.polygons(1)[0], TRIANGLE)
    assert both.polygons(2) == []
    assert both.runs(3) == runs
    assert Masks.joined([]).areas().tolist() == []


def test_a_mask_that_is_not_there_covers_nothing() -> None:
    masks = Masks.of([None, [TRIANGLE]]).on((HEIGHT, WIDTH))
    assert masks.areas()[0] == 0
    assert masks.runs(0).lengths().tolist() == [HEIGHT * WIDTH]
    assert not masks.crop(0).pixels.size


def test_fractions_become_pixels() -> None:
    fractions = Masks.of([[TRIANGLE / (WIDTH, HEIGHT)], None])
    scaled = fractions.scaled(WIDTH, HEIGHT).on((HEIGHT, WIDTH))
    np.testing.assert_allclose(scaled.polygons(0)[0], TRIANGLE)
    assert scaled.known.tolist() == [True, False]


def test_runs_of_another_image_are_refused() -> None:
    masks = Masks.of([encoded(drawn(SQUARE))])
    with pytest.raises(
        DataError, match=r"a mask is of an image of 40×30 px, and the image has 30×40"
    ) as told:
        masks.on((WIDTH, HEIGHT))
    assert told.value.kind == "mask-differs"


def test_polygons_are_drawn_on_an_image_whose_size_is_known() -> None:
    with pytest.raises(ConfigurationError, match="the size of the image is not known yet"):
        Masks.of([[TRIANGLE]]).runs(0)


def test_what_changes_with_a_mask() -> None:
    ways = [
        Masks.of([[TRIANGLE]]),
        Masks.of([[TRIANGLE + 1e-9]]),
        Masks.of([None]),
        Masks.of([[TRIANGLE], None]),
        Masks.of([encoded(drawn(SQUARE))]),
    ]
    assert len({masks.tobytes() for masks in ways}) == len(ways)
    assert Masks.of([None, [TRIANGLE]])[1:].tobytes() == ways[0].tobytes()
