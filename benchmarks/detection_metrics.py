"""Measure 5,000 images of COCO's density: figures, intervals, errors and curves, beside pycocotools' figures.

    python benchmarks/detection_metrics.py [--found 36 100] [--repetitions 5] [--out FILE.json]

Images have 7.3 objects of three of 80 classes on average, as COCO's val2017 has, and ``--found`` detections
each. Ours is all that ``residual evaluate`` computes once a detector has seen the images; theirs is loading
results, evaluating and accumulating, in one thread. AP is checked to be the same.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from deepresidual.benchmarks.measurement import Row, in_turn, make_result, ratio, require_alike, seconds_of
from deepresidual.cli.output import print_line
from deepresidual.data.objects import Objects
from deepresidual.evaluation.objects import measure

NUM_IMAGES, NUM_CLASSES = 5000, 80
OBJECTS_AN_IMAGE, CLASSES_AN_IMAGE = 7.3, 3


def made_up(num_found: int) -> tuple[list[Objects], list[Objects]]:
    """Return what is found in images, and what they have."""
    random = np.random.default_rng(0)
    found, truth = [], []
    for _ in range(NUM_IMAGES):
        number = int(random.poisson(OBJECTS_AN_IMAGE))
        boxes = _boxes(random, number)
        labels = random.choice(NUM_CLASSES, CLASSES_AN_IMAGE)[random.integers(0, CLASSES_AN_IMAGE, number)]
        truth.append(Objects(boxes, labels, random.random(number) < 0.01))
        near = np.repeat(np.arange(number), 4)[: num_found // 2]
        moved = boxes[near] + random.normal(0, 6, (len(near), 4)).astype(np.float32)
        others = num_found - len(near)
        every = np.concatenate(
            [np.sort(moved.reshape(-1, 2, 2), axis=1).reshape(-1, 4), _boxes(random, others)]
        )
        scores = np.concatenate([random.random(len(near)), 0.5 * random.random(others)])
        classes = np.concatenate([labels[near], random.integers(0, NUM_CLASSES, others)])
        order = np.argsort(-scores, kind="stable")
        found.append(Objects(every[order], classes[order], scores=scores[order].astype(np.float32)))
    return found, truth


def _boxes(random: np.random.Generator, number: int) -> NDArray[np.float32]:
    corners = random.uniform(0, 400, (number, 2))
    sides = np.exp(random.uniform(np.log(8), np.log(300), (number, 2)))
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def rows_of(images: Sequence[Objects]) -> list[dict[str, Any]]:
    """Return objects as COCO's format has them."""
    rows: list[dict[str, Any]] = []
    for image, objects in enumerate(images):
        boxes = objects.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        for row, box in enumerate(boxes.tolist()):
            entry = {
                "id": len(rows) + 1,
                "image_id": image,
                "category_id": int(objects.labels[row]),
                "bbox": box,
            }
            score = {} if objects.scores is None else {"score": float(objects.scores[row])}
            rows.append({**entry, "area": box[2] * box[3], "iscrowd": int(objects.crowd[row]), **score})
    return rows


def reference(annotations: list[dict[str, Any]], results: list[dict[str, Any]]) -> float:
    """Return the AP of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        annotated = COCO()
        annotated.dataset = {
            "images": [{"id": image} for image in range(NUM_IMAGES)],
            "categories": [{"id": label} for label in range(NUM_CLASSES)],
            "annotations": annotations,
        }
        annotated.createIndex()
        evaluator = COCOeval(annotated, annotated.loadRes([dict(row) for row in results]), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][:, :, :, 0, -1]
    return float(precision[precision > -1].mean())


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--found", type=int, nargs="+", default=[36, 100])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for num_found in options.found:
        found, truth = made_up(num_found)
        names = [str(label) for label in range(NUM_CLASSES)]
        annotations, results = rows_of(truth), rows_of(found)
        ap = measure("val", found, truth, names).ap
        require_alike("AP", ap, reference(annotations, results), 1e-12)
        sides = {
            "ours": seconds_of(partial(measure, "val", found, truth, names)),
            "theirs": seconds_of(partial(reference, annotations, results)),
        }
        seconds = in_turn(sides, options.repetitions, warm_up=0)
        row = Row(
            f"found-{num_found}",
            f"{NUM_IMAGES:,} images with {len(annotations):,} objects and {num_found} detections each",
            against="pycocotools, figures alone",
            ratio=ratio(seconds["theirs"], seconds["ours"]),
            unit="s",
            ours=statistics.median(seconds["ours"]),
            theirs=statistics.median(seconds["theirs"]),
            details={"ap": ap, "seconds": seconds},
        )
        print_line(f"{row.what}: {row.ours:.1f} s, pycocotools {row.theirs:.1f} s ({row.ratio})")
        rows.append(row)
    result = make_result(
        "detection-metrics",
        rows,
        options.repetitions,
        torch.device("cpu"),
        ("faster-coco-eval", "pycocotools"),
    )
    if options.out is not None:
        result.save(options.out)


if __name__ == "__main__":
    main()
