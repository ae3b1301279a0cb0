"""The mean and standard deviation of training images, for recipes that subtract what they measure."""

from __future__ import annotations

import dataclasses

import numpy as np

from deepresidual.data.loader import evaluation_batches
from deepresidual.data.source import Split
from deepresidual.data.source.validation import Subset
from deepresidual.preprocess import MeanImage, Preprocess
from deepresidual.runtime.console import ProgressBar
from deepresidual.runtime.random import order_of_epoch

# So many images pin the mean of a pixel down to a fifth of a level of 255; ImageNet has 26 times as many.
_MOST_IMAGES = 50_000


def measured_preprocess(
    split: Split, preprocess: Preprocess, *, per_pixel: bool, skip_bad: bool
) -> Preprocess:
    """Return the record with the mean and standard deviation of the images of a split.

    Args:
        split: The training split; of more than 50,000 images, a fixed choice of so many is measured.
        preprocess: How the images are cut, at the center.
        per_pixel: Whether to subtract the mean of every pixel; else that of every channel.
        skip_bad: Whether samples that cannot be used are left out; else they are an error.

    Raises:
        DataError: An image cannot be used.
    """
    chosen: Split = split
    if len(split) > _MOST_IMAGES:
        chosen = Subset(split, np.sort(order_of_epoch(0, 0, len(split))[:_MOST_IMAGES]))
    side, channels = preprocess.crop_px, preprocess.num_channels
    total, squares = np.zeros((side, side, channels)), np.zeros(channels)
    count = 0
    batches = evaluation_batches(chosen, preprocess, batch_size=100, num_workers=0)
    with ProgressBar(-(-len(chosen) // 100), label="measuring the mean") as bar:
        for done, batch in enumerate(batches, start=1):
            if not skip_bad:
                batch.require_all_good(can_skip=True)
            if not len(batch):
                continue
            pixels = batch.pixels.numpy()
            count += len(batch)
            total += pixels.sum(axis=0, dtype=np.float64)
            squares += np.square(pixels, dtype=np.float64).sum(axis=(0, 1, 2))
            bar.update(done, "")
    mean_image = total / count
    mean = mean_image.mean(axis=(0, 1))
    std = np.sqrt(squares / (count * side * side) - mean**2)
    record = dataclasses.replace(
        preprocess,
        mean=tuple(float(value) / 255 for value in mean),
        # A channel without any variation would divide by nothing.
        std=tuple(max(float(value), 1.0) / 255 for value in std),
        mean_image=None,
    )
    if not per_pixel:
        return record
    image = MeanImage.from_array(mean_image / 255)
    return dataclasses.replace(record, mean=image.average(), mean_image=image)
