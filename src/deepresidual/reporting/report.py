"""Write ``report.html``: one self-contained page about a run, from the files of its folder alone.

Curves, what is confused with what, how far probabilities can be trusted, the worst mistakes and the surest
hits with their heat maps, and how all of it was made. Nothing is loaded from elsewhere, and no script runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from deepresidual.reporting.charts import (
    MARKED_POINTS,
    Curve,
    draw_curves,
    draw_reliability,
    has_points,
    held_out_style,
    points,
)
from deepresidual.reporting.pages import rendered, require_ours, settings_of
from deepresidual.runs.baseline import majority_class, run_in_words, shows_top5
from deepresidual.runs.gains import stages_of
from deepresidual.runs.read import RunFiles, read_run
from deepresidual.runs.repeat import command_to_repeat
from deepresidual.runtime.files import expanded, write_text

_MATRIX_CLASSES = 24  # a wider matrix cannot be read; beyond it the most frequent confusions are listed
_LISTED = 30  # rows of a table of classes or confusions


def write_report(run: Path, destination: Path | None = None) -> Path:
    """Write the report of the run folder ``run`` and return its path.

    Args:
        run: The run folder.
        destination: The file. Default: ``report.html`` in the run folder.

    Raises:
        ConfigurationError: There is no run, or ``destination`` is another file.
        ModelFileError: A file of the run is damaged.
        RunError: The report cannot be written.
    """
    run = expanded(run)
    if destination is not None:
        destination = expanded(destination)
        require_ours(destination)
    files = read_run(run)
    # Of another task than classification there is no more to show yet than its curves.
    evaluation = files.evaluation if files.evaluation and "task" not in files.evaluation else None
    page = rendered(
        "report.html.jinja",
        record=files.record,
        plan=files.plan,
        evaluation=evaluation,
        verdict=run_in_words(files),
        baseline=majority_class(evaluation["classes"], evaluation["confusions"]) if evaluation else None,
        shows_top5=shows_top5(len(evaluation["classes"])) if evaluation else False,
        stages=stages_of(files),
        chooses=files.plan["recipe"]["keep_model"] == "best-loss",
        repeat=command_to_repeat(files.record),
        curves=_curves(files),
        matrix=_matrix(evaluation) if evaluation else None,
        confusions=_confusions(evaluation) if evaluation else [],
        recalls=_recalls(evaluation) if evaluation else [],
        reliability=draw_reliability(evaluation["bins"]) if evaluation and evaluation["bins"] else None,
        mistakes=_shown(files, "mistakes", "mistake") if evaluation else [],
        best=_shown(files, "best", "best") if evaluation else [],
        facts=_facts(files),
        recipe=settings_of(files.plan["recipe"]),
        hardware=settings_of(files.record["hardware"]),
        versions=settings_of(files.record["versions"]),
    )
    path = run / "report.html" if destination is None else destination
    write_text(path, page)
    return path


def _curves(files: RunFiles) -> list[Markup]:
    """Draw the charted metrics over epochs, training and held-out; no charts before the first epoch."""
    if not files.training:
        return []
    charts = []
    for name, label in files.charts.items():
        if not has_points([*files.training, *files.held_out], name):
            continue
        curves = [Curve(*points(files.training, name), "training")]
        for split in files.held_out_splits:
            rows = files.held_out_on(split)
            color, dash = held_out_style()
            curves.append(Curve(*points(rows, name), split, color, dash, marker=len(rows) < MARKED_POINTS))
        what = name if name == "loss" else label.split(" (")[0]
        charts.append(draw_curves(curves, label, f"{what} over epochs"))
    return charts


# -- classes -----------------------------------------------------------------------------------------------


def _matrix(evaluation: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the rows of the confusion matrix, or ``None`` where there are too many classes to show one."""
    classes = evaluation["classes"]
    if len(classes) > _MATRIX_CLASSES:
        return None
    counts = {(true, predicted): count for true, predicted, count in evaluation["confusions"]}
    rows = []
    for true, name in enumerate(classes):
        total = sum(counts.get((true, predicted), 0) for predicted in range(len(classes)))
        cells = [
            _cell(counts.get((true, predicted), 0), total, other, is_right=true == predicted)
            for predicted, other in enumerate(classes)
        ]
        rows.append({"name": name, "cells": cells, "total": total})
    return rows


def _cell(count: int, total: int, predicted: str, *, is_right: bool) -> dict[str, Any]:
    share = count / max(1, total)
    # Mistakes are few: shares of a third and more are all as dark as it gets.
    shade = min(0.85, share * (0.75 if is_right else 3))
    return {
        "count": count,
        "predicted": predicted,
        "is_right": is_right,
        "shade": f"{shade:.3f}",
        "is_dark": shade > 0.5,
    }


def _confusions(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the most frequent pairs of true and wrongly predicted class."""
    wrong = [row for row in evaluation["confusions"] if row[0] != row[1]]
    classes = evaluation["classes"]
    return [
        {"true": classes[true], "predicted": classes[predicted], "count": count}
        for true, predicted, count in sorted(wrong, key=lambda row: -row[2])[:_LISTED]
    ]


def _recalls(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return recall and precision of the classes that have images, the least recognized first."""
    support: dict[int, int] = {}
    taken: dict[int, int] = {}
    right: dict[int, int] = {}
    for true, predicted, count in evaluation["confusions"]:
        support[true] = support.get(true, 0) + count
        taken[predicted] = taken.get(predicted, 0) + count
        right[true] = right.get(true, 0) + count * (true == predicted)
    rows = [
        {
            "name": evaluation["classes"][row],
            "support": count,
            "right": right[row],
            "recall": right[row] / count,
            "precision": right[row] / taken[row] if taken.get(row) else None,
        }
        for row, count in support.items()
        if count
    ]
    return sorted(rows, key=lambda row: (row["recall"], row["name"]))[:_LISTED]


# -- images ------------------------------------------------------------------------------------------------


def _shown(files: RunFiles, folder: str, heat: str) -> list[dict[str, Any]]:
    """Return the images of a folder of the run, with the heat maps that there are of them."""
    rows = []
    for number, row in enumerate((files.evaluation or {})[folder]):
        photo = files.picture(folder, f"{number:02d}.png")
        heat_map = files.picture("heat-maps", f"{heat}-{number:02d}.png")
        if photo:
            # Of a hit the class that was predicted is its own, which the caption says once.
            rows.append({"predicted": "", **row, "photo": photo, "heat": heat_map})
    return rows


# -- how it was made ---------------------------------------------------------------------------------------


def _facts(files: RunFiles) -> list[tuple[str, str]]:
    record, plan = files.record, files.plan
    ignored = [
        f"{file.get('path')} ({file.get('reason')})" for file in record["ignored"] if isinstance(file, dict)
    ]
    return [
        ("command", " ".join(map(str, record["command"]))),
        ("started", record["started"]),
        ("data", f"{plan['data']}, {plan['num_samples']:,} training images, {len(plan['classes'])} classes"),
        ("fingerprint", ", ".join(f"{split} {value}" for split, value in plan["fingerprint"].items())),
        ("not used", ", ".join(ignored) or "–"),
        (
            "model",
            f"{plan['model']}, input {plan['preprocess']['crop_px']} px {plan['preprocess']['channels']}",
        ),
        ("seed, precision", f"{plan['seed']}, {plan['precision']}"),
    ]
