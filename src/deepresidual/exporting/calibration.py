"""Choose the training images that the ranges of an int8 network are measured on, and make their views.

The choice is a function of the names and the classes, so it is the same list on every machine: of each class
in turn the image whose name has the smallest hash. Images that an evaluation measures are never among them.

Example:
    >>> calibration_order(["cats/1.jpg", "cats/2.jpg", "dogs/1.jpg"], [0, 0, 1])
    [2, 1, 0]
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deepresidual.data.decode import decode
from deepresidual.data.source.base import TRAIN, names_of
from deepresidual.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepresidual.data.source import SampleSource
    from deepresidual.preprocess import Preprocess

RULE = (
    "of each class in turn the training image with the smallest SHA-256 of 'calibration', a zero byte and "
    "its name, until there are enough that can be decoded"
)


@dataclass(frozen=True)
class CalibrationViews:
    """Views of training images.

    Attributes:
        pixels: ``(N, S, S, C)`` uint8.
        keys: Name of the image of each.
        data: Name of the data set.
    """

    pixels: NDArray[np.uint8]
    keys: tuple[str, ...]
    data: str


def calibration_order(keys: Sequence[str], labels: Sequence[int]) -> list[int]:
    """Return the indices of samples in the order in which they are taken.

    Args:
        keys: Name of every sample.
        labels: Class of every sample; of several labels an image its stratum.
    """
    hashes = [hashlib.sha256(f"calibration\0{key}".encode(errors="surrogateescape")).digest() for key in keys]
    by_class: dict[int, list[int]] = defaultdict(list)
    for index in sorted(range(len(keys)), key=hashes.__getitem__):
        by_class[labels[index]].append(index)
    places = {index: place for members in by_class.values() for place, index in enumerate(members)}
    return sorted(places, key=lambda index: (places[index], hashes[index]))


def calibration_photos(source: SampleSource, count: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield name and pixels ``(H, W, 3)`` uint8 RGB of the training images that calibrate, in their order.

    Args:
        source: The data, on the sides on which it was for training.
        count: How many images, 1 or more; all where there are fewer.

    Raises:
        DataError: There is no training split, or none of its images can be decoded.
    """
    if TRAIN not in source.splits:
        raise DataError(
            f"{source.name} has no training split, and int8 is calibrated on training images",
            expected="a folder or file called 'train', such as of the data that the model was trained with",
        )
    samples, num_decoded = source.split(TRAIN), 0
    for index in calibration_order(names_of(samples), samples.labels):
        if num_decoded == count:
            return
        try:
            sample = samples.read(index)
            photo = decode(sample.content)
        except DataError:
            continue
        num_decoded += 1
        yield sample.key, photo
    if not num_decoded:
        raise DataError(f"none of the training images of {source.name} can be decoded")


def calibration_views(source: SampleSource, preprocess: Preprocess, count: int) -> CalibrationViews:
    """Return views of training images as evaluation sees images: the central crop.

    Args:
        source: The data, on the sides on which it was for training.
        preprocess: Makes the views.
        count: How many images, 1 or more; all where there are fewer.

    Raises:
        DataError: There is no training split, or none of its images can be decoded.
    """
    pixels, keys = [], []
    for key, photo in calibration_photos(source, count):
        pixels.append(preprocess.center_view(preprocess.to_channels(photo)))
        keys.append(key)
    return CalibrationViews(np.stack(pixels), tuple(keys), source.name)
