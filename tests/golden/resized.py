"""Stored pixels of resized pictures: the same for every version of Pillow.

A program, too, so that it runs under several; ``make pillow`` does that. It loads NumPy and Pillow only.

    python tests/golden/resized.py          # compares; exit code 1 where pixels differ
    python tests/golden/resized.py --write  # stores what is computed here
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import PIL

from deepresidual.preprocess import Interpolation, Preprocess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

STORED = Path(__file__).with_suffix(".json")

# Height and width: photos lying and standing, strips, single pixels; larger and smaller than the view.
_SIZES = (
    *((375, 500), (500, 375), (640, 480), (900, 300), (300, 900), (1200, 130), (96, 97)),
    *((40, 30), (7, 5), (2000, 19), (19, 2000), (450, 3), (3, 450), (1, 1)),
)
# Side of the view, and shorter side before it is cut: with scales that binary numbers hold, and others.
_SIDES = ((224, 256), (96, 99), (28, 32))


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """Return ``(H, W, 3)`` pixels without a pattern, by arithmetic that no version of a library changes."""
    places = np.arange(height * width * 3, dtype=np.uint64)
    mixed = (places * np.uint64(2_654_435_761) ^ (places >> np.uint64(3))) * np.uint64(40_503)
    return ((mixed >> np.uint64(13)) & np.uint64(255)).astype(np.uint8).reshape(height, width, 3)


def views() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield the name and the pixels of every view."""
    for height, width in _SIZES:
        pixels = picture(height, width)
        for crop_px, resize_px in _SIDES:
            for interpolation in get_args(Interpolation):
                record = Preprocess(crop_px, resize_px, (0.5,) * 3, (0.25,) * 3, interpolation)
                name = f"{height}x{width} {crop_px} of {resize_px} {interpolation}"
                yield name, record.center_view(pixels)
        for interpolation in get_args(Interpolation):
            record = Preprocess(32, 32, (0.5,) * 3, (0.25,) * 3, interpolation)
            whole = (0.0, 0.0, float(width), float(height))
            inside = (width / 7, height / 3, width / 1.1, height / 1.3)
            yield f"{height}x{width} whole {interpolation}", record.resize(pixels, whole, 31, 17)
            yield f"{height}x{width} inside {interpolation}", record.resize(pixels, inside, 13, 47)
            yield f"{height}x{width} gray {interpolation}", record.resize(pixels[:, :, :1], inside, 20, 21)


def hashes() -> dict[str, str]:
    """Return the beginning of the SHA-256 of every view, by name."""
    return {name: hashlib.sha256(np.ascontiguousarray(view).data).hexdigest()[:16] for name, view in views()}


def differing() -> list[str]:
    """Return the names of the views whose pixels are not those that are stored."""
    stored, computed = json.loads(STORED.read_text()), hashes()
    return [name for name in stored | computed if name not in computed or stored.get(name) != computed[name]]


def main() -> int:
    """Compare, or store with ``--write``, under any Pillow or the one of ``--version``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--version", default="")
    options = parser.parse_args()
    if options.version and not PIL.__version__.startswith(f"{options.version}."):
        sys.stderr.write(f"error: Pillow {PIL.__version__} is loaded and not {options.version}\n")
        return 1
    if options.write:
        STORED.write_text(json.dumps(hashes(), indent=0) + "\n")
    found = differing()
    sys.stdout.write(f"Pillow {PIL.__version__}: {len(found)} of {len(hashes())} views differ\n")
    sys.stdout.writelines(f"  {name}\n" for name in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
