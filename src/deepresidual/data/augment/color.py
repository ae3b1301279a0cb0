"""Changes of colour: jitter of brightness, contrast and saturation, and a shift along principal components.

Jitter is that of fb.resnet.torch (``datasets/transforms.lua``, ColorJitter), which blends an image with
black, with its mean luma, and with its own luma. There the three come in random order. But saturation keeps
the luma of every pixel, contrast the mean luma, and brightness scales whatever comes before or after it; so
the order makes no difference as long as nothing is rounded or clipped in between, and there is none here.
Together with the shift they are one affine map of a pixel's colour, after which pixels are rounded and
clipped once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from deepresidual.recipe import Augment

# ITU-R 601 luma, as fb.resnet.torch and Pillow weigh the channels.
_LUMA = np.array([0.299, 0.587, 0.114])

# Of the colours of ImageNet's pixels on the scale 0 to 1 (fb.resnet.torch, datasets/imagenet.lua); rows of
# the vectors are red, green, blue, columns the components.
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])
_EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


@dataclass(frozen=True)
class ColorChoice:
    """Change of the colours of one image.

    Attributes:
        brightness: Weight of the image in a blend with black: 0 is black, 1 no change, more is brighter.
        contrast: Its weight in a blend with its mean luma.
        saturation: Its weight in a blend with its luma.
        components: Shift along each principal component, in units of its eigenvalue.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    components: tuple[float, float, float] = (0.0, 0.0, 0.0)


def choose_color(augment: Augment, generator: Generator) -> ColorChoice:
    """Draw the weights of the jitter from [1 − x, 1 + x], and the shifts from a normal distribution.

    The shifts are those of Krizhevsky et al. 2012, section 4.1, drawn once an image.
    """
    reach = augment.color_jitter
    brightness, contrast, saturation = generator.uniform(1 - reach, 1 + reach, 3).tolist()
    first, second, third = generator.normal(0, augment.pca_lighting, 3).tolist()
    return ColorChoice(brightness, contrast, saturation, (first, second, third))


def apply_color(pixels: NDArray[np.uint8], choice: ColorChoice) -> NDArray[np.uint8]:
    """Return an image in other colours: ``(H, W, 3)`` uint8 RGB or ``(H, W, 1)`` gray, and the same back.

    A gray image has no saturation, and no principal components of colour.
    """
    from PIL import Image

    scale = choice.brightness * choice.contrast
    blend = choice.brightness * (1 - choice.contrast)
    if pixels.shape[2] == 1:
        exact = scale * np.arange(256) + blend * pixels.mean()
        table = np.floor(exact + 0.5).clip(0, 255).astype(np.uint8)
        levels: NDArray[np.uint8] = table[pixels]
        return levels
    matrix = scale * (choice.saturation * np.eye(3) + (1 - choice.saturation) * _LUMA)
    shift = 255 * (_EIGENVECTORS @ (_EIGENVALUES * choice.components))
    offset = blend * (_LUMA @ pixels.mean(axis=(0, 1))) + shift
    rows = tuple(np.column_stack([matrix, offset]).ravel().tolist())
    # In float32, rounded and clipped to a level at the end, in one pass.
    return np.asarray(Image.fromarray(pixels).convert("RGB", rows))
