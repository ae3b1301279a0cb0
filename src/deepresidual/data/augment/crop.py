"""Crop images and resize the crop to the size of training.

The crops ``center`` and ``pad`` show what evaluation shows, or that moved by whole pixels; they are resized
as evaluation does it, by Pillow. Where the part was drawn at random it may begin at a whole pixel as well as
between two, and torch's version of the same filter does, which computes in vectors: 0.35 ms for a part of
280 px to 224, where Pillow takes 1.0 (one core of a Xeon at 2.8 GHz). It rounds its weights to 16 bits and
sees nothing beyond the part: views of photos move by 0.03 of 255 levels in the mean, most along their edges.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import TypeAlias, assert_never

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from deepresidual.errors import ConfigurationError
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Augment, PadFill
from deepresidual.runtime.random import SampleRandom

Box: TypeAlias = tuple[float, float, float, float]
"""A part of an image: left, top, right, bottom, in pixels."""


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
            # Shifted by whole pixels of the input, as cutting from a padded input does; of a smaller training
            # image the same share.
            across, down = pad_shifts(augment, np.array(random.uniforms[:2]), preprocess, side_px).tolist()
            move_x, move_y = across * (right - left) / side_px, down * (bottom - top) / side_px
            return (left + move_x, top + move_y, right + move_x, bottom + move_y)
        case "random-resized":
            return _resized_box(random.generator, height, width, augment.min_area)
        case "scale-jitter":
            return _jittered_box(
                random.generator, height, width, augment.min_side_px, augment.max_side_px, side_px
            )
        case "large-scale-jitter":
            return _scaled_box(random.generator, height, width, augment, preprocess, side_px)
        case "multi-scale":
            return _whole_box(random.generator, height, width, augment, preprocess, side_px)
        case _:
            assert_never(augment.crop)


def pad_shifts(
    augment: Augment, uniforms: NDArray[np.float64], preprocess: Preprocess, side_px: int
) -> NDArray[np.int64]:
    """Return by how many pixels of the training image ``pad`` moves the window, for numbers in [0, 1)."""
    pad_px = round(augment.pad_px * side_px / preprocess.crop_px)
    return np.floor(uniforms * (2 * pad_px + 1)).astype(np.int64) - pad_px


def surroundings(preprocess: Preprocess, side_px: int, fill: PadFill) -> NDArray[np.uint8] | None:
    """Return the fill of a view of ``side_px`` pixels outside of the image; ``None``: black.

    ``(S, S, C)`` uint8, read only. The mean is rounded to a level, so that normalization makes it zero to
    within half a level of 255: under 0.01 with the deviations of CIFAR's and ImageNet's colours. Of a mean
    image it is the very pixel's.
    """
    return None if fill == "black" else _mean_view(preprocess, side_px)


@functools.lru_cache(maxsize=64)
def _mean_view(preprocess: Preprocess, side_px: int) -> NDArray[np.uint8]:
    view = np.empty((side_px, side_px, preprocess.num_channels), dtype=np.uint8)
    image = preprocess.mean_image
    fits = image is not None and image.side_px == side_px
    mean = image.to_array() if image is not None and fits else np.array(preprocess.mean)
    view[:] = np.clip(np.round(mean * 255), 0, 255)
    view.flags.writeable = False
    return view


def apply_crop(
    pixels: NDArray[np.uint8],
    box: Box,
    preprocess: Preprocess,
    side_px: int,
    *,
    exact: bool = True,
    outside: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Return a part of an image: ``(H, W, C)`` → ``(side_px, side_px, C)``.

    Args:
        pixels: ``(H, W, C)`` uint8.
        box: The part; it may reach over the edges.
        preprocess: The record whose filter resizes it.
        side_px: Side of the result in pixels.
        exact: Whether the part begins exactly there and is resized by Pillow, as in evaluation.
        outside: Fill outside of the image, ``(side_px, side_px, C)`` uint8. Default: black.
    """
    place = placement(box, pixels.shape[0], pixels.shape[1], side_px, exact=exact)
    if place.fills:
        resize = preprocess.resize if exact else functools.partial(_resize_quickly, preprocess)
        return resize(pixels, box, side_px, side_px)
    if place.moved is not None:
        # The whole image, moved: resized once and cut from its padding, as papers say it.
        whole = preprocess.resize(pixels, place.inside, side_px, side_px)
        return _shifted(whole, *place.moved, outside)
    shape = (side_px, side_px, pixels.shape[2])
    view = np.zeros(shape, dtype=np.uint8) if outside is None else outside.copy()
    columns, rows = place.columns, place.rows
    if view[rows, columns].size:
        part = preprocess.resize(pixels, place.inside, columns.stop - columns.start, rows.stop - rows.start)
        view[rows, columns] = part
    return view


@dataclass(frozen=True)
class Placement:
    """Where a view shows which part of an image.

    Attributes:
        inside: The part of the box that lies inside the image, in pixels of the image.
        columns: Columns of the view that show it.
        rows: Rows of the view that show it.
        fills: Whether the box does not reach over the edges.
        moved: By how many pixels of the view, across and down, the whole image is moved; ``None``: it is not
            the whole image.
    """

    inside: Box
    columns: slice
    rows: slice
    fills: bool = False
    moved: tuple[int, int] | None = None


def placement(box: Box, height: int, width: int, side_px: int, *, exact: bool = True) -> Placement:
    """Return where a view of ``side_px`` × ``side_px`` pixels shows which part of an image.

    Args:
        box: The part; it may reach over the edges.
        height: Height of the image in pixels.
        width: Its width.
        side_px: Side of the view in pixels.
        exact: Whether the view is made as in evaluation.
    """
    left, top, right, bottom = box
    inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
    if inside == box:
        return Placement(box, slice(0, side_px), slice(0, side_px), fills=True)
    if exact and math.isclose(right - left, width) and math.isclose(bottom - top, height):
        across, down = round(left * side_px / width), round(top * side_px / height)
        columns, rows = (slice(max(0, -by), min(side_px, side_px - by)) for by in (across, down))
        return Placement((0.0, 0.0, float(width), float(height)), columns, rows, moved=(across, down))
    # Where the part that lies inside the image begins and ends, in pixels of the view.
    scale_x, scale_y = side_px / (right - left), side_px / (bottom - top)
    columns = slice(round((inside[0] - left) * scale_x), round((inside[2] - left) * scale_x))
    rows = slice(round((inside[1] - top) * scale_y), round((inside[3] - top) * scale_y))
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        columns = rows = slice(0, 0)
    return Placement(inside, columns, rows)


def _shifted(
    view: NDArray[np.uint8], across: int, down: int, outside: NDArray[np.uint8] | None
) -> NDArray[np.uint8]:
    """Return the part of ``(S, S, C)`` pixels that a window shows when it moves right and down."""
    side = len(view)
    moved = np.zeros_like(view) if outside is None else outside.copy()
    rows, columns = (slice(max(0, -by), min(side, side - by)) for by in (down, across))
    from_rows, from_columns = (slice(max(0, by), min(side, side + by)) for by in (down, across))
    moved[rows, columns] = view[from_rows, from_columns]
    return moved


def mirror(view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy of ``(H, W, C)`` pixels with left and right exchanged."""
    # A channel at a time numpy copies backwards in 50 µs at 224 px, whole pixels in 250. (torch takes 17, but
    # on several threads, which on a machine whose cores are busy wait for each other for milliseconds.)
    mirrored = np.empty(view.shape, dtype=np.uint8)
    for channel in range(view.shape[2]):
        mirrored[:, :, channel] = view[:, ::-1, channel]
    return mirrored


def resized_box(preprocess: Preprocess, box: Box, *, exact: bool) -> Box:
    """Return the part of an image that a view of ``box`` shows: where it need not be exact, whole pixels."""
    left, top, right, bottom = (round(edge) for edge in box)
    if exact or not _is_quick(preprocess) or not (left < right and top < bottom):
        return box
    return (float(left), float(top), float(right), float(bottom))


def _resize_quickly(
    preprocess: Preprocess, pixels: NDArray[np.uint8], box: Box, width: int, height: int
) -> NDArray[np.uint8]:
    """Resize the part that begins and ends at the nearest whole pixels."""
    left, top, right, bottom = (round(edge) for edge in box)
    if not _is_quick(preprocess) or not (left < right and top < bottom):
        return preprocess.resize(pixels, box, width, height)
    if (right - left, bottom - top) == (width, height):
        return pixels[top:bottom, left:right]
    import torch  # what only shows images needs no torch

    # A batch of one in channels-last order, which torch recognizes by the stride of the batch dimension.
    part = torch.from_numpy(np.array(pixels[top:bottom, left:right]))[None].permute(0, 3, 1, 2)
    view = torch.nn.functional.interpolate(
        part, (height, width), mode=preprocess.interpolation, antialias=True
    )
    return view[0].permute(1, 2, 0).numpy()


@functools.lru_cache(maxsize=64)
def _is_quick(preprocess: Preprocess) -> bool:
    """Return whether torch resizes as this record says, and faster than Pillow.

    Where torch has no vectors for it, it is no faster, and spreads over cores that others use.
    """
    import torch

    has_vectors = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    return has_vectors and preprocess.interpolation in ("bilinear", "bicubic")


@functools.lru_cache(maxsize=64)
def _at_side(preprocess: Preprocess, side_px: int) -> Preprocess:
    # A record of another size is checked as it is made, which is too much for every sample.
    return preprocess if side_px == preprocess.crop_px else preprocess.at_size(side_px)


def _resized_box(generator: Generator, height: int, width: int, min_area: float) -> Box:
    """Draw a box of area [min_area, 1] and aspect ratio [3/4, 4/3]; the center after ten misses."""
    for _ in range(10):
        # All four at once: a call of the generator costs more than the number.
        share, shape, across, down = generator.random(4).tolist()
        area = height * width * (min_area + (1 - min_area) * share)
        ratio = (3 / 4) * (16 / 9) ** shape
        box_width, box_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = float(math.floor(across * (width - box_width + 1)))
            top = float(math.floor(down * (height - box_height + 1)))
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
    # The last pixel ends where the image does, not a rounding error behind it.
    right, bottom = min((left + side_px) * pixel_x, width), min((top + side_px) * pixel_y, height)
    return (left * pixel_x, top * pixel_y, right, bottom)


def _scaled_box(
    generator: Generator, height: int, width: int, augment: Augment, preprocess: Preprocess, side_px: int
) -> Box:
    """Draw a scale, and which square of the image scaled so is shown (Ghiasi et al. 2021, section 3).

    The scale is drawn evenly, as a multiple of that of evaluation. Where the scaled image is smaller than the
    square, it lies in the upper left corner.
    """
    low, high = augment.min_scale, augment.max_scale
    usual_height, _ = preprocess.whole_size(height, width)
    pixel = height / usual_height / (low + (high - low) * float(generator.random()))
    side = side_px * pixel
    left, top = (float(generator.random()) * max(0.0, length - side) for length in (width, height))
    return (left, top, left + side, top + side)


def _whole_box(
    generator: Generator, height: int, width: int, augment: Augment, preprocess: Preprocess, side_px: int
) -> Box:
    """Draw the length of the shorter side of the whole image, in steps of 32 px (detectron2's 1x, 3x)."""
    low, high = augment.min_side_px, augment.max_side_px
    shorter_px = low + _SHORTER_STEP_PX * int(generator.integers((high - low) // _SHORTER_STEP_PX + 1))
    record = dataclasses.replace(preprocess, resize_px=min(shorter_px, side_px), crop_px=side_px)
    return record.center_box(height, width)


_SHORTER_STEP_PX = 32
