"""``digits``: 1,797 real handwritten digits, 8×8 gray, bundled with scikit-learn; no download.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
1998 (CC BY 4.0); scikit-learn ships its test part. A sample is for testing when the first byte of the SHA-256
of its name is below 51 of 256, the same on every machine: the bundled network is certified on these 351.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepresidual.data.source.base import EncodedSample, LabelledSplit, SampleSource
from deepresidual.preprocess import Preprocess


@dataclass(frozen=True)
class BundledDigits:
    """All digits, in the order of scikit-learn.

    Attributes:
        inks: ``(1797, 8, 8)`` int64, counts of ink from 0 to 16.
        labels: ``(1797,)`` int64, 0 to 9.
        keys: A name for each.
    """

    inks: NDArray[np.int64]
    labels: NDArray[np.int64]
    keys: tuple[str, ...]

    @property
    def hashes(self) -> list[int]:
        """First byte of the SHA-256 of each name: a digit is for testing where it is below 51."""
        return [hashlib.sha256(key.encode()).digest()[0] for key in self.keys]


def bundled_digits() -> BundledDigits:
    """Read the digits that scikit-learn brings along."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    keys = tuple(f"digit-{index:04d}.png" for index in range(len(bundle.target)))
    return BundledDigits(np.rint(bundle.images).astype(np.int64), bundle.target.astype(np.int64), keys)


def open_digits() -> SampleSource:
    """Open the bundled digits."""
    digits = bundled_digits()
    # Intensities are counts of ink from 0 to 16; a picture wants 0 to 255.
    images = np.rint(digits.inks * (255 / 16)).astype(np.uint8)
    test = np.array(digits.hashes) < 51  # 51 / 256 = 0.199
    splits = {
        name: DigitsSplit(
            [key for key, chosen in zip(digits.keys, rows, strict=True) if chosen],
            images[rows],
            digits.labels[rows],
        )
        for name, rows in (("train", ~test), ("test", test))
    }
    # Of the ink, on a scale of 0 to 16: mean 4.88, standard deviation 6.02.
    seen = Preprocess(crop_px=16, resize_px=16, mean=(0.305,), std=(0.376,), channels="gray")
    return SampleSource(
        "digits",
        tuple(str(digit) for digit in range(10)),
        splits,
        preprocess=seen,
        suggested_recipe="digits",
        is_permuted=True,
    )


class DigitsSplit(LabelledSplit):
    """Digits as PNG files in memory, so that they go the way of every other image."""

    def __init__(self, keys: list[str], images: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        super().__init__(labels)
        self._keys = keys
        self._files = [_png(image) for image in images]
        self._checksums = [zlib.crc32(image.tobytes()) for image in images]

    def key(self, index: int) -> str:
        """Return the name of sample ``index``."""
        return self._keys[index]

    def read(self, index: int) -> EncodedSample:
        """Return sample ``index``."""
        return EncodedSample(self._keys[index], self._files[index], int(self._labels[index]))

    def _contents(self) -> list[int]:
        # Of the pixels: the size of a PNG depends on the zlib that wrote it.
        return self._checksums


def _png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
