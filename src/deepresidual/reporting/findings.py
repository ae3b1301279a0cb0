"""Show what was found out about the images: labels to look at, and whether more images would help."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from deepresidual.reporting.advice import data_argument
from deepresidual.reporting.charts import draw_learning_curve
from deepresidual.reporting.pages import rounded_percent
from deepresidual.reporting.pictures import Embedded, embedded
from deepresidual.runs.read import RunFiles

_AT_ONCE = 12
_MOST_PHOTOS = 24
CSV_COLUMNS = ("path", "label", "suggested")
"""Columns of the list of labels, which ``residual check --relabel`` reads."""


def label_section(files: RunFiles) -> dict[str, Any] | None:
    """Return the variables of the list of labels to look at; ``None``: nothing was looked for."""
    found = files.label_errors
    if found is None:
        return None
    rows = [
        {**row, "twin": "", "photo": _photo(files, number, "")} for number, row in enumerate(found["rows"])
    ]
    conflicts = [
        {**row, "suggested": row["twin_label"], "photo": _photo(files, number, "conflict-")}
        for number, row in enumerate(found.get("conflicts") or [])
    ]
    trained = [row for row in rows if row["split"] == "train"]
    tested = [row for row in rows if row["split"] != "train"]
    parts = [_part(trained, "Labels to look at", "Training images", "")] if trained else []
    if tested:
        note = "These images measure the model: changing their labels changes the measure, not the model."
        parts.append(_part(tested, "Held-out labels to look at", "Held-out images", note))
    doubled = {row["path"] for row in conflicts}
    return {
        "rows": rows,
        "conflicts": conflicts,
        "parts": parts if len(parts) > 1 or tested else [{**part, "title": ""} for part in parts],
        "reason": found["reason"],
        "trust": found["trust"],
        "num_folds": found.get("num_folds") or "Several",
        "csv": label_csv([*conflicts, *(row for row in rows if row["path"] not in doubled)]),
        "command": f"residual check {data_argument(files)} --relabel labels.csv",
    }


def _photo(files: RunFiles, number: int, prefix: str) -> Embedded | None:
    if number >= _MOST_PHOTOS:
        return None
    return embedded(files.picture("label-errors", f"{prefix}{number:02d}.png"))


def label_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Return the list as CSV."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows([row[name] for name in CSV_COLUMNS] for row in rows)
    return file.getvalue()


def _part(rows: Sequence[dict[str, Any]], label: str, title: str, note: str) -> dict[str, Any]:
    return {"rows": rows[:_AT_ONCE], "more": rows[_AT_ONCE:], "label": label, "title": title, "note": note}


def curve_section(files: RunFiles) -> dict[str, Any] | None:
    """Return the variables of what more images would give; ``None``: it was not looked for."""
    found = files.learning_curve
    if found is None:
        return None
    if not found["points"]:
        return {"answer": "That cannot be said.", "words": found["reason"], "chart": None}
    counts, errors = ([row[name] for row in found["points"]] for name in ("count", "error"))
    doubled = errors[-1] * (1 - found["doubling"]) if found["gain"] != "none" else None
    low, high = found["doubling_interval"]
    match found["gain"]:
        case "a lot":
            answer = "Yes, a lot."
        case "a little":
            answer = "A little."
        case _:
            answer = "More images of this kind would not help, as far as can be seen."
    words = (
        f"Twice as many took {rounded_percent(max(0.0, found['doubling']))} of the mistakes away "
        f"(likely between {rounded_percent(max(0.0, low))} and {rounded_percent(max(0.0, high))}), "
        "with the features as they are."
    )
    if found["gain"] == "none":
        words += " Look at labels, image size and network first."
    return {"answer": answer, "words": words, "chart": draw_learning_curve(counts, errors, doubled)}
