"""The whole of an augmentation: what is chosen for one sample, and how it is applied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.augment.color import ColorChoice, apply_color, choose_color
from deepresidual.data.augment.crop import (
    Box,
    apply_crop,
    check_crop,
    choose_box,
    mirror,
    placement,
    resized_box,
    surroundings,
)
from deepresidual.data.augment.erasing import choose_rectangle, erase
from deepresidual.data.augment.policy import Operation, apply_operations, choose_operations, moves_of
from deepresidual.data.augment.window import Window
from deepresidual.errors import ConfigurationError
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import WHOLE_CROPS, Augment, PadFill
from deepresidual.runtime.random import SampleRandom


@dataclass(frozen=True)
class Choice:
    """Random augmentation chosen for one sample in one epoch.

    Attributes:
        box: Part of the image that is shown: left, top, right, bottom, in pixels. It may reach over the
            edges by the padding.
        flip: Whether to mirror left and right.
        operations: What the policy does to the view, in order.
        color: How its colours change.
        erased: Rectangle of the view that is painted over: left, top, right, bottom, in pixels.
        exact: Whether the view has to be what evaluation would make of that part. Where the part was drawn
            at random a faster filter is taken, and JPEGs may be decoded smaller.
        fill: What the view shows outside the image.
    """

    box: Box
    flip: bool
    operations: tuple[Operation, ...] = ()
    color: ColorChoice | None = None
    erased: tuple[int, int, int, int] | None = None
    exact: bool = True
    fill: PadFill = "black"


def check_augment(augment: Augment, preprocess: Preprocess, side_px: int) -> None:
    """Hold an augmentation against the images that it is for.

    Raises:
        ConfigurationError: ``scale-jitter`` makes images that are smaller than the training image,
            ``pca_lighting`` is asked of gray images, or a crop is for whole images and these are not.
    """
    check_crop(augment, side_px)
    if augment.crop in WHOLE_CROPS and preprocess.fit != "whole":
        raise ConfigurationError(
            f"crop is {augment.crop!r} and the network sees the central square",
            expected="data with boxes, whose images are seen whole",
        )
    if augment.pca_lighting and preprocess.channels == "gray":
        raise ConfigurationError(
            f"pca_lighting is {augment.pca_lighting:g} and the network reads gray images",
            expected="images in colour",
            remedy="set pca_lighting to 0",
        )


def choose(
    augment: Augment, random: SampleRandom, height: int, width: int, preprocess: Preprocess, side_px: int
) -> Choice:
    """Decide the variation of one image: the same arguments give the same choice.

    The crops ``center`` and ``pad`` and the mirroring take the sample's ``uniforms``, so that they can also
    be chosen for many samples at once; everything else draws from its ``generator``.

    Args:
        augment: What may be varied.
        random: The random numbers of this sample in this epoch.
        height: Height of the upright image in pixels.
        width: Its width.
        preprocess: The preprocessing record of the network.
        side_px: Side of the training image in pixels; it may differ from ``preprocess.crop_px``.

    Raises:
        ConfigurationError: As :func:`check_augment`.
    """
    check_augment(augment, preprocess, side_px)
    box = choose_box(augment, random, height, width, preprocess, side_px)
    flip = augment.flip and random.uniforms[2] < 0.5
    if flip and preprocess.fit == "whole" and box[2] > width:
        # So that a mirrored image, too, begins in the upper left corner: what is behind it is cut off.
        box = (width - (box[2] - box[0]), box[1], float(width), box[3])
    return Choice(
        box=box,
        flip=flip,
        operations=choose_operations(augment, random.generator, side_px) if augment.policy != "none" else (),
        color=choose_color(augment, random.generator)
        if augment.color_jitter or augment.pca_lighting
        else None,
        erased=choose_rectangle(augment.erasing, random.generator, side_px) if augment.erasing else None,
        exact=augment.crop in ("center", "pad"),
        fill=augment.pad_fill if preprocess.fit == "crop" else "mean",  # as in evaluation
    )


def center_choice(preprocess: Preprocess, height: int, width: int) -> Choice:
    """Return the choice whose view is :meth:`Preprocess.center_view`: what evaluation shows."""
    fill: PadFill = "black" if preprocess.fit == "crop" else "mean"
    return Choice(preprocess.center_box(height, width), flip=False, fill=fill)


def window_of(choice: Choice, height: int, width: int, preprocess: Preprocess, side_px: int) -> Window:
    """Return where each place of an image lies in the view that :func:`apply` makes of it.

    Args:
        choice: What was chosen.
        height: Height of the upright image in pixels.
        width: Its width.
        preprocess: The preprocessing record of the network.
        side_px: Side of the view in pixels.
    """
    place = placement(choice.box, height, width, side_px, exact=choice.exact)
    columns, rows = place.columns, place.rows
    if place.moved is not None:
        scale_x, scale_y = side_px / width, side_px / height
        shift_x, shift_y = (float(-by) for by in place.moved)
    else:
        shown = place.inside
        if place.fills:
            shown = resized_box(preprocess, choice.box, exact=choice.exact)
        left, top, right, bottom = shown
        scale_x = (columns.stop - columns.start) / max(right - left, 1e-9)
        scale_y = (rows.stop - rows.start) / max(bottom - top, 1e-9)
        shift_x, shift_y = columns.start - left * scale_x, rows.start - top * scale_y
    inside = (columns.start, rows.start, columns.stop, rows.stop)
    if choice.flip:
        scale_x, shift_x = -scale_x, side_px - shift_x
        inside = (side_px - inside[2], inside[1], side_px - inside[0], inside[3])
    turned = moves_of(choice.operations, side_px)
    return Window((height, width), side_px, (scale_x, scale_y), (shift_x, shift_y), inside, turned)


def apply(
    pixels: NDArray[np.uint8], choice: Choice, preprocess: Preprocess, side_px: int
) -> NDArray[np.uint8]:
    """Return the chosen view of an image.

    Args:
        pixels: ``(H, W, C)`` uint8, in the order of ``preprocess.channels``; never changed.
        choice: What :func:`choose` returned for it.
        preprocess: The preprocessing record of the network.
        side_px: Side of the training image in pixels.

    Returns:
        ``(side_px, side_px, C)`` uint8, which may be a view of ``pixels``.
    """
    outside = surroundings(preprocess, side_px, choice.fill)
    if outside is not None and choice.flip:
        outside = outside[:, ::-1]  # so that a mean image lies where it is subtracted
    view = apply_crop(pixels, choice.box, preprocess, side_px, exact=choice.exact, outside=outside)
    if choice.flip:
        view = mirror(view)
    if choice.operations or choice.color is not None:
        # Luma and the principal components are defined on red, green, blue.
        order = slice(None, None, -1 if preprocess.channels == "bgr" else 1)
        colours = apply_operations(
            view[:, :, order], choice.operations, preprocess.interpolation, preprocess.mean[order]
        )
        if choice.color is not None:
            colours = apply_color(colours, choice.color)
        view = colours[:, :, order]
    if choice.erased is not None:
        view = erase(view, choice.erased, preprocess.mean)
    return view
