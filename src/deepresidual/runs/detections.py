"""Read what the evaluation of a detector says, as it stands in ``evaluation.json``, and say it in words.

No torch, as for all that reads a run folder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepresidual.runtime.strict_json import Between, Kind, RecordError, check

if TYPE_CHECKING:
    from deepresidual.runs.read import RunFiles

__all__ = [
    "FoundAtThresholds",
    "check_detections",
    "detections_in_words",
    "found_at_thresholds",
    "is_detection",
    "judged",
    "usual_score",
]

_COUNT = Between(0, whole=True)
_SHARE = Between(0, 1.001)  # a mean of ones may be rounded up
_MAYBE = (_SHARE, None)
_INTERVAL = ([_SHARE], None)
_PLACE = Between(-1e6, 1e6)

_MISTAKE: dict[str, Kind] = {
    "kind": str,
    "key": str,
    "box": [_PLACE],
    "label": str,
    "score": _MAYBE,
    "true_label": (str, None),
}
DETECTIONS: dict[str, Kind] = {
    "task": str,
    "split": str,
    "loss": (Between(-1e30, 1e30), None),
    **dict.fromkeys(("ap", "ap50", "ap75"), _SHARE),
    **dict.fromkeys(("count", "num_objects", "num_found", "most"), _COUNT),
    "metric": str,
    **{f"{name}_{size}": _MAYBE for name in ("ap", "ar") for size in ("small", "medium", "large")},
    **{f"num_{size}?": (_COUNT, None) for size in ("small", "medium", "large")},
    "ar": _MAYBE,
    "ap_interval?": _INTERVAL,
    "ap50_interval?": _INTERVAL,
    "per_class": [
        {
            "name": str,
            "num_objects": _COUNT,
            "num_found": _COUNT,
            **dict.fromkeys(("ap", "ap50", "ap75", "recall50"), _MAYBE),
            "ap_interval?": _INTERVAL,
            "threshold?": ({"score": _SHARE, "precision": _SHARE, "recall": _SHARE, "f1": _SHARE}, None),
            "curve?": {"recall": [_SHARE], "precision": [_SHARE]},
        }
    ],
    "errors?": [{"kind": str, "count": _COUNT, "gain": _SHARE}],
    "false?": [_MISTAKE],
    "missed?": [_MISTAKE],
    "masks?": ({}, None),
}
"""An evaluation of a detector; a figure is null where there is nothing to measure."""


def check_detections(evaluation: Mapping[str, Any]) -> None:
    """Check the form of the document of an evaluation of a detector.

    Raises:
        RecordError: Naming the field.
    """
    _check(evaluation)
    if (masks := evaluation.get("masks")) is None:
        return
    try:
        _check(masks)
    except RecordError as error:
        raise RecordError(f"in masks {error}") from error
    if [row["name"] for row in masks["per_class"]] != [row["name"] for row in evaluation["per_class"]]:
        raise RecordError("in masks the classes are others than in per_class")


def _check(evaluation: Mapping[str, Any]) -> None:
    check(evaluation, DETECTIONS)
    for owner in (evaluation, *evaluation["per_class"]):
        for name in ("ap_interval", "ap50_interval"):
            if (interval := owner.get(name)) is not None and len(interval) != 2:
                raise RecordError(f"{name} is a list of {len(interval)}, not of 2")
    for row in evaluation["per_class"]:
        curve = row.get("curve")
        if curve and len(curve["recall"]) != len(curve["precision"]):
            raise RecordError(f"the curve of {row['name']!r} has not as many values of both")


def judged(evaluation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a detector is judged by: its figures by masks where it finds some, else by boxes."""
    return evaluation.get("masks") or evaluation


def is_detection(run: RunFiles) -> bool:
    """Return whether a run has learned to detect objects, and was evaluated."""
    return bool(run.evaluation) and (run.evaluation or {}).get("task") == "detection"


@dataclass(frozen=True)
class FoundAtThresholds:
    """What is found where detections of each class are taken from its own threshold on, at an IoU of .5.

    Attributes:
        num_objects: Objects to be found.
        num_right: Of them found.
        num_false: Detections that are wrong.
        count: Images.
    """

    num_objects: int
    num_right: int
    num_false: int
    count: int


def found_at_thresholds(evaluation: Mapping[str, Any]) -> FoundAtThresholds | None:
    """Return what is found at the classes' thresholds; ``None`` where there is no image or no object."""
    evaluation = judged(evaluation)
    if not evaluation["count"] or not evaluation["num_objects"]:
        return None
    right = taken = 0
    for row in evaluation["per_class"]:
        if threshold := row.get("threshold"):
            hits = round(threshold["recall"] * row["num_objects"])
            right += hits
            taken += round(hits / threshold["precision"]) if threshold["precision"] else 0
    return FoundAtThresholds(evaluation["num_objects"], right, max(0, taken - right), evaluation["count"])


def usual_score(evaluation: Mapping[str, Any]) -> float | None:
    """Return the threshold of the class of the usual object, the median; ``None`` where no class has one."""
    rows = sorted(
        (row["threshold"]["score"], row["num_objects"])
        for row in judged(evaluation)["per_class"]
        if row.get("threshold")
    )
    half, passed = sum(count for _, count in rows) / 2, 0
    for score, count in rows:
        passed += count
        if passed >= half:
            return math.floor(100 * float(score)) / 100
    return None


def detections_in_words(evaluation: Mapping[str, Any]) -> list[str]:
    """Return the figures with their intervals, and how many objects are found, a line each."""
    of = f"{evaluation['num_objects']:,} objects in {evaluation['count']:,} images"
    lines = [f"{_figures_in_words(evaluation)}; {of}"]
    if masks := evaluation.get("masks"):
        lines = [f"masks {_figures_in_words(masks)}; {of}", f"boxes {_figures_in_words(evaluation)}"]
    found = _found_in_words(judged(evaluation))
    return [*lines, *([found] if found else [])]


def _figures_in_words(evaluation: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{title} {100 * evaluation[name]:.1f} %{_within(evaluation.get(f'{name}_interval'))}"
        for title, name in (("AP50", "ap50"), ("AP", "ap"))
    )


def _found_in_words(evaluation: Mapping[str, Any]) -> str:
    """Return how many objects are found at the thresholds; empty where no class has one."""
    found = found_at_thresholds(evaluation)
    scores = [row["threshold"]["score"] for row in evaluation["per_class"] if row.get("threshold")]
    if found is None or not scores:
        return ""
    each = found.num_false / found.count
    false = f"{each:.1f}" if each >= 0.1 or not found.num_false else f"{each:.2g}"
    low, high = (f"{value:.2f}" for value in (min(scores), max(scores)))
    at = f"from a score of {low} on" if low == high else f"from each class's best score on, {low} to {high}"
    return f"{found.num_right:,} of {found.num_objects:,} objects found, {false} false an image, {at}"


def _within(interval: Sequence[float] | None) -> str:
    """Return an interval in per cent; nothing where its ends are the same, as those of nothing right."""
    for digits in range(2):
        low, high = (f"{100 * end:.{digits}f}" for end in interval or (0, 0))
        if low != high:
            return f" ({low}–{high} %)"
    return ""
