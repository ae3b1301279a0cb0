"""Augmentation of training images. Choosing is separate from applying.

``choose`` draws from the sample's own generator and returns plain values; ``apply`` is a pure function of
pixels and those values. Both ends of a :class:`Augment` are uint8 ``(H, W, C)``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, assert_never, get_args

import numpy as np

from residual.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from residual.preprocess import Preprocess

__all__ = ["Augment", "Choice", "CropKind"]

CropKind: TypeAlias = Literal["center", "pad", "random-resized"]
"""``center``: no choice. ``pad``: pad and cut at a random place (2015, section 4.2). ``random-resized``: a
random part of the image, stretched to the input (Szegedy et al. 2014, arXiv 1409.4842, section 6)."""


@dataclass(frozen=True)
class Choice:
    """What was decided for one sample in one epoch.

    Attributes:
        box: Part of the image that is shown: left, top, right, bottom, in pixels. It may reach over the
            edges by the padding.
        flip: Whether to mirror left and right.
    """

    box: tuple[float, float, float, float]
    flip: bool


@dataclass(frozen=True)
class Augment:
    """How training images are varied.

    Attributes:
        crop: How the square that the network sees is cut.
        flip: Whether half of the images are mirrored; wrong for digits and text.
        pad_px: Padding on each side for ``pad``, in pixels of the network's input.
        min_area: Smallest part of the image for ``random-resized``, as a fraction of its area.
    """

    crop: CropKind = "center"
    flip: bool = False
    pad_px: int = 4
    min_area: float = 0.08

    def __post_init__(self) -> None:
        if self.crop not in get_args(CropKind):
            raise ConfigurationError(
                f"crop is {self.crop!r}", expected=f"one of {', '.join(get_args(CropKind))}"
            )
        if type(self.flip) is not bool:
            raise ConfigurationError(f"flip is {self.flip!r}", expected="True or False")
        if type(self.pad_px) is not int or not 0 <= self.pad_px <= 1024:
            raise ConfigurationError(f"pad_px is {self.pad_px}", expected="0 to 1024")
        if not 0 < self.min_area <= 1:
            raise ConfigurationError(f"min_area is {self.min_area}", expected="a fraction above 0, at most 1")

    def choose(self, generator: Generator, height: int, width: int, preprocess: Preprocess) -> Choice:
        """Decide the variation of one image of ``height`` × ``width`` pixels."""
        match self.crop:
            case "center" | "pad":
                box = preprocess.center_box(height, width)
                if self.crop == "pad":
                    # Shift by whole pixels of the input, as cutting from a padded input does.
                    left, top, right, bottom = box
                    shift_x, shift_y = generator.integers(-self.pad_px, self.pad_px + 1, size=2).tolist()
                    move_x = shift_x * (right - left) / preprocess.crop_px
                    move_y = shift_y * (bottom - top) / preprocess.crop_px
                    box = (left + move_x, top + move_y, right + move_x, bottom + move_y)
            case "random-resized":
                box = _random_box(generator, height, width, self.min_area)
            case _:
                assert_never(self.crop)
        return Choice(box, flip=self.flip and bool(generator.integers(2)))

    def apply(self, pixels: NDArray[np.uint8], choice: Choice, preprocess: Preprocess) -> NDArray[np.uint8]:
        """Return the chosen view: ``(H, W, C)`` → ``(crop_px, crop_px, C)``; outside the image is black."""
        side = preprocess.crop_px
        left, top, right, bottom = choice.box
        height, width = pixels.shape[:2]
        inside = (max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height)))
        if inside == choice.box:
            view = preprocess.resize(pixels, choice.box, side, side)
        else:
            # Where the part that lies inside the image begins and ends, in pixels of the view.
            scale_x, scale_y = side / (right - left), side / (bottom - top)
            columns = slice(round((inside[0] - left) * scale_x), round((inside[2] - left) * scale_x))
            rows = slice(round((inside[1] - top) * scale_y), round((inside[3] - top) * scale_y))
            view = np.zeros((side, side, pixels.shape[2]), dtype=np.uint8)
            if inside[0] < inside[2] and inside[1] < inside[3] and view[rows, columns].size:
                part = preprocess.resize(pixels, inside, columns.stop - columns.start, rows.stop - rows.start)
                view[rows, columns] = part
        return view[:, ::-1] if choice.flip else view


def _random_box(
    generator: Generator, height: int, width: int, min_area: float
) -> tuple[float, float, float, float]:
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
