"""Measure what ``residual predict --fast-decode`` changes and saves: exact and fast views of the same photos.

    python benchmarks/fast_decode.py resnet56-cifar10 PHOTOS
    python benchmarks/fast_decode.py resnet56-cifar10 PHOTOS --image-px 224 --megapixels 12 --limit 20

Prints by how many of 255 levels views differ, how often the best class is the same, how far its
probability moves, and the CPU time of decoding and view together, both sides in turn photo by photo. With
``--image-px N`` the view has that side. With ``--megapixels`` each photo is enlarged first to what a camera
would have taken (bicubic, JPEG of quality 90), since the time depends on the size of the file; accuracy is
for photos as they are.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import deepresidual
from deepresidual.backends.images import FAST_DECODE_MARGIN, fast_center_view
from deepresidual.data.decode import decode, from_pillow
from deepresidual.preprocess import Preprocess
from deepresidual.runtime.provenance import versions

View = NDArray[np.uint8]


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--megapixels", type=float, help="enlarge every photo to so many")
    parser.add_argument("--image-px", type=int, help="side of the view")
    parser.add_argument("--limit", type=int, default=250)
    options = parser.parse_args()
    model = deepresidual.load(options.model)
    if options.image_px:
        model = model.with_preprocess(model.preprocess.at_size(options.image_px))
    files = [path for path in sorted(options.photos.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")]
    contents = [file.read_bytes() for file in files[: options.limit]]
    if options.megapixels:
        contents = [enlarged(content, options.megapixels) for content in contents]
    exact_ms, fast_ms = [], []
    exact, fast = [], []
    for content in contents:
        view, milliseconds = timed(exact_view, content, model.preprocess)
        exact.append(view)
        exact_ms.append(milliseconds)
        view, milliseconds = timed(fast_center_view, content, model.preprocess)
        fast.append(view)
        fast_ms.append(milliseconds)
    found = {**report(model, exact, fast), **times(exact_ms, fast_ms)}
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


def exact_view(content: bytes, preprocess: Preprocess) -> View:
    """Return the view that evaluation and prediction see."""
    return preprocess.center_view(preprocess.to_channels(decode(content)))


def timed(
    make: Callable[[bytes, Preprocess], View], content: bytes, preprocess: Preprocess
) -> tuple[View, float]:
    """Return a view and the CPU milliseconds that it took."""
    start = time.process_time()
    view = make(content, preprocess)
    return view, 1000 * (time.process_time() - start)


def enlarged(content: bytes, megapixels: float) -> bytes:
    """Return a photo as a JPEG of so many megapixels."""
    image = Image.fromarray(decode(content))
    scale = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
    size = (round(image.width * scale), round(image.height * scale))
    file = io.BytesIO()
    Image.fromarray(from_pillow(image.resize(size, Image.Resampling.BICUBIC))).save(file, "JPEG", quality=90)
    return file.getvalue()


def report(model: deepresidual.Classifier, exact: list[View], fast: list[View]) -> dict[str, Any]:
    """Return how far views and predictions differ."""
    levels = [float(np.abs(one.astype(int) - other).mean()) for one, other in zip(exact, fast, strict=True)]
    before, after = (
        model.probabilities(np.concatenate([model.logits(np.stack([view])) for view in views]))
        for views in (exact, fast)
    )
    best = before.argmax(axis=1)
    moved = np.abs(before - after)[np.arange(len(best)), best]
    return {
        "photos": len(exact),
        "margin": FAST_DECODE_MARGIN,
        "exact_views": sum(level == 0 for level in levels),
        "mean_levels": round(statistics.mean(levels), 3),
        "largest_mean_levels": round(max(levels), 3),
        "equal_top1": int((best == after.argmax(axis=1)).sum()),
        "mean_moved_probability": round(float(moved.mean()), 4),
        "versions": versions(),
    }


def times(exact_ms: list[float], fast_ms: list[float]) -> dict[str, Any]:
    """Return the CPU milliseconds of decoding and view, median and least."""
    return {
        "exact_ms": {"median": round(statistics.median(exact_ms), 2), "least": round(min(exact_ms), 2)},
        "fast_ms": {"median": round(statistics.median(fast_ms), 2), "least": round(min(fast_ms), 2)},
    }


if __name__ == "__main__":
    main()
