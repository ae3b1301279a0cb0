"""Write a page of several runs side by side: curves, metrics, and the settings that differ."""

from __future__ import annotations

import datetime as dt
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from deepresidual.errors import ConfigurationError
from deepresidual.reporting.charts import MARKED_POINTS, Curve, draw_curves, has_points, points, run_style
from deepresidual.reporting.pages import rendered, require_ours, settings_of
from deepresidual.runs.baseline import majority_class, shows_top5
from deepresidual.runs.read import RunFiles, read_run
from deepresidual.runtime.duration import duration
from deepresidual.runtime.files import expanded, write_text

_HIDDEN = ("classes", "preprocess.mean_image")  # pages of names and pixels


def write_side_by_side(runs: Sequence[Path], destination: Path) -> Path:
    """Write a page that compares runs and return its path.

    Args:
        runs: The run folders, two or more.
        destination: The file; one that this function has written before is replaced, any other is not.

    Raises:
        ConfigurationError: A folder holds no run or is named twice, or ``destination`` is another file.
        ModelFileError: A file of a run is damaged.
        RunError: The page cannot be written.
    """
    runs, destination = [expanded(run) for run in runs], expanded(destination)
    _require_distinct(runs)
    require_ours(destination)
    read = [read_run(run) for run in runs]
    names = [_letter(number) for number in range(len(read))]
    rows = [
        _metrics(files, name, number) for number, (files, name) in enumerate(zip(read, names, strict=True))
    ]
    page = rendered(
        "side_by_side.html.jinja",
        curves=_curves(read, names),
        rows=rows,
        shows_top5=any(row["shows_top5"] for row in rows),
        shows_boxes=any(row["boxes"] for row in rows),
        shows_classes=not all(row["boxes"] for row in rows),
        names=names,
        differences=_differences(read),
        warning=_warning(read),
    )
    write_text(destination, page)
    return destination


def _require_distinct(runs: Sequence[Path]) -> None:
    if len(runs) < 2:
        raise ConfigurationError(f"there is {len(runs)} run to compare", expected="two or more")
    seen: set[Path] = set()
    for run in runs:
        if run.resolve() in seen:
            raise ConfigurationError(f"{run} is named twice", expected="different runs")
        seen.add(run.resolve())


def _letter(number: int) -> str:
    """Return A to Z, then A2 to Z2 and so on: what stands for a run in charts and tables."""
    again, place = divmod(number, len(string.ascii_uppercase))
    return string.ascii_uppercase[place] + (str(again + 1) if again else "")


# -- curves ------------------------------------------------------------------------------------------------


def _curves(read: list[RunFiles], names: list[str]) -> list[Markup]:
    """Draw the figures of all runs, the loss last: in training, and on each held-out split."""
    charts = []
    labels = {name: label for files in read for name, label in files.charts.items()}
    splits = dict.fromkeys(split for files in read for split in files.held_out_splits)
    for where in ("training", *splits):
        for name, label in reversed(labels.items()):
            curves = []
            for number, (files, letter) in enumerate(zip(read, names, strict=True)):
                rows = files.training if where == "training" else files.held_out_on(where)
                color, dash = run_style(number)
                marker = "o" if where != "training" and len(rows) < MARKED_POINTS else ""
                if rows and has_points(rows, name):
                    curves.append(Curve(*points(rows, name), letter, color, dash, marker=marker))
            if curves:
                charts.append(draw_curves(curves, f"{where} {label}", f"{where} {label} over epochs"))
    return charts


# -- metrics -----------------------------------------------------------------------------------------------


def _metrics(files: RunFiles, name: str, number: int) -> dict[str, Any]:
    record, evaluation = files.record, files.evaluation or {}
    classes = [] if "task" in evaluation else evaluation.get("classes", [])
    last = files.training[-1] if files.training else {}
    speeds = sorted(
        row["images_per_second"] for row in files.training if _is_number(row.get("images_per_second"))
    )
    return {
        "name": name,
        "path": str(files.path),
        "model": files.plan["model"],
        "data": files.plan["data"],
        "status": record["status"],
        "step": record["step"],
        "color": run_style(number)[0],
        "split": evaluation.get("split"),
        "top1": evaluation.get("top1"),
        "top1_interval": evaluation.get("top1_interval"),
        "baseline": majority_class(classes, evaluation["confusions"]) if classes else None,
        "top5": evaluation.get("top5"),
        "shows_top5": shows_top5(len(classes)),
        "loss": evaluation.get("loss"),
        "count": evaluation.get("count"),
        "ece": evaluation.get("ece"),
        "boxes": _boxes(evaluation),
        "training_loss": last.get("loss"),
        "training_top1": last.get("top1"),
        "images_per_second": speeds[len(speeds) // 2] if speeds else None,
        "duration": _duration(record),
    }


def _boxes(evaluation: dict[str, Any]) -> list[tuple[float, list[float] | None]]:
    """Return AP50 and AP of a detector, each with its interval; nothing of another model."""
    if evaluation.get("task") != "detection":
        return []
    return [(evaluation[name], evaluation.get(f"{name}_interval")) for name in ("ap50", "ap")]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _duration(record: dict[str, Any]) -> str:
    """Return the time from the start of a run to its last update, pauses included."""
    try:
        started, updated = (dt.datetime.fromisoformat(record[name]) for name in ("started", "updated"))
    except (ValueError, TypeError):
        return "–"
    return duration((updated - started).total_seconds())


def _warning(read: list[RunFiles]) -> str:
    """Return why the figures of the runs do not compare; empty where they do."""
    evaluated = [files for files in read if files.evaluation]
    splits = {(files.evaluation or {})["split"] for files in evaluated}
    if len(splits) > 1:
        return (
            f"The runs were measured on different splits ({', '.join(sorted(splits))}): "
            "their figures do not compare."
        )
    marks = {
        (str(files.plan["fingerprint"].get(split)), (files.evaluation or {})["count"])
        for files in evaluated
        for split in splits
    }
    if len(marks) > 1:
        return "The runs were measured on different images: their figures do not compare."
    return ""


def _differences(read: list[RunFiles]) -> list[tuple[str, list[str]]]:
    """Return every setting in which the runs differ, with its value in each; ``–`` where one has none."""
    settings = [
        settings_of(files.plan) | {"device": str(files.record["hardware"].get("name", "–"))} for files in read
    ]
    names = [
        name
        for name in dict.fromkeys(name for one in settings for name in one)
        if not name.startswith(_HIDDEN)
    ]
    rows = [(name, [one.get(name, "–") for one in settings]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]
