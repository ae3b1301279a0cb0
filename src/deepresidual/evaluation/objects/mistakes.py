"""The worst mistakes of a detector, to look at: sure detections that are wrong, and large objects missed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deepresidual.data.masks import Runs
from deepresidual.evaluation.objects.errors import ERROR_KINDS, Errors
from deepresidual.evaluation.objects.matching import Matches
from deepresidual.evaluation.objects.rules import Overlap

Box = tuple[float, float, float, float]

_NUM_SHOWN = 24
_MASKS = ("mask", "true_mask")


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
        mask: Mask of the detection, or of the object, where masks are judged.
        true_mask: Mask of the object that the detection overlaps most.
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
    mask: Runs | None = None
    true_mask: Runs | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return its fields as JSON types; masks only where there are some."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in _MASKS:
            runs = fields.pop(name)
            fields |= {} if runs is None else {name: runs.to_dict()}
        return fields

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> DetectionMistake:
        """Build it from what :meth:`to_dict` returned."""
        boxes = {name: None if fields[name] is None else tuple(fields[name]) for name in ("box", "true_box")}
        masks = {name: Runs.from_dict(fields[name]) for name in _MASKS if fields.get(name)}
        return cls(**{**fields, **boxes, **masks})


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


def worst_false(
    matches: Matches, errors: Errors, names: Names, overlap: Overlap
) -> tuple[DetectionMistake, ...]:
    """Return the wrong detections of the highest scores, with masks where these were compared."""
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
                found.mask(row) if overlap == "masks" else None,
                truth.mask(thing) if overlap == "masks" and thing >= 0 else None,
            )
        )
    return tuple(mistakes)


def worst_missed(
    matches: Matches, errors: Errors, names: Names, overlap: Overlap
) -> tuple[DetectionMistake, ...]:
    """Return the largest objects that no detection is near, with masks where these were compared."""
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
            mask=truth.mask(row) if overlap == "masks" else None,
        )
        for row in worst.tolist()
    )


def _box(box: Any) -> Box:
    left, top, right, bottom = (float(value) for value in box)
    return left, top, right, bottom
