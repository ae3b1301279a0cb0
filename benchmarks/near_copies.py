"""Which copies of photos are found, which strangers are taken for copies, and what it costs.

    python benchmarks/near_copies.py FOLDER… [--px 640]

Every photo below the folders is scaled to at most ``--px``, written as JPEG and changed in eight ways; found
is a copy where its hash is near that of its photo. The pairs of different photos are all false. The time is
that of one process on one core, decoding included.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from deepresidual.data.near_copies import MOST_BITS, near_pairs, picture_hash_of
from deepresidual.data.picture_cache import PictureCache
from deepresidual.data.source import list_images


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    """Return an image as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def scaled(image: Image.Image, share: float) -> Image.Image:
    """Return an image of ``share`` of the size each way."""
    return image.resize((max(1, round(image.width * share)), max(1, round(image.height * share))))


def without_edges(image: Image.Image, share: float) -> Image.Image:
    """Return an image without ``share`` of its width and height on every side."""
    dx, dy = round(image.width * share), round(image.height * share)
    return image.crop((dx, dy, image.width - dx, image.height - dy))


CHANGES: dict[str, Callable[[Image.Image], bytes]] = {
    "half the size": lambda image: jpeg(scaled(image, 0.5)),
    "quality 30": lambda image: jpeg(image, 30),
    "quarter, quality 50": lambda image: jpeg(scaled(image, 0.25), 50),
    "brighter by 1.3": lambda image: jpeg(ImageEnhance.Brightness(image).enhance(1.3)),
    "gray": lambda image: jpeg(image.convert("L")),
    "2.5 % cut off each side": lambda image: jpeg(without_edges(image, 0.025)),
    "5 % cut off each side": lambda image: jpeg(without_edges(image, 0.05)),
    "mirrored": lambda image: jpeg(ImageOps.mirror(image)),
}


def bits(ours: NDArray[np.uint64], theirs: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Return in how many bits two rows of hashes differ, of one of them mirrored, too."""
    plain: NDArray[np.uint8] = np.bitwise_count(ours[..., 0] ^ theirs[..., 0])
    mirrored: NDArray[np.uint8] = np.bitwise_count(ours[..., 1] ^ theirs[..., 0])
    return np.where(plain < mirrored, plain, mirrored)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--px", type=int, default=640)
    options = parser.parse_args()
    photos = []
    for folder in options.folders:
        for name in list_images(folder, [], folder):
            with Image.open(folder / name) as image:
                image.draft("RGB", (options.px, options.px))
                photo = ImageOps.exif_transpose(image).convert("RGB")
            photo.thumbnail((options.px, options.px))
            photos.append(photo)
    files = [jpeg(photo) for photo in photos]
    start = time.process_time()
    hashes = np.array([picture_hash_of(file) for file in files], dtype=np.uint64)
    seconds = time.process_time() - start
    sys.stdout.write(f"{len(files)} photos, {1e3 * seconds / len(files):.2f} ms CPU each with decoding\n")
    for name, change in CHANGES.items():
        copies = np.array([picture_hash_of(change(photo)) for photo in photos], dtype=np.uint64)
        sys.stdout.write(f"{name:<24} found {np.mean(bits(hashes, copies) <= MOST_BITS):.3f}\n")
    with_hash = hashes[hashes.any(axis=1)]
    distances = bits(with_hash[:, None], with_hash[None])[np.triu_indices(len(with_hash), 1)]
    taken, without = np.sum(distances <= MOST_BITS), len(hashes) - len(with_hash)
    sys.stdout.write(
        f"{taken} of {len(distances):,} pairs of different photos taken for copies; the nearest differ in "
        f"{distances.min()} bits; {without} photos without a hash\n"
    )
    many = np.random.default_rng(0).integers(0, 2**63, (10_000, 2), dtype=np.uint64)
    start = time.process_time()
    near_pairs(many, cache=PictureCache(Path("/dev/null")))
    sys.stdout.write(f"all pairs of 10,000 in {time.process_time() - start:.1f} s CPU\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
