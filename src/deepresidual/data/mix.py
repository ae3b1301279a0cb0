"""Mixing training images in pairs, together with their labels: mixup and CutMix.

Choosing is separate from applying here, too: :func:`choose_mix` draws for a step on the CPU, and
:func:`apply_mix` is a pure function of images, targets and that choice, on any device.

The partner of image *i* is image *i* XOR 1: 0 and 1, 2 and 3, and so on. So a batch may be spread over
ranks, or be cut into parts, in any way that gives each an even number of images, and every image meets
the same partner. There is one weight, and one rectangle, for a whole step, as in the authors' code for both
papers: it is drawn from the step's own generator, so that all ranks draw the same one without a word between
them, and it makes mixing one operation on a tensor instead of one for each image.

Example:
    >>> choice = choose_mix(recipe.mix, step_generator(seed, step), height=224, width=224)
    >>> targets = soft_targets(labels, num_classes=1000, smoothing=0.1)
    >>> if choice is not None:
    ...     apply_mix(images, targets, choice)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from deepresidual.recipe import Mix

if TYPE_CHECKING:
    from numpy.random import Generator


@dataclass(frozen=True)
class MixChoice:
    """Mixing of the images of one step.

    Attributes:
        weight: Share of the image itself in its label, 0 to 1; the partner has the rest. Without a box it is
            the image's share in every pixel, too.
        box: Rectangle that comes from the partner: left, top, right, bottom, in pixels. ``None``: mixup.
    """

    weight: float
    box: tuple[int, int, int, int] | None = None


def choose_mix(mix: Mix, generator: Generator, height: int, width: int) -> MixChoice | None:
    """Decide how the images of a step are mixed; ``None`` where they are not.

    Args:
        mix: What may be done.
        generator: The step's own, from :func:`deepresidual.runtime.random.step_generator`.
        height: Height of the images in pixels.
        width: Their width.
    """
    if not mix or generator.random() >= mix.mix_probability:
        return None
    cut = mix.cutmix > 0 and (mix.mixup == 0 or generator.random() < 0.5)
    if not cut:
        return MixChoice(_symmetric_beta(generator, mix.mixup))
    return _choose_cut(_symmetric_beta(generator, mix.cutmix), generator, height, width)


def apply_mix(images: torch.Tensor, targets: torch.Tensor, choice: MixChoice) -> None:
    """Mix images and targets in place: each with its partner, an odd last one with itself.

    In place, because at this point both exist for nothing else, and a copy of the images would be the
    largest tensor before the network. Nothing waits for the device.

    Args:
        images: ``(N, C, H, W)`` floating point, normalized.
        targets: ``(N, K)`` floating point, as :func:`soft_targets` returns.
        choice: What :func:`choose_mix` returned.
    """
    if choice.box is None:
        _blend_pairs(images, choice.weight)
    else:
        left, top, right, bottom = choice.box
        first, second = _pairs(images[:, :, top:bottom, left:right])
        kept = first.clone()
        first.copy_(second)
        second.copy_(kept)
    _blend_pairs(targets, choice.weight)


def soft_targets(labels: torch.Tensor, num_classes: int, smoothing: float = 0.0) -> torch.Tensor:
    """Return labels as distributions over the classes.

    The label has 1 − ``smoothing``, and all classes, the label among them, share the rest equally, as in
    Szegedy et al. 2016 (arXiv 1512.00567, section 7) and torch's ``cross_entropy``.

    Args:
        labels: ``(N,)`` int64, 0 to ``num_classes`` − 1.
        num_classes: How many classes there are.
        smoothing: 0 to 1.

    Returns:
        ``(N, num_classes)`` float32, on the device of ``labels``.
    """
    rest = smoothing / num_classes
    # Compared instead of scattered: torch's one_hot looks at the labels, for which it waits for the device.
    is_label = labels[:, None] == torch.arange(num_classes, device=labels.device)
    return torch.where(is_label, 1 - smoothing + rest, rest)


def _symmetric_beta(generator: Generator, alpha: float) -> float:
    return float(generator.beta(alpha, alpha))


def _choose_cut(weight: float, generator: Generator, height: int, width: int) -> MixChoice:
    """Draw a rectangle around any pixel, and correct the weight to what of it lies in the image.

    Yun et al. 2019, arXiv 1905.04899, equation 2; the authors' code clips and corrects in the same way.
    """
    side = math.sqrt(1 - weight)
    half_width, half_height = int(width * side) // 2, int(height * side) // 2
    across, down = generator.integers([width, height]).tolist()
    left, right = max(across - half_width, 0), min(across + half_width, width)
    top, bottom = max(down - half_height, 0), min(down + half_height, height)
    return MixChoice(1 - (right - left) * (bottom - top) / (width * height), (left, top, right, bottom))


def _blend_pairs(tensor: torch.Tensor, weight: float) -> None:
    first, second = _pairs(tensor)
    mixed = torch.lerp(second, first, weight)
    second.lerp_(first, 1 - weight)
    first.copy_(mixed)


def _pairs(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the first and the second of all pairs, as views."""
    whole = len(tensor) // 2 * 2
    return tensor[0:whole:2], tensor[1:whole:2]
