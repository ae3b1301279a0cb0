"""Automatic augmentation: RandAugment and TrivialAugment, as lists of a few well-known operations.

RandAugment (Cubuk et al. 2019, arXiv 1909.13719) is timm's ``rand-mM-nN-mstdS-inc1``, which the recipes of
Wightman et al. 2021 (arXiv 2110.00476) name: ``num_operations`` draws with replacement from 15 operations,
each of them carried out with probability 1/2, at a strength that grows with the magnitude. TrivialAugment
(Müller and Hutter 2021, arXiv 2103.10158) is torchvision's ``TrivialAugmentWide``: one of 14 operations at
one of 31 strengths. The operations are Pillow's, as there; the random numbers are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, assert_never

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from deepresidual.data.augment.window import Affine
from deepresidual.preprocess import Interpolation
from deepresidual.recipe import Augment

if TYPE_CHECKING:
    from PIL import Image
    from PIL.Image import Resampling

OperationKind: TypeAlias = Literal[
    "auto-contrast",
    "equalize",
    "invert",
    "rotate",
    "posterize",
    "solarize",
    "solarize-add",
    "saturation",
    "contrast",
    "brightness",
    "sharpness",
    "shear-x",
    "shear-y",
    "translate-x",
    "translate-y",
]

_ALWAYS_THE_SAME: tuple[OperationKind, ...] = ("auto-contrast", "equalize", "invert")
_ENHANCEMENTS: tuple[OperationKind, ...] = ("saturation", "contrast", "brightness", "sharpness")

_RAND_AUGMENT: tuple[OperationKind, ...] = (
    *_ALWAYS_THE_SAME,
    "rotate",
    "posterize",
    "solarize",
    "solarize-add",
    *_ENHANCEMENTS,
    "shear-x",
    "shear-y",
    "translate-x",
    "translate-y",
)
_RAND_AUGMENT_PROBABILITY = 0.5  # timm's default, which `rand-m7-mstd0.5-inc1` leaves as it is

_TRIVIAL_AUGMENT: tuple[OperationKind | None, ...] = (
    None,
    "shear-x",
    "shear-y",
    "translate-x",
    "translate-y",
    "rotate",
    *_ENHANCEMENTS,
    "posterize",
    "solarize",
    "auto-contrast",
    "equalize",
)
_TRIVIAL_AUGMENT_BINS = 31


@dataclass(frozen=True)
class Operation:
    """One change of a view.

    Attributes:
        kind: Which.
        strength: Degrees counter-clockwise for ``rotate``; pixels to the right or down for ``translate-x``
            and ``-y``; pixels to the left a row, or up a column, for ``shear-x`` and ``-y``; the weight of
            the image itself (1: no change) for saturation, contrast, brightness and sharpness; bits that
            are kept for ``posterize``; the level from which on pixels are inverted for ``solarize``; levels
            that are added to the dark half for ``solarize-add``; without meaning for the others.
        fill: Colour of what comes in from outside.
    """

    kind: OperationKind
    strength: float = 0.0
    fill: Literal["black", "mean"] = "black"


def choose_operations(augment: Augment, generator: Generator, side_px: int) -> tuple[Operation, ...]:
    """Draw the operations of one image whose view has ``side_px`` × ``side_px`` pixels."""
    match augment.policy:
        case "none":
            return ()
        case "rand-augment":
            return _rand_augment(augment, generator, side_px)
        case "trivial-augment":
            return _trivial_augment(generator)
        case _:
            assert_never(augment.policy)


def apply_operations(
    view: NDArray[np.uint8],
    operations: Sequence[Operation],
    interpolation: Interpolation,
    mean: Sequence[float],
) -> NDArray[np.uint8]:
    """Carry out operations one after the other.

    Args:
        view: ``(H, W, 3)`` uint8 RGB or ``(H, W, 1)`` gray.
        operations: What :func:`choose_operations` returned.
        interpolation: Filter of rotation, shear and translation; for ``lanczos``, which Pillow's have not,
            ``bicubic`` takes its place.
        mean: Mean colour on the scale 0 to 1, in the order of the view's channels.

    Returns:
        As ``view``; ``view`` itself where there are no operations.
    """
    if not operations:
        return view
    from PIL import Image

    gray = view.shape[2] == 1
    resampling = Image.Resampling["BICUBIC" if interpolation == "lanczos" else interpolation.upper()]
    levels = tuple(min(255, max(0, round(255 * value))) for value in mean)
    image = Image.fromarray(view[:, :, 0] if gray else view)
    for operation in operations:
        fill = levels if operation.fill == "mean" else (0,) * len(levels)
        image = _carry_out(image, operation.kind, operation.strength, resampling, fill)
    varied = np.asarray(image)
    return varied[:, :, None] if gray else varied


def _rand_augment(augment: Augment, generator: Generator, side_px: int) -> tuple[Operation, ...]:
    operations = []
    for _ in range(augment.num_operations):
        kind = _RAND_AUGMENT[generator.integers(len(_RAND_AUGMENT))]
        happens, negative = generator.random(2) < (_RAND_AUGMENT_PROBABILITY, 0.5)
        magnitude = generator.normal(augment.magnitude, augment.magnitude_std)
        if happens:
            part = min(max(magnitude, 0.0), 10.0) / 10
            strength = _increasing_strength(kind, part, -1 if negative else 1, side_px)
            operations.append(Operation(kind, strength, "mean"))
    return tuple(operations)


def _increasing_strength(kind: OperationKind, part: float, sign: int, side_px: int) -> float:
    """Return timm's "increasing" strength at a ``part`` of 0 to 1 of the largest magnitude."""
    match kind:
        case "rotate":
            return sign * 30 * part
        case "posterize":
            # timm ends at no bits at all, a black image, which Pillow has refused since version 13.
            return max(1, 4 - int(4 * part))
        case "solarize":
            return 256 - int(256 * part)
        case "solarize-add":
            return int(110 * part)
        case "saturation" | "contrast" | "brightness" | "sharpness":
            return max(0.1, 1 + sign * 0.9 * part)
        case "shear-x" | "shear-y":
            return sign * 0.3 * part
        case "translate-x" | "translate-y":
            return sign * 0.45 * part * side_px
        case "auto-contrast" | "equalize" | "invert":
            return 0.0
        case _:
            assert_never(kind)


def _trivial_augment(generator: Generator) -> tuple[Operation, ...]:
    kind = _TRIVIAL_AUGMENT[generator.integers(len(_TRIVIAL_AUGMENT))]
    place, negative = generator.integers([_TRIVIAL_AUGMENT_BINS, 2]).tolist()
    if kind is None:
        return ()
    return (Operation(kind, _wide_strength(kind, place, -1 if negative else 1)),)


def _wide_strength(kind: OperationKind, place: int, sign: int) -> float:
    """Return the strength at a ``place`` of 0 to 30 on the wide scale of TrivialAugment."""
    last = _TRIVIAL_AUGMENT_BINS - 1
    match kind:
        case "rotate":
            return sign * 135 * place / last
        case "posterize":
            return 8 - round(6 * place / last)
        case "solarize":
            return 255 - 255 * place / last
        case "saturation" | "contrast" | "brightness" | "sharpness":
            return 1 + sign * 0.99 * place / last
        case "shear-x" | "shear-y":
            return sign * 0.99 * place / last
        case "translate-x" | "translate-y":
            return sign * (32 * place // last)
        case _:
            return 0.0


def _carry_out(
    image: Image.Image, kind: OperationKind, strength: float, resampling: Resampling, fill: tuple[int, ...]
) -> Image.Image:
    from PIL import ImageEnhance, ImageOps

    match kind:
        case "auto-contrast":
            return ImageOps.autocontrast(image)
        case "equalize":
            return ImageOps.equalize(image)
        case "invert":
            return ImageOps.invert(image)
        case "posterize":
            return ImageOps.posterize(image, int(strength)) if strength < 8 else image
        case "solarize":
            return ImageOps.solarize(image, strength)  # type: ignore[arg-type]  # it only compares
        case "solarize-add":
            table = [min(255, level + int(strength)) if level < 128 else level for level in range(256)]
            return image.point(table * len(image.getbands()))
        case "saturation":
            return ImageEnhance.Color(image).enhance(strength)
        case "contrast":
            return ImageEnhance.Contrast(image).enhance(strength)
        case "brightness":
            return ImageEnhance.Brightness(image).enhance(strength)
        case "sharpness":
            return ImageEnhance.Sharpness(image).enhance(strength)
        case "rotate":
            return image.rotate(strength, resampling, fillcolor=fill)
        case "shear-x" | "shear-y" | "translate-x" | "translate-y":
            return _moved(image, _MOVES[kind](strength), resampling, fill)
        case _:
            assert_never(kind)


def _moved(
    image: Image.Image, place_of: tuple[float, ...], resampling: Resampling, fill: tuple[int, ...]
) -> Image.Image:
    """Return an image whose pixel (x, y) comes from (a·x + b·y + c, d·x + e·y + f) of the old one."""
    from PIL import Image

    return image.transform(image.size, Image.Transform.AFFINE, place_of, resampling, fillcolor=fill)


# From places of the new image to those of the old one, as Pillow's Image.transform takes it.
_MOVES: dict[OperationKind, Callable[[float], Affine]] = {
    "shear-x": lambda strength: (1, strength, 0, 0, 1, 0),
    "shear-y": lambda strength: (1, 0, 0, strength, 1, 0),
    "translate-x": lambda strength: (1, 0, -strength, 0, 1, 0),
    "translate-y": lambda strength: (1, 0, 0, 0, 1, -strength),
}


# -- places -----------------------------------------------------------------------------------------------


def moves_of(operations: Sequence[Operation], side_px: int) -> tuple[Affine, ...]:
    """Return how operations move what a view shows: a map of old places to new ones each, in order.

    Operations that change colours alone have none.

    Args:
        operations: What :func:`choose_operations` returned.
        side_px: Side of the view in pixels.
    """
    return tuple(move for operation in operations if (move := _move_of(operation, side_px)) is not None)


def _move_of(operation: Operation, side_px: int) -> Affine | None:
    if operation.kind == "rotate":
        # Counter-clockwise around the middle of the view, seen with y pointing down.
        cos, sin = math.cos(math.radians(operation.strength)), math.sin(math.radians(operation.strength))
        middle = side_px / 2
        return (cos, sin, middle * (1 - cos - sin), -sin, cos, middle * (1 - cos + sin))
    if operation.kind not in _MOVES:
        return None
    # Each has one number beside those of the identity, whose sign the inverse changes.
    _, b, c, d, _, f = _MOVES[operation.kind](operation.strength)
    return (1, -b, -c, -d, 1, -f)
