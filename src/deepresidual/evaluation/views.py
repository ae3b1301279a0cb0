"""Views of an image: the crops and sizes that an evaluation averages over.

``one``
    The central crop, as training watches it and as prediction sees it.
``flip``
    The central crop and its mirror image.
``ten-crop``
    Four corners and the center of the resized image, and their mirror images (Krizhevsky et al. 2012,
    section 4.1; He et al. 2015, section 3.4). The corners are those of the whole resized image, as in
    fb.resnet.torch and torchvision. Where resizing leaves nothing to cut, as on CIFAR, the corners are those
    of the image padded with black by an eighth of its side: 4 of 32 px, as training pads it.
``multi-scale``
    The whole image at several lengths of its shorter side, and the mirror images, through the network
    applied fully convolutionally (He et al. 2015, section 3.4).

What is averaged over views are softmax probabilities: "averaging the predictions made by the network's
softmax layer" (2012), "averaging softmax scores" (README of the networks of 2015). Within one fully
convolutional view the logits are averaged over the positions of their map, before the softmax, and
probabilities over mirror images and scales, as Simonyan and Zisserman 2015, section 3.2, to whom the paper
refers, do.

Example:
    >>> Views("ten-crop", image_px=320).cut(pixels, preprocess)      # five (320, 320, 3) uint8
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, assert_never, get_args

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.augment.crop import apply_crop
from deepresidual.errors import ConfigurationError, UnknownNameError
from deepresidual.fields import is_whole
from deepresidual.preprocess import Preprocess

ViewKind: TypeAlias = Literal["one", "flip", "ten-crop", "multi-scale"]

# He et al. 2015, section 3.4: shorter sides for networks trained on 224 px.
_PAPER_PX = 224
_PAPER_SIZES = (224, 256, 384, 480, 640)
_MAX_SIZE = 4096
# A strip of 16,384×10 px with a shorter side of 640 would be a gigapixel.
_MAX_ASPECT = 4


@dataclass(frozen=True)
class Views:
    """The views of an image to score, and their size.

    Attributes:
        kind: ``one``, ``flip``, ``ten-crop`` or ``multi-scale``; see the module.
        sizes: Shorter sides of ``multi-scale`` in pixels; empty: see :meth:`sizes_for`.
        image_px: Side of the crop in pixels; ``None``: the model's own.
        resize_px: Shorter side before the crop in pixels; ``None``: in the model's own ratio to the crop.

    Raises:
        ConfigurationError: The kind is unknown, a number is out of range, or sizes come without
            ``multi-scale``, or a crop with it.
    """

    kind: ViewKind = "one"
    sizes: tuple[int, ...] = ()
    image_px: int | None = None
    resize_px: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(ViewKind):
            raise UnknownNameError("kind of views", self.kind, get_args(ViewKind))
        if self.kind != "multi-scale" and self.sizes:
            raise ConfigurationError(
                f"sizes are given for the views {self.kind!r}", expected="sizes for 'multi-scale' only"
            )
        if self.kind == "multi-scale" and (self.image_px is not None or self.resize_px is not None):
            raise ConfigurationError(
                "image_px or resize_px is given for the views 'multi-scale'",
                remedy="give sizes: it shows whole images",
            )
        for size in self.sizes:
            if not is_whole(size, 1, _MAX_SIZE):
                raise ConfigurationError(
                    f"a size is {size!r}", expected=f"whole numbers of pixels from 1 to {_MAX_SIZE:,}"
                )
        if len(set(self.sizes)) < len(self.sizes):
            raise ConfigurationError(f"the sizes {list(self.sizes)} repeat one", expected="each size once")

    @classmethod
    def of(cls, views: Views | str) -> Views:
        """Return views as they are, or those of a kind at the model's own size."""
        return views if isinstance(views, Views) else cls(views)  # type: ignore[arg-type]  # checked there

    def to_dict(self) -> dict[str, Any]:
        """Return what was asked for as JSON types; what was left out is absent."""
        fields = {"sizes": list(self.sizes), "image_px": self.image_px, "resize_px": self.resize_px}
        return {"kind": self.kind, **{name: value for name, value in fields.items() if value}}

    @property
    def is_mirrored(self) -> bool:
        """Whether the mirror image of every view is scored, too."""
        return self.kind != "one"

    @property
    def are_whole(self) -> bool:
        """Whether the views show whole images, whose sizes differ."""
        return self.kind == "multi-scale"

    def preprocess(self, usual: Preprocess) -> Preprocess:
        """Return the record by which the views are made, from the model's usual one.

        Raises:
            ConfigurationError: The crop is larger than the resized image.
        """
        if self.are_whole:
            # A mean image fits one square only; elsewhere its average, which is ``mean``, is subtracted.
            return dataclasses.replace(usual, mean_image=None)
        record = usual if self.image_px is None else usual.at_size(self.image_px)
        return record if self.resize_px is None else dataclasses.replace(record, resize_px=self.resize_px)

    def sizes_for(self, preprocess: Preprocess) -> tuple[int, ...]:
        """Return the shorter sides of ``multi-scale``, in pixels.

        Those that were asked for; else the paper's (224, 256, 384, 480, 640) in proportion to the crop, for
        a network that sees a part of a larger image and was trained on parts of various scales. One that has
        seen whole images at one scale only, as on CIFAR, gets that scale and an eighth less: enlarged images
        it takes for others (docs/results.md).
        """
        if self.sizes:
            return self.sizes
        crop_px = preprocess.crop_px
        if preprocess.resize_px > crop_px:
            proportional = [round(size * crop_px / _PAPER_PX) for size in _PAPER_SIZES]
        else:
            proportional = [crop_px - crop_px // 8, crop_px]
        return tuple(dict.fromkeys(proportional))

    def num_pixels(self, preprocess: Preprocess) -> int:
        """Return about how many pixels the views of one photo have, mirror images not counted."""
        match self.kind:
            case "one" | "flip":
                return preprocess.crop_px**2
            case "ten-crop":
                return 5 * preprocess.crop_px**2
            case "multi-scale":
                return sum(size * size * 3 // 2 for size in self.sizes_for(preprocess))
            case _:
                assert_never(self.kind)

    def cut(self, pixels: NDArray[np.uint8], preprocess: Preprocess) -> list[NDArray[np.uint8]]:
        """Return the views of one image without their mirror images.

        Args:
            pixels: ``(H, W, C)`` uint8 in the record's channels, any size.
            preprocess: Result of :meth:`preprocess`.

        Returns:
            ``(S, S, C)`` uint8 each, the central crop first where there are several; of ``multi-scale``
            ``(H', W', C)``, one a size.
        """
        match self.kind:
            case "one" | "flip":
                return [preprocess.center_view(pixels)]
            case "ten-crop":
                return [preprocess.center_view(pixels), *_corners(pixels, preprocess)]
            case "multi-scale":
                return [_whole(pixels, size, preprocess) for size in self.sizes_for(preprocess)]
            case _:
                assert_never(self.kind)


def _corners(pixels: NDArray[np.uint8], preprocess: Preprocess) -> Iterator[NDArray[np.uint8]]:
    """Yield the corners of the resized image: top left, top right, bottom left, bottom right."""
    height, width = pixels.shape[:2]
    shorter, crop_px = min(height, width), preprocess.crop_px
    resized_height, resized_width = (preprocess.resize_px * side // shorter for side in (height, width))
    pad_px = 0 if preprocess.resize_px > crop_px else crop_px // 8
    pixel_y, pixel_x = height / resized_height, width / resized_width
    for top in (-pad_px, resized_height - crop_px + pad_px):
        for left in (-pad_px, resized_width - crop_px + pad_px):
            right, bottom = (left + crop_px) * pixel_x, (top + crop_px) * pixel_y
            if not pad_px:
                # The last pixel ends where the image does, not a rounding error behind it.
                right, bottom = min(right, width), min(bottom, height)
            box = (left * pixel_x, top * pixel_y, right, bottom)
            yield apply_crop(pixels, box, preprocess, crop_px)


def _whole(pixels: NDArray[np.uint8], size: int, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Resize the shorter side to ``size``; of an image longer than four times that the middle is taken."""
    height, width = pixels.shape[:2]
    most = _MAX_ASPECT * min(height, width)
    top, left = ((side - min(side, most)) // 2 for side in (height, width))
    height, width = min(height, most), min(width, most)
    resized_height, resized_width = (size * side // min(height, width) for side in (height, width))
    box = (float(left), float(top), float(left + width), float(top + height))
    return preprocess.resize(pixels, box, resized_width, resized_height)
