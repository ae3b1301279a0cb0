"""Masks of boxes as pixels of the image."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deepresidual.data.pasted_masks import pasted_masks
from tests.conftest import examples

SIZE = (40, 60)


def reference(cells: NDArray[np.float32], box: tuple[float, ...]) -> NDArray[np.float32]:
    """Return the likelihood of every pixel, by grid_sample (detectron2's rule)."""
    left, top, right, bottom = box
    across = (torch.arange(SIZE[1]) + 0.5 - left) / (right - left) * 2 - 1
    down = (torch.arange(SIZE[0]) + 0.5 - top) / (bottom - top) * 2 - 1
    grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)[None]
    found = torch.nn.functional.grid_sample(
        torch.from_numpy(cells)[None, None], grid.float(), align_corners=False
    )
    return found[0, 0].numpy()


@settings(max_examples=examples(60))
@given(st.floats(-5, 50), st.floats(-5, 30), st.floats(0.5, 40), st.floats(0.5, 40), st.integers(0, 9))
def test_cells_are_pasted_as_grid_sample_reads_them(
    left: float, top: float, width: float, height: float, seed: int
) -> None:
    cells = np.random.default_rng(seed).random((1, 7, 7), np.float32)
    box = (left, top, left + width, top + height)
    masks = pasted_masks(cells, np.array([box], np.float32), SIZE)
    expected = reference(cells[0], tuple(np.array(box, np.float32).tolist()))
    crop, found = masks.crop(0), np.zeros(SIZE, np.uint8)
    rows, columns = crop.pixels.shape
    found[crop.top : crop.top + rows, crop.left : crop.left + columns] = crop.pixels
    clear = np.abs(expected - 0.5) > 1e-3
    np.testing.assert_array_equal(found[clear], (expected >= 0.5)[clear])


def test_a_full_mask_of_whole_pixels_is_its_box() -> None:
    masks = pasted_masks(np.ones((2, 28, 28), np.float32), np.array([[3, 4, 31, 32], [0, 0, 60, 40]]), SIZE)
    assert [masks.crop(row).box for row in range(2)] == [(3, 4, 31, 32), (0, 0, 60, 40)]
    assert masks.areas().tolist() == [28 * 28, 60 * 40]


def test_what_lies_outside_of_the_image_is_nothing() -> None:
    masks = pasted_masks(np.ones((1, 4, 4), np.float32), np.array([[70.0, 5, 90, 20]], np.float32), SIZE)
    assert masks.areas().tolist() == [0]


@pytest.mark.parametrize("count", [0, 3])
def test_there_are_as_many_masks_as_boxes(count: int) -> None:
    cells = np.zeros((count, 4, 4), np.float32)
    assert len(pasted_masks(cells, np.zeros((count, 4), np.float32), SIZE)) == count


_PHOTO = """
import resource, sys
import numpy as np
from deepresidual.data.objects import Objects
from deepresidual.data.pasted_masks import pasted_masks
from deepresidual.reporting.boxes import paint_objects

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

size, random = (3000, 4000), np.random.default_rng(0)
row, column = np.mgrid[:28, :28]
discs = random.uniform(8, 14, 100)[:, None, None] - np.hypot(row - 13.5, column - 13.5)
corners = random.uniform(0, 1, (100, 2)) * (3000, 2200)
boxes = np.concatenate([corners, corners + random.uniform(100, 800, (100, 2))], axis=1)
boxes[:5] = (0, 0, 4000, 3000)
paint_objects(np.zeros((8, 8, 3), np.uint8), Objects([[1, 1, 5, 5]], [0]), ["cat"])
photo = np.zeros((*size, 3), np.uint8)
before = peak_mb()
masks = pasted_masks((1 / (1 + np.exp(-discs))).astype(np.float32), boxes, size)
pasted = peak_mb()
assert (masks.areas() > 1000).all() and masks.areas()[0] > 4_000_000
paint_objects(photo, Objects(boxes, [0] * 100, scores=[0.5] * 100, masks=masks), ["cat"])
print(round(pasted - before), round(peak_mb() - before))
"""


@pytest.mark.test_all
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_a_hundred_masks_of_a_photo_of_12_megapixels_take_little_memory() -> None:
    """The pixels of all of them together, as torchvision pastes them, are 4.8 GB."""
    done = subprocess.run([sys.executable, "-c", _PHOTO], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pasted_mb, drawn_mb = map(int, done.stdout.split())
    assert pasted_mb < 150
    assert drawn_mb < 300
