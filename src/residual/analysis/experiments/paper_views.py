"""How the papers show an ImageNet image to a network: ten crops, or whole at several sizes.

He et al. 2015, section 3.4: "standard 10-crop testing" for comparisons (Krizhevsky et al. 2012, section 4.1:
four corners and the center, and their mirror images; the network's probabilities are averaged), and for the
best results "the fully-convolutional form, and average the scores at multiple scales (images are resized such
that the shorter side is in {224, 256, 384, 480, 640})". Of a network that ends with a global average and a
linear layer, its fully-convolutional form followed by the average over positions is the network itself on the
whole image.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from residual.data.decode import decode
from residual.errors import DataError
from residual.evaluation.metrics import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from residual.data.source import Split
    from residual.models import Model
    from residual.preprocess import Preprocess

__all__ = ["MULTI_SCALE_SIDES", "evaluate_views", "multi_scale_probabilities", "ten_crop_probabilities"]

MULTI_SCALE_SIDES = (224, 256, 384, 480, 640)


def ten_crop_probabilities(model: Model, pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Return the mean of the probabilities for the ten crops of an image.

    Args:
        model: The model.
        pixels: ``(H, W, C)`` uint8 in the model's channels.

    Returns:
        ``(num_classes,)`` float32 on the CPU.
    """
    record = model.preprocess
    resized, side = _resized(record, pixels, record.resize_px), record.crop_px
    height, width = resized.shape[:2]
    down, across = height - side, width - side
    corners = [(0, 0), (0, across), (down, 0), (down, across), (round(down / 2), round(across / 2))]
    crops = [resized[top : top + side, left : left + side] for top, left in corners]
    views = np.stack([view for crop in crops for view in (crop, crop[:, ::-1])])
    return model.logits(torch.from_numpy(views)).softmax(dim=1).mean(dim=0).cpu()


def multi_scale_probabilities(model: Model, pixels: NDArray[np.uint8], sides: Sequence[int]) -> torch.Tensor:
    """Return the mean of the probabilities for the whole image at several sizes, each also mirrored.

    Args:
        model: The model; where it subtracts a mean image, which fits one size only, its average is taken.
        pixels: ``(H, W, C)`` uint8 in the model's channels.
        sides: Shorter sides in pixels.

    Returns:
        ``(num_classes,)`` float32 on the CPU.
    """
    record = dataclasses.replace(model.preprocess, mean_image=None)
    total = torch.zeros(model.spec.num_classes)
    model.network.eval()
    with torch.inference_mode():
        for side in sides:
            resized = _resized(record, pixels, side)
            views = torch.from_numpy(np.stack([resized, resized[:, ::-1]]))
            logits = model.network(record.normalize(views.to(model.device)))
            total += logits.float().softmax(dim=1).mean(dim=0).cpu()
    return total / len(sides)


def _resized(record: Preprocess, pixels: NDArray[np.uint8], shorter_px: int) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    new_width, new_height = shorter_px * width // shorter, shorter_px * height // shorter
    return record.resize(pixels, (0.0, 0.0, float(width), float(height)), new_width, new_height)


def evaluate_views(
    model: Model, split: Split, probabilities: Callable[[Model, NDArray[np.uint8]], torch.Tensor]
) -> Tally:
    """Return the sums over a split, every image once, of what ``probabilities`` says of each image.

    Raises:
        DataError: An image cannot be used; the message names it.
    """
    tally = Tally(model.spec.num_classes)
    for index in range(len(split)):
        sample = split.read(index)
        try:
            pixels = model.preprocess.to_channels(decode(sample.content))
        except DataError as error:
            raise DataError(f"{sample.key}: {error}", remedy="repair or remove this file") from error
        # Logarithms of probabilities are logits of the same probabilities.
        logits = probabilities(model, pixels).clamp_min(1e-30).log()
        tally.add(logits[None], torch.tensor([sample.label]))
    return tally
