"""``ImageTransform``: the way of an image into a network, for data sets of a training loop of one's own.

Example:
    >>> model = deepresidual.load("resnet56-cifar10")
    >>> photos = ImageFolder("photos", transform=deepresidual.ImageTransform(model.preprocess))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from deepresidual.data.augment import apply, check_augment, choose
from deepresidual.data.decode import decode, from_pillow
from deepresidual.data.source.in_memory import encoded
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Augment
from deepresidual.runtime.random import SampleRandom


@dataclass(frozen=True)
class ImageTransform:
    """What data sets of torchvision take as ``transform``: an image becomes the network's input.

    Without an augmentation it is what evaluation and prediction do, to the bit. With one it is what training
    does, drawn from PyTorch's random state, which a ``DataLoader`` gives each of its workers.

    Args:
        preprocess: The preprocessing record of the model.
        augment: How images are varied, for training. Default: not at all.

    Raises:
        ConfigurationError: The augmentation does not fit the network's input.
    """

    preprocess: Preprocess
    augment: Augment | None = None

    def __post_init__(self) -> None:
        if self.augment is not None:
            check_augment(self.augment, self.preprocess, self.preprocess.crop_px)

    def __call__(self, image: object) -> torch.Tensor:
        """Return ``(C, S, S)`` float32.

        Args:
            image: A Pillow image, an array ``(H, W, 3)`` or ``(H, W)`` or a tensor ``(C, H, W)`` of uint8, a
                path, or the bytes of an image file.

        Raises:
            DataError: It is something else, or damaged.
        """
        pixels = from_pillow(image) if isinstance(image, Image.Image) else decode(encoded(image))
        view = self._view(self.preprocess.to_channels(pixels))
        # A copy, since views of a Pillow image are read-only, and those of a mirrored one run backwards.
        return self.preprocess.normalize(torch.from_numpy(view.copy())[None])[0]

    def _view(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.augment is None:
            return self.preprocess.center_view(pixels)
        height, width = pixels.shape[:2]
        random = SampleRandom(int(torch.randint(2**62, ())), 0, 0)
        side_px = self.preprocess.crop_px
        choice = choose(self.augment, random, height, width, self.preprocess, side_px)
        return apply(pixels, choice, self.preprocess, side_px)
