"""Measure the memory of ``residual predict`` with masks of one photo: small, and enlarged to 12 megapixels.

Each detector has random weights, scaled so that it finds objects, and is computed by PyTorch and, exported,
by ONNX Runtime. What counts is the most memory of the whole command, Python and its libraries included::

    python benchmarks/mask_memory.py resnet18-fpn-tiny@416 resnet50-fpn@800 --out benchmarks/results/FILE.json
"""

from __future__ import annotations

import argparse
import csv
import statistics
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from deepresidual.backends.detector import TorchDetector
from deepresidual.benchmarks.commands import cost_of, residual_command
from deepresidual.benchmarks.measurement import Row, make_result
from deepresidual.cli.output import print_line
from deepresidual.data.bundled_photos import bundled_photos
from deepresidual.exporting import export
from deepresidual.models import create, save
from deepresidual.preprocess import Preprocess
from deepresidual.zoo.detectors import detector, with_masks

_LARGE = (4000, 3000)
_NUM_CLASSES = 3
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("detectors", nargs="*", default=["resnet18-fpn-tiny@416", "resnet50-fpn@800"])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = [row for each in given.detectors for row in _rows(each, given.repetitions)]
    for row in rows:
        objects, small_mb = row.details["objects"]["large"], row.details["small_mb"]
        print_line(f"{row.name}: {row.ours:.0f} MB, {objects} masks; {small_mb:.0f} MB of the small photo")
    packages = ("torchvision", "onnx", "onnxruntime")
    result = make_result("mask memory", rows, given.repetitions, torch.device("cpu"), packages)
    if given.out is not None:
        result.save(given.out)


def _rows(argument: str, repetitions: int) -> list[Row]:
    """Return a row for PyTorch and one for the exported detector; the argument is ``NAME@SHORTER_SIDE``."""
    name, _, shorter_px = argument.partition("@")
    with tempfile.TemporaryDirectory(prefix="residual-masks-") as place:
        folder = Path(place)
        photos = {side: folder / f"{side}.jpg" for side in ("small", "large")}
        photo = Image.fromarray(next(bundled_photos())[1])
        photo.save(photos["small"], quality=95)
        photo.resize(_LARGE, Image.Resampling.BICUBIC).save(photos["large"], quality=95)
        save(_lively_detector(name, int(shorter_px)), folder / "model")
        export(folder / "model", folder / "exported")
        return [
            _row(name, computed_by, folder / model, photos, repetitions)
            for computed_by, model in (("torch", "model"), ("onnxruntime", "exported"))
        ]


def _lively_detector(name: str, shorter_px: int) -> TorchDetector:
    """Return a detector with masks whose random weights find as many objects as it gives out."""
    spec = with_masks(detector(name, _NUM_CLASSES))
    spec = replace(spec, detections=replace(spec.detections, min_score=0.0))
    module = create(spec, seed=0)
    with torch.no_grad():
        module.roi_heads.box_predictor.cls_score.weight.mul_(100)
    longer = round(shorter_px * 1333 / 800)
    record = Preprocess(longer, shorter_px, _MEAN, _STD, fit="whole")
    return TorchDetector(module.eval(), tuple(map(str, range(_NUM_CLASSES))), record)


def _row(name: str, computed_by: str, model: Path, photos: dict[str, Path], repetitions: int) -> Row:
    peaks: dict[str, list[float]] = {}
    counts: dict[str, int] = {}
    for side, photo in photos.items():
        words = residual_command("predict", str(model), str(photo), "--format", "coco", "--min-score", "0")
        peaks[side] = [cost_of(words).peak_bytes / 1e6 for _ in range(repetitions)]
        counts[side] = _num_objects(model, photo)
    row = Row(f"{name}-{computed_by}", f"predict with masks of a 12-megapixel photo, {name}, {computed_by}")
    return replace(
        row,
        unit="MB",
        ours=statistics.median(peaks["large"]),
        reason="measured alone",
        details={
            "small_mb": statistics.median(peaks["small"]),
            "all_mb": peaks,
            "objects": counts,
            "photo": list(_LARGE),
        },
    )


def _num_objects(model: Path, photo: Path) -> int:
    """Return how many objects the command finds in a photo, each with a mask."""
    words = residual_command("predict", str(model), str(photo), "--format", "csv", "--min-score", "0")
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return sum(row["label"] != "" for row in csv.DictReader(done.stdout.splitlines()))


if __name__ == "__main__":
    main()
