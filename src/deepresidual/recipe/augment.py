"""Data augmentation as values: each image by itself (``Augment``), or in pairs (``Mix``).

What these values do to pixels is told in :mod:`deepresidual.data.augment` and :mod:`deepresidual.data.mix`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from deepresidual.errors import ConfigurationError
from deepresidual.fields import check_fields, number

__all__ = ["WHOLE_CROPS", "Augment", "CropKind", "Mix", "PadFill", "Policy"]

CropKind: TypeAlias = Literal[
    "center", "pad", "random-resized", "scale-jitter", "large-scale-jitter", "multi-scale"
]
"""``center``: no choice. ``pad``: pad and cut at a random place (2015, section 4.2, which does not say with
what). ``random-resized``: a random part of the image, stretched to the input (Szegedy et al. 2014, arXiv
1409.4842, section 6). ``scale-jitter``: the shorter side is resized to a random length and a random square is
cut (2015, section 3.4, after Simonyan and Zisserman 2014). ``large-scale-jitter``: a square of the image at a
random multiple of its size in evaluation (Ghiasi et al. 2021, arXiv 2012.07177). ``multi-scale``: the whole
image, its shorter side a random one of every 32nd length. The last two are for networks that see whole
images: detectors."""

WHOLE_CROPS: tuple[CropKind, ...] = ("large-scale-jitter", "multi-scale")
"""Crops of networks that see whole images."""

PadFill: TypeAlias = Literal["black", "mean"]
"""``black``: level 0. ``mean``: the level nearest to what normalization makes zero, as where padding comes
after it (fb.resnet.torch)."""

Policy: TypeAlias = Literal["none", "rand-augment", "trivial-augment"]
"""``rand-augment``: Cubuk et al. 2019, arXiv 1909.13719. ``trivial-augment``: the wide space of Müller and
Hutter 2021, arXiv 2103.10158."""


@dataclass(frozen=True)
class Augment:
    """Random changes of each training image."""

    crop: CropKind = "center"
    """How the square that the network sees is cut."""
    flip: bool = False
    """Whether half of the images are mirrored; wrong for digits and text."""
    pad_px: int = number(4, 0, 1024)
    """Padding on each side for ``pad``, in pixels of the network's input; smaller training images are padded
    in proportion."""
    pad_fill: PadFill = "black"
    """What ``pad`` pads with: ``black``, or the ``mean`` that normalization makes zero, to within half a
    level of 255."""
    min_area: float = number(0.08, 0, 1, above=True)
    """Smallest part of the image for ``random-resized``, as a fraction of its area."""
    min_side_px: int = number(256, 1, 16_384)
    """Shortest shorter side for ``scale-jitter`` and ``multi-scale``, in pixels."""
    max_side_px: int = number(480, 1, 16_384)
    """Longest shorter side for ``scale-jitter`` and ``multi-scale``, in pixels."""
    min_scale: float = number(0.1, 0, 100, above=True)
    """Smallest multiple of the size in evaluation for ``large-scale-jitter``."""
    max_scale: float = number(2.0, 0, 100, above=True)
    """Largest multiple of the size in evaluation for ``large-scale-jitter``."""
    color_jitter: float = number(0.0, 0, 1)
    """Largest change of brightness, contrast and saturation, as a fraction, in random order (fb.resnet.torch:
    0.4)."""
    pca_lighting: float = number(0.0, 0, 10)
    """Standard deviation of the shift along the principal components of ImageNet's colours (Krizhevsky et al.
    2012, section 4.1: 0.1)."""
    policy: Policy = "none"
    """Automatic augmentation."""
    num_operations: int = number(2, 1, 20)
    """Operations an image for ``rand-augment``."""
    magnitude: float = number(9.0, 0, 10)
    """Strength of the operations of ``rand-augment``, 0 to 10."""
    magnitude_std: float = number(0.0, 0, 10)
    """Standard deviation of that strength (timm's ``mstd``)."""
    erasing: float = number(0.0, 0, 1)
    """Probability that a random rectangle is painted in the mean colour (Zhong et al. 2017, arXiv
    1708.04896)."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.min_side_px > self.max_side_px:
            raise ConfigurationError(
                f"min_side_px is {self.min_side_px} and max_side_px is {self.max_side_px}",
                expected="min_side_px ≤ max_side_px",
            )
        if self.min_scale > self.max_scale:
            raise ConfigurationError(
                f"min_scale is {self.min_scale:g} and max_scale is {self.max_scale:g}",
                expected="min_scale ≤ max_scale",
            )


@dataclass(frozen=True)
class Mix:
    """How the images of a batch are mixed in pairs, together with their labels."""

    mixup: float = number(0.0, 0, 100)
    """α of the Beta distribution of mixup's weight (Zhang et al. 2017, arXiv 1710.09412); 0: none."""
    cutmix: float = number(0.0, 0, 100)
    """α of CutMix's (Yun et al. 2019, arXiv 1905.04899); 0: none. With both, each step takes one of the two,
    as in torchvision and timm."""
    mix_probability: float = number(1.0, 0, 1)
    """Share of the steps that mix at all."""

    def __post_init__(self) -> None:
        check_fields(self)

    def __bool__(self) -> bool:
        """Return whether any step mixes."""
        return (self.mixup > 0 or self.cutmix > 0) and self.mix_probability > 0
