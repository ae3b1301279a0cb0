"""What a detector finds in images as parquet, a row an image, and back: to the bit, masks included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepresidual.data.masks import Masks, Runs
from deepresidual.data.objects import Objects

_FLOATS, _NUMBERS = pa.list_(pa.float32()), pa.list_(pa.int64())
_SCHEMA = pa.schema(
    [
        ("boxes", _FLOATS),  # left, top, right, bottom of each, one behind the other
        ("labels", _NUMBERS),
        ("scores", _FLOATS),
        ("areas", _FLOATS),
        ("mask_size", _NUMBERS),  # height and width of the image; null: no masks are found
        ("masks", pa.list_(pa.binary())),  # COCO's compressed runs of each
    ]
)


def write_found(path: Path, found: Sequence[Objects]) -> None:
    """Write what was found in some images.

    Args:
        path: The file.
        found: The objects of each, with scores; masks are runs.
    """
    pq.write_table(pa.Table.from_pylist([_row(objects) for objects in found], _SCHEMA), path)


def read_found(path: Path) -> list[Objects]:
    """Return what :func:`write_found` wrote.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is damaged.
        KeyError: It is another file.
    """
    return [_objects(row) for row in pq.read_table(path).to_pylist()]


def _row(objects: Objects) -> dict[str, Any]:
    scores, masks = objects.scores, objects.masks
    assert scores is not None  # noqa: S101  # of what was found
    runs = None if masks is None else [masks.runs(row) for row in range(len(objects))]
    return {
        "boxes": objects.boxes.reshape(-1),
        "labels": objects.labels,
        "scores": scores,
        "areas": objects.areas,
        "mask_size": None if runs is None else list(runs[0].size) if runs else [0, 0],
        "masks": None if runs is None else [each.counts for each in runs],
    }


def _objects(row: dict[str, Any]) -> Objects:
    masks = None
    if row["masks"] is not None:
        height, width = row["mask_size"]
        masks = Masks.of([Runs((height, width), counts) for counts in row["masks"]])
    return Objects(
        np.array(row["boxes"], np.float32),
        np.array(row["labels"], np.int64),
        scores=np.array(row["scores"], np.float32),
        areas=np.array(row["areas"], np.float32),
        masks=masks,
    )
