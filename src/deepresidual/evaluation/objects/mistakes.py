"""The worst mistakes of a detector, to look at: sure detections that are wrong, and large objects missed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepresidual.evaluation.objects.errors import ERROR_KINDS, Errors
from deepresidual.evaluation.objects.matching import Matches

Box = tuple[float, float, float, float]

_NUM_SHOWN = 24


@dataclass(frozen=True)
class DetectionMistake:
    """A detection that is wrong, or an object that was not found.

    Attributes:
        kind: One of :data:`ERROR_KINDS`; see :mod:`deepresidual.evaluation.objects.errors`.
        index: Which image of the split.
        key: Its name.
        image_id: What the data call it.
        box: Left, top, right and bottom of the detection, or of the object, in pixels of the upright image.
        label: Class of the detection, or of the object.
        score: Score of the detection; ``None`` of an object that was not found.
        true_label: Class of the object that the detection overlaps most; ``None`` where there is none.
        true_box: Box of that object.
    """

    kind: str
    index: int
    key: str
    image_id: int | str
    box: Box
    label: str
    score: float | None = None
    true_label: str | None = None
    true_box: Box | None = None

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> DetectionMistake:
        """Build it from its fields as JSON types."""
        boxes = {name: None if fields[name] is None else tuple(fields[name]) for name in ("box", "true_box")}
        return cls(**{**fields, **boxes})


@dataclass(frozen=True)
class Names:
    """What images and classes are called.

    Attributes:
        labels: Names of the classes.
        keys: Names of the images.
        image_ids: What the data call the images.
    """

    labels: Sequence[str]
    keys: Sequence[str]
    image_ids: Sequence[int | str]


def worst_false(matches: Matches, errors: Errors, names: Names) -> tuple[DetectionMistake, ...]:
    """Return the wrong detections of the highest scores."""
    found, truth = matches.found, matches.truth
    wrong = np.flatnonzero(errors.kind >= 0)
    worst = wrong[np.lexsort((wrong, -found.scores[wrong]))][:_NUM_SHOWN]
    mistakes = []
    for row in worst.tolist():
        image, thing = int(found.image[row]), int(errors.nearest[row])
        mistakes.append(
            DetectionMistake(
                ERROR_KINDS[errors.kind[row]],
                image,
                names.keys[image],
                names.image_ids[image],
                _box(found.boxes[row]),
                names.labels[found.labels[row]],
                float(found.scores[row]),
                None if thing < 0 else names.labels[truth.labels[thing]],
                None if thing < 0 else _box(truth.boxes[thing]),
            )
        )
    return tuple(mistakes)


def worst_missed(matches: Matches, errors: Errors, names: Names) -> tuple[DetectionMistake, ...]:
    """Return the largest objects that no detection is near."""
    truth = matches.truth
    missed = np.flatnonzero(errors.missed)
    worst = missed[np.lexsort((missed, -truth.areas[missed]))][:_NUM_SHOWN]
    return tuple(
        DetectionMistake(
            "missed",
            int(truth.image[row]),
            names.keys[truth.image[row]],
            names.image_ids[truth.image[row]],
            _box(truth.boxes[row]),
            names.labels[truth.labels[row]],
        )
        for row in worst.tolist()
    )


def _box(box: Any) -> Box:
    left, top, right, bottom = (float(value) for value in box)
    return left, top, right, bottom
