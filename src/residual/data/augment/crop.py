"""Which part of an image is shown, and its way to the size of the training image."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, TypeAlias, assert_never

import numpy as np

from residual.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from residual.preprocess import Preprocess
    from residual.recipe import Augment
    from residual.runtime.random import SampleRandom

__all__ = ["Box", "apply_crop", "check_crop", "choose_box"]

Box: TypeAlias = tuple[float, float, float, float]
"""A part of an image: left, top, right, bottom, in pixels."""

# From four times as large on, an image is first averaged over whole pixels down to twice the size, which
# costs a fraction of a filter that wide and cannot be told from it (Pillow, Image.resize, reducing_gap).
_REDUCING_GAP = 2.0


def check_crop(augment: Augment, side_px: int) -> None:
    """Refuse a ``scale-jitter`` whose smaller images could not hold the square that is cut from them.

    Were such lengths clamped, all of them would become the same one, and the jitter that was asked for
    would not be the one that happens.

    Raises:
        ConfigurationError: ``min_side_px`` is below ``side_px``.
    """
    if augment.crop == "scale-jitter" and augment.min_side_px < side_px:
        raise ConfigurationError(
            f"min_side_px is {augment.min_side_px} and the training images have {side_px} px",
            expected=f"a min_side_px of at least {side_px}",
        )


def choose_box(
    augment: Augment, random: SampleRandom, height: int, width: int, preprocess: Preprocess, side_px: int
) -> Box:
    """Return the part of an image of ``height`` × ``width`` pixels that is shown."""
    match augment.crop:
        case "center" | "pad":
            left, top, right, bottom = _at_side(preprocess, side_px).center_box(height, width)
            if augment.crop == "center":
                return (left, top, right, bottom)
            # Shifted by whole pixels of the input, as cutting from a padded input does.
            across, down = (
                math.floor(number * (2 * augment.pad_px + 1)) - augment.pad_px
                for number in random.uniforms[:2]
            )
            move_x, move_y = across * (right - left) / side_px, down * (bottom - top) / side_px
            return (left + move_x, top + move_y, right + move_x, bottom + move_y)
        case "random-resized":
            return _resized_box(random.generator, height, width, augment.min_area)
        case "scale-jitter":
            return _jittered_box(
                random.generator, height, width, augment.min_side_px, augment.max_side_px, side_px
            )
        case _:
            assert_never(augment.crop)


def apply_crop(
    pixels: NDArray[np.uint8], box: Box, preprocess: Preprocess, side_px: int
) -> NDArray[np.uint8]:
    """Return a part of an image: ``(H, W, C)`` → ``(side_px, side_px, C)``; outside the image is black."""
    left, top, right, bottom = box
    height, width = pixels.shape[:2]
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if inside == box:
        return _resize(pixels, box, preprocess, side_px, side_px)
    # Where the part that lies inside the image begins and ends, in pixels of the view.
    scale_x, scale_y = side_px / (right - left), side_px / (bottom - top)
    columns = slice(round((inside[0] - left) * scale_x), round((inside[2] - left) * scale_x))
    rows = slice(round((inside[1] - top) * scale_y), round((inside[3] - top) * scale_y))
    view = np.zeros((side_px, side_px, pixels.shape[2]), dtype=np.uint8)
    if inside[0] < inside[2] and inside[1] < inside[3] and view[rows, columns].size:
        view[rows, columns] = _resize(
            pixels, inside, preprocess, columns.stop - columns.start, rows.stop - rows.start
        )
    return view


def _resize(
    pixels: NDArray[np.uint8], box: Box, preprocess: Preprocess, width: int, height: int
) -> NDArray[np.uint8]:
    return preprocess.resize(pixels, box, width, height, reducing_gap=_REDUCING_GAP)


@functools.lru_cache(maxsize=64)
def _at_side(preprocess: Preprocess, side_px: int) -> Preprocess:
    # A record of another size is checked as it is made, which is too much for every sample.
    return preprocess if side_px == preprocess.crop_px else preprocess.at_size(side_px)


def _resized_box(generator: Generator, height: int, width: int, min_area: float) -> Box:
    """Draw a box of area [min_area, 1] and aspect ratio [3/4, 4/3]; the center after ten misses."""
    for _ in range(10):
        area = height * width * generator.uniform(min_area, 1)
        ratio = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = float(generator.integers(width - box_width + 1))
            top = float(generator.integers(height - box_height + 1))
            return (left, top, left + box_width, top + box_height)
    side = float(min(height, width))
    left, top = (width - side) // 2, (height - side) // 2
    return (left, top, left + side, top + side)


def _jittered_box(
    generator: Generator, height: int, width: int, min_side_px: int, max_side_px: int, side_px: int
) -> Box:
    """Draw what a square of the image shows after its shorter side was resized to a random length.

    The square begins at a whole pixel of the resized image, whose longer side is rounded down as
    torchvision's Resize does. Both steps become one resize of the part that the square shows.
    """
    shorter_px = int(generator.integers(min_side_px, max_side_px + 1))
    resized_height, resized_width = (shorter_px * side // min(height, width) for side in (height, width))
    left = int(generator.integers(resized_width - side_px + 1))
    top = int(generator.integers(resized_height - side_px + 1))
    pixel_x, pixel_y = width / resized_width, height / resized_height
    return (left * pixel_x, top * pixel_y, (left + side_px) * pixel_x, (top + side_px) * pixel_y)
