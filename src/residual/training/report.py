"""``report.html``: a run to look at, in one self-contained file, made from the run folder's files alone.

Curves are drawn by matplotlib as SVG, pictures are embedded, nothing is loaded from elsewhere, and no
script runs. Whatever comes from a data set (class and file names) is escaped.
"""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import jinja2
import matplotlib as mpl
from markupsafe import Markup
from matplotlib.figure import Figure

from residual.errors import ModelFileError
from residual.runtime.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

__all__ = ["write_report"]

_MATRIX_CLASSES = 24  # a wider matrix cannot be read; beyond it the most frequent confusions are listed
_LISTED_CONFUSIONS = 30
_BLUE, _ORANGE = "#1f5fa8", "#c8501e"


def write_report(run: Path) -> Path:
    """Write the report of the run folder ``run`` and return its path.

    Raises:
        ModelFileError: A file of the run is damaged.
        RunError: The report cannot be written.
    """
    try:
        record = json.loads((run / "run.json").read_text("utf-8"))
        metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
        evaluation_file = run / "evaluation.json"
        evaluation = json.loads(evaluation_file.read_text("utf-8")) if evaluation_file.exists() else None
    except (OSError, ValueError) as error:
        raise ModelFileError(f"the run in {run} cannot be read ({error})") from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("residual.training", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.jinja").render(
        record=record,
        plan=record["plan"],
        evaluation=evaluation,
        curves=_curves(metrics),
        matrix=_matrix(evaluation) if evaluation else None,
        confusions=_confusions(evaluation) if evaluation else [],
        mistakes=_mistakes(run, evaluation) if evaluation else [],
        facts=_facts(record),
    )
    path = run / "report.html"
    write_text(path, page)
    return path


def _curves(metrics: list[dict[str, Any]]) -> Markup | None:
    """Draw loss and top-1 error over epochs, training and held-out; ``None`` where there is nothing yet."""
    training = [row for row in metrics if row["event"] == "train"]
    measured = [row for row in metrics if row["event"] == "evaluation"]
    if not training:
        return None
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "residual", "font.family": "sans-serif"}):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        _curve(left, training, measured, "loss", "cross-entropy (nats)", percent=False)
        _curve(right, training, measured, "top1", "top-1 error (%)", percent=True)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    return Markup(svg[svg.index("<svg") :])  # noqa: S704  # drawn here, from numbers


def _curve(
    axes: Axes,
    training: list[dict[str, Any]],
    measured: list[dict[str, Any]],
    name: str,
    label: str,
    *,
    percent: bool,
) -> None:
    def values(rows: list[dict[str, Any]]) -> list[float]:
        return [100 * (1 - row[name]) if percent else row[name] for row in rows]

    axes.plot(
        [row["epoch"] for row in training], values(training), color=_BLUE, linewidth=1, label="training"
    )
    for split in dict.fromkeys(row["split"] for row in measured):
        rows = [row for row in measured if row["split"] == split]
        # Line style and marker differ too, so that the curves can be told apart in gray.
        axes.plot(
            [row["epoch"] for row in rows],
            values(rows),
            color=_ORANGE,
            linestyle="--",
            marker="o" if len(rows) < 40 else "",
            markersize=4,
            label=split,
        )
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


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
            {
                "count": counts.get((true, predicted), 0),
                "share": counts.get((true, predicted), 0) / max(1, total),
                "right": true == predicted,
                "predicted": other,
            }
            for predicted, other in enumerate(classes)
        ]
        rows.append({"name": name, "cells": cells, "total": total, "recall": cells[true]["share"]})
    return rows


def _confusions(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the most frequent pairs of true and wrongly predicted class."""
    wrong = [row for row in evaluation["confusions"] if row[0] != row[1]]
    classes = evaluation["classes"]
    return [
        {"true": classes[true], "predicted": classes[predicted], "count": count}
        for true, predicted, count in sorted(wrong, key=lambda row: -row[2])[:_LISTED_CONFUSIONS]
    ]


def _mistakes(run: Path, evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for number, mistake in enumerate(evaluation["mistakes"]):
        picture = run / "mistakes" / f"{number:02d}.png"
        if picture.exists():
            data = base64.b64encode(picture.read_bytes()).decode()
            rows.append({**mistake, "source": f"data:image/png;base64,{data}"})
    return rows


def _facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    plan, recipe = record["plan"], record["plan"]["recipe"]
    augment = ", ".join(f"{name} {value}" for name, value in recipe["augment"].items())
    return [
        ("command", " ".join(record["command"])),
        ("started", record["started"]),
        ("data", f"{plan['data']}, {plan['num_samples']:,} training images, {len(plan['classes'])} classes"),
        ("fingerprint", ", ".join(f"{split} {value}" for split, value in plan["fingerprint"].items())),
        ("not used", ", ".join(f"{file['path']} ({file['reason']})" for file in record["ignored"]) or "–"),
        (
            "model",
            f"{plan['model']}, input {plan['preprocess']['crop_px']} px {plan['preprocess']['channels']}",
        ),
        ("recipe", ", ".join(f"{name} {value}" for name, value in recipe.items() if name != "augment")),
        ("augmentation", augment),
        ("seed, precision", f"{plan['seed']}, {plan['precision']}"),
        ("hardware", ", ".join(f"{name} {value}" for name, value in record["hardware"].items())),
        ("versions", ", ".join(f"{name} {value}" for name, value in record["versions"].items())),
    ]
