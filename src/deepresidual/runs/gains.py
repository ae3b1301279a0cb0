"""What each part of a fine-tuning gained: the probe, what was learned after it, and the average of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepresidual.runs.read import RunFiles

__all__ = ["Stage", "gains_in_words", "stages_of"]

# By the name that the figure has in the record of a run.
_TITLES = {"top1": "top-1", "map": "mAP"}


@dataclass(frozen=True)
class Stage:
    """A model that a run could have kept.

    Attributes:
        name: ``probe``, ``fine-tuned`` or ``average``.
        step: The update after which it was measured.
        split: What it was measured on.
        loss: Mean cross-entropy in nats.
        title: Name of the figure that says how good it is: ``top-1``; of several labels an image ``mAP``.
        score: That figure, 0 to 1.
        is_kept: Whether it is the model of the run.
    """

    name: str
    step: int
    split: str
    loss: float
    title: str
    score: float
    is_kept: bool


def stages_of(run: RunFiles) -> list[Stage]:
    """Return the models that a run that began with a probe chose from; none for other runs."""
    recipe = run.plan["recipe"]
    if recipe.get("classifier_init") != "probe" or not run.held_out:
        return []
    rows_shown = [*run.held_out, *run.candidates[-1:]]
    figure = next((name for name in _TITLES if all(name in row for row in rows_shown)), None)
    if figure is None:
        return []
    split = run.held_out[0]["split"]
    watched = run.held_out_on(split)
    later = [row for row in watched if row["step"]]
    rows: dict[str, dict[str, Any]] = {"probe": watched[0]}
    if later:
        by_loss = recipe["keep_model"] == "best-loss"
        rows["fine-tuned"] = min(later, key=lambda row: row["loss"]) if by_loss else later[-1]
    if run.candidates and run.candidates[-1]["candidate"] == "average":
        rows["average"] = run.candidates[-1]
    kept = "probe" if _is_probe(run) else _kept(recipe["keep_model"], rows)
    return [
        Stage(name, row["step"], split, row["loss"], _TITLES[figure], row[figure], name == kept)
        for name, row in rows.items()
    ]


def gains_in_words(run: RunFiles) -> list[str]:
    """Return a line for each of :func:`stages_of`, the kept one marked; none where there was no choice."""
    stages = stages_of(run)
    if len(stages) < 2:
        return []
    why = ", kept: the lowest loss" if run.plan["recipe"]["keep_model"] == "best-loss" else ", kept"
    return [
        f"{stage.name:<10}  {stage.split}: {stage.title} {stage.score:.2%}, loss {stage.loss:.4f}"
        f"{why if stage.is_kept else ''}"
        for stage in stages
    ]


def _is_probe(run: RunFiles) -> bool:
    """Return whether what was learned was given up for the probe."""
    return bool(run.candidates) and run.candidates[-1]["candidate"] == "probe"


def _kept(keep_model: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    if keep_model == "best-loss":
        return min(rows, key=lambda name: rows[name]["loss"])
    if keep_model == "average" and "average" in rows:
        return "average"
    return "fine-tuned" if "fine-tuned" in rows else "probe"
