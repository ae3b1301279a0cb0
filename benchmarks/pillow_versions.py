"""Count the views of a folder of photos whose pixels depend on the version of Pillow.

    make pillow    # installs Pillow 11, 12 and 13 beside each other
    for n in 11 12 13; do
        PYTHONPATH=src:.venv/pillow-$n python benchmarks/pillow_versions.py hash PHOTOS views-$n.json
    done
    python benchmarks/pillow_versions.py compare views-11.json views-12.json views-13.json

Each photo is decoded once by Residual and its view made twice: in one call of ``Image.resize``, as most
people write it, and by `Preprocess.center_view`, which resizes the width first and then the height.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from deepresidual.data.decode import decode, read_file
from deepresidual.errors import DataError
from deepresidual.preprocess import Interpolation, Preprocess

_FORMATS = (".jpg", ".jpeg", ".png")
# Side of the view, shorter side before it is cut, filters.
_VIEWS: tuple[tuple[int, int, tuple[Interpolation, ...]], ...] = (
    (224, 256, ("bilinear", "bicubic", "lanczos")),
    (224, 232, ("bilinear", "bicubic", "lanczos")),
    (288, 320, ("bilinear", "bicubic")),
    (448, 512, ("bilinear", "bicubic")),
)


def hashes(photos: list[Path]) -> dict[str, dict[str, list[str]]]:
    """Return, for each view, the SHA-256 of the pixels of every photo: of one call, and of ours."""
    found: dict[str, dict[str, list[str]]] = {}
    for photo in photos:
        try:
            pixels = decode(read_file(photo))
        except DataError:
            continue
        if pixels.shape[2] != 3:
            pixels = np.repeat(pixels[:, :, :1], 3, axis=2)
        for crop_px, resize_px, filters in _VIEWS:
            for interpolation in filters:
                record = Preprocess(crop_px, resize_px, (0.5,) * 3, (0.25,) * 3, interpolation)
                box = record.center_box(*pixels.shape[:2])
                resampling = Image.Resampling[interpolation.upper()]
                one_call = Image.fromarray(pixels).resize((crop_px, crop_px), resampling, box)
                kinds = found.setdefault(f"{crop_px} of {resize_px} {interpolation}", {"one": [], "ours": []})
                kinds["one"].append(_hash(np.asarray(one_call)))
                kinds["ours"].append(_hash(record.center_view(pixels)))
    return found


def _hash(pixels: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()[:16]


def compare(files: list[Path]) -> dict[str, object]:
    """Return how many photos of each view differ from those of the first file."""
    documents = [json.loads(file.read_text("utf-8")) for file in files]
    first = documents[0]["views"]
    return {
        "versions": [document["pillow"] for document in documents],
        "photos": len(next(iter(first.values()))["one"]),
        "differing": {
            view: {
                kind: [
                    sum(a != b for a, b in zip(expected, document["views"][view][kind], strict=True))
                    for document in documents
                ]
                for kind, expected in kinds.items()
            }
            for view, kinds in first.items()
        },
    }


def main() -> None:
    """Hash under the Pillow that is loaded, or compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    hashing = commands.add_parser("hash")
    hashing.add_argument(
        "photos", type=Path, nargs="+", help="folders; the last argument is the file to write"
    )
    comparing = commands.add_parser("compare")
    comparing.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "compare":
        sys.stdout.write(json.dumps(compare(options.files), indent=1) + "\n")
        return
    *folders, out = options.photos
    photos = sorted(
        file for folder in folders for file in folder.rglob("*") if file.suffix.lower() in _FORMATS
    )
    out.write_text(json.dumps({"pillow": PIL.__version__, "views": hashes(photos)}), "utf-8")


if __name__ == "__main__":
    main()
