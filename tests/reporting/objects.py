"""A run of a detector: the files of a finished run, with an evaluation that was measured on random scenes."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deepresidual.data.masks import Masks
from deepresidual.data.objects import Objects
from deepresidual.evaluation.objects import measure
from tests.evaluation.objects.scenes import scenes

NAMES = ("cat <b>", "dog", "a kind of thing with a rather long name")


def an_evaluation(
    seed: int = 3, count: int = 40, skill: float = 0.8, *, by_masks: bool = False
) -> dict[str, Any]:
    """Return the document of an evaluation of three classes, of which the last has no object."""
    found, truth = scenes(seed, count, skill=skill)
    if by_masks:
        found, truth = (
            [_with_masks(objects, turn) for objects in side] for side, turn in ((found, 1), (truth, 0))
        )
    keys = [f"photos/a rather long name of a photo {number}.jpg" for number in range(count)]
    document = measure("test", found, truth, NAMES, keys=keys, loss=0.7).to_dict()
    result: dict[str, Any] = json.loads(json.dumps(document))
    return result


def _with_masks(objects: Objects, turn: int) -> Objects:
    """Return objects whose masks are halves of their boxes; every second one is turned so many times."""
    rows = []
    for row, (left, top, right, bottom) in enumerate(objects.boxes.astype(float).tolist()):
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        rows.append([np.array([place for number, place in enumerate(corners) if number != turn * (row % 2)])])
    return dataclasses.replace(objects, masks=Masks.of(rows).on((400, 400)))


def detector_run(finished: Path, run: Path, evaluation: dict[str, Any]) -> Path:
    """Return a copy of a run folder with the evaluation of a detector, and pictures of it."""
    shutil.copytree(finished, run)
    for folder in ("mistakes", "best", "heat-maps"):
        shutil.rmtree(run / folder, ignore_errors=True)
        (run / folder).mkdir()
    for name in ("false", "missed"):
        for number in range(len((evaluation.get("masks") or evaluation)[name])):
            (run / "mistakes" / f"{name}-{number:02d}.png").write_bytes(_picture(240, 240))
    for number in range(6):
        for name in ("annotated", "found"):
            (run / "heat-maps" / f"scene-{number:02d}-{name}.png").write_bytes(_picture(480, 360))
    (run / "evaluation.json").write_text(json.dumps({"schema_version": 1, "step": 2, **evaluation}))
    return run


def _picture(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (120, 150, 90)).save(file, "PNG")
    return file.getvalue()
