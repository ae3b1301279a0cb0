"""Make photos where none are given: JPEG files with the size, the spectrum and the bytes of usual ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 500, 375

# The spectrum of natural images falls with the frequency; with this power and quality a file has about
# 100 kB, as the photos of ImageNet have.
_SPECTRUM_POWER = 1.2
_QUALITY = 90
# Mean and standard deviation of luminance and of both chrominances.
_CENTER = 128.0
_SPREAD = np.array([55.0, 18.0, 18.0])


def write_photos(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Write ``count`` JPEG files of 500 × 375 pixels and return their paths; the seed decides every pixel."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"photo-{number:05d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        pixels = _pixels(np.random.default_rng([seed, number]))
        with Image.frombuffer("YCbCr", (WIDTH, HEIGHT), pixels.tobytes(), "raw", "YCbCr", 0, 1) as image:
            image.save(path, "JPEG", quality=_QUALITY)
    return paths


def _pixels(generator: np.random.Generator) -> NDArray[np.uint8]:
    """Return ``(H, W, 3)`` uint8 of luminance and chrominance: noise whose spectrum falls."""
    vertical, horizontal = np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None]
    frequency = np.hypot(vertical, horizontal)
    frequency[0, 0] = 1 / WIDTH
    shape = (3, *frequency.shape)
    noise = generator.normal(size=shape) + 1j * generator.normal(size=shape)
    planes = np.fft.irfft2(noise / frequency**_SPECTRUM_POWER, (HEIGHT, WIDTH))
    planes -= planes.mean(axis=(1, 2), keepdims=True)
    planes *= (_SPREAD / planes.std(axis=(1, 2)))[:, None, None]
    pixels: NDArray[np.uint8] = np.clip(_CENTER + planes, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(pixels)
