"""Hold the resize inside of ``model-image.onnx`` against Pillow's, on photos: values that differ, and time.

    python benchmarks/resize_graph.py PHOTOS
    python benchmarks/resize_graph.py PHOTOS --megapixels 12 --limit 20

Prints one JSON document. For every filter, of ``--resize exact`` and ``fast`` and of each engine: how many
values of all views differ from `Preprocess.center_view`, by how many of 255 levels, the largest share in one
photo, and the CPU milliseconds of one thread, beside Pillow's for the same photo. With ``--megapixels`` every
photo is enlarged first (bicubic). Under another Pillow: ``PYTHONPATH=src:.venv/pillow-11`` (``make pillow``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
import onnxruntime
import PIL
from numpy.typing import NDArray
from openvino import Core
from PIL import Image

from deepresidual.data.decode import decode, from_pillow, read_file
from deepresidual.errors import DataError
from deepresidual.exporting.resize_graph import ResizeGraph, resize_model
from deepresidual.preprocess import Interpolation, Preprocess
from deepresidual.runtime.cpu import cpu_name, telling_flags
from deepresidual.runtime.provenance import now, version_of, versions

Pixels = NDArray[np.uint8]
_FILTERS: tuple[Interpolation, ...] = ("bilinear", "bicubic", "lanczos")
_FORMATS = (".jpg", ".jpeg", ".png")


def main() -> None:
    """Measure, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--crop-px", type=int, default=224)
    parser.add_argument("--resize-px", type=int, default=256)
    parser.add_argument("--megapixels", type=float, help="enlarge every photo to so many")
    parser.add_argument("--limit", type=int, default=250)
    options = parser.parse_args()
    photos = [
        enlarged(photo, options.megapixels) if options.megapixels else photo
        for photo in read(options.photos, options.limit)
    ]
    rows = []
    for interpolation in _FILTERS:
        record = Preprocess(
            options.crop_px, options.resize_px, (0.5,) * 3, (0.25,) * 3, interpolation=interpolation
        )
        for resize in get_args(ResizeGraph):
            if resize == "fast" and interpolation == "lanczos":
                continue
            model = resize_model(record, resize)
            for engine, compute in (("onnxruntime", by_onnxruntime(model)), ("openvino", by_openvino(model))):
                row = compared(record, photos, compute)
                rows.append({"filter": interpolation, "resize": resize, "engine": engine, **row})
    document = {
        "command": " ".join(["python", *sys.argv[:1], "PHOTOS", *sys.argv[2:]]),
        "made": now(),
        "cpu": cpu_name(),
        "flags": list(telling_flags()),
        "versions": versions()
        | {"Pillow": PIL.__version__}
        | {package: version_of(package) for package in ("onnxruntime", "openvino")},
        "photos": len(photos),
        "view": [options.crop_px, options.resize_px],
        "rows": rows,
    }
    sys.stdout.write(json.dumps(document, indent=1) + "\n")


def read(folder: Path, limit: int) -> list[Pixels]:
    """Return the first photos of a folder, decoded."""
    found: list[Pixels] = []
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() not in _FORMATS or len(found) == limit:
            continue
        try:
            found.append(np.ascontiguousarray(decode(read_file(file))))
        except DataError:
            continue
    return found


def enlarged(photo: Pixels, megapixels: float) -> Pixels:
    """Return a photo with so many megapixels."""
    height, width = photo.shape[:2]
    scale = (megapixels * 1e6 / (width * height)) ** 0.5
    size = (round(width * scale), round(height * scale))
    return from_pillow(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC))


def by_onnxruntime(model: onnx.ModelProto) -> Callable[[Pixels], Any]:
    """Return what computes a view by ONNX Runtime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda photo: session.run(["pixels"], {"image": photo})[0][0]


def by_openvino(model: onnx.ModelProto) -> Callable[[Pixels], Any]:
    """Return what computes a view by OpenVINO on one thread, in float32."""
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    core = Core()
    compiled = core.compile_model(core.read_model(model.SerializeToString()), "CPU", settings)
    return lambda photo: compiled(photo)[0][0]


def compared(record: Preprocess, photos: list[Pixels], compute: Callable[[Pixels], Any]) -> dict[str, Any]:
    """Return how far the views of an engine are from Pillow's, and the time of both, in turn."""
    total = differing = largest = 0
    worst, engine_ms, pillow_ms = 0.0, [], []
    for photo in photos:
        start = time.process_time()
        expected = record.center_view(photo)
        middle = time.process_time()
        found = compute(photo)
        pillow_ms.append(1000 * (middle - start))
        engine_ms.append(1000 * (time.process_time() - middle))
        gaps = np.abs(expected.astype(np.int16) - found)
        total, differing = total + gaps.size, differing + int(np.count_nonzero(gaps))
        largest, worst = max(largest, int(gaps.max())), max(worst, float(np.mean(gaps > 0)))
    return {
        "values": total,
        "differing": differing,
        "largest_level": largest,
        "largest_share_of_a_photo": round(worst, 5),
        "ms": round(statistics.median(engine_ms), 2),
        "pillow_ms": round(statistics.median(pillow_ms), 2),
    }


if __name__ == "__main__":
    main()
