"""The part of a report that is about one evaluation of a classifier: from its document and its pictures.

The report of a run, that of any evaluation and the comparison of two models show the same parts, so they are
made here once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deepresidual.reporting.charts import draw_reliability
from deepresidual.reporting.confusion_matrix import (
    MOST_CELLS,
    class_order,
    confused_groups,
    counts_of,
    matrix_picture,
    matrix_rows,
)
from deepresidual.reporting.pages import rounded_percent
from deepresidual.reporting.pictures import address_of, embedded
from deepresidual.reporting.verdict import Verdict, confidence_in_words, sure_answers, verdict_of
from deepresidual.runs.baseline import majority_class, shows_top5
from deepresidual.runs.intervals import wilson_interval

LISTED = 15
"""Rows of a table of classes or confusions that are seen at once."""

_MOST_CONFUSIONS = 60

AT_ONCE = 12
"""Mistakes that are seen at once; the rest is folded."""

_MOST_HITS = 2

Pictures = Callable[[str], bytes]
"""Returns a PNG by its name in the run folder, such as ``mistakes/00``; nothing where there is none."""


def verdict(evaluation: Mapping[str, Any]) -> Verdict | None:
    """Return what the accuracy of an evaluation means; ``None`` without images."""
    confusions, count = evaluation["confusions"], evaluation["count"]
    right = right_of(confusions)
    if not count or right > count:
        return None
    interval = evaluation.get("top1_interval") or wilson_interval(right, count)
    baseline = majority_class(evaluation["classes"], confusions)
    return verdict_of(right, count, (interval[0], interval[1]), baseline)


def headline(judged: Verdict, what: str = "images") -> str:
    """Return the result in one sentence: counts before percent."""
    return f"{judged.right:,} of {judged.count:,} {what} are named right: {rounded_percent(judged.top1)}"


def technical_figures(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures of a classifier that say something to those who know them."""
    ece, figures = evaluation.get("ece"), {"split": str(evaluation["split"])}
    figures["top-1"] = f"{100 * evaluation['top1']:.2f} %"
    if interval := evaluation.get("top1_interval"):
        figures["95 % interval (Wilson)"] = f"{100 * interval[0]:.2f} – {100 * interval[1]:.2f} %"
    if shows_top5(len(evaluation["classes"])):
        figures["top-5"] = f"{100 * evaluation['top5']:.2f} %"
    figures["loss (nats)"] = f"{evaluation['loss']:.4f}"
    if ece is not None:
        figures["calibration error (ECE)"] = f"{100 * ece:.2f} %"
    figures["images, each counted once"] = f"{evaluation['count']:,}"
    return figures


def right_of(confusions: Sequence[Sequence[int]]) -> int:
    """Return how many samples of rows (true, predicted, samples) are right."""
    return sum(count for true, predicted, count in confusions if true == predicted)


def classification_parts(evaluation: Mapping[str, Any], pictures: Pictures) -> dict[str, Any]:
    """Return the variables of ``classification.html.jinja`` but for what is known of a run alone.

    Args:
        evaluation: The document of an evaluation, checked.
        pictures: Its pictures.
    """
    classes, confusions = evaluation["classes"], evaluation["confusions"]
    counts = counts_of(len(classes), confusions)
    has_cells = len(classes) <= MOST_CELLS
    bins = evaluation.get("bins") or []
    mistakes = shown(evaluation, "mistakes", "mistake", pictures)
    recalls = class_rows(evaluation)
    confused = [] if has_cells else most_confused(classes, confusions)
    return {
        "evaluation": evaluation,
        "shows_top5": shows_top5(len(classes)),
        "matrix": matrix_rows(classes, counts) if has_cells else [],
        "matrix_picture": "" if has_cells else address_of(matrix_picture(counts), "png"),
        "matrix_order": [] if has_cells else [classes[row] for row in class_order(counts)],
        "groups": [] if has_cells else confused_groups(classes, counts),
        "confusions": confused[:LISTED],
        "more_confusions": confused[LISTED:],
        "recalls": recalls[:LISTED],
        "more_recalls": recalls[LISTED:],
        "mistakes": mistakes[:AT_ONCE],
        "more_mistakes": mistakes[AT_ONCE:],
        "num_wrong": evaluation["count"] - right_of(confusions),
        "best": shown(evaluation, "best", "best", pictures)[:_MOST_HITS],
        "sure": sure_answers(bins),
        "confidence": confidence_in_words(bins),
        "reliability": draw_reliability(bins) if bins else None,
    }


def most_confused(classes: Sequence[str], confusions: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Return the most frequent pairs of true and wrongly predicted class."""
    wrong = [row for row in confusions if row[0] != row[1]]
    return [
        {"true": classes[true], "predicted": classes[predicted], "count": count}
        for true, predicted, count in sorted(wrong, key=lambda row: -row[2])[:_MOST_CONFUSIONS]
    ]


def class_rows(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
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
            "interval": wilson_interval(right[row], count),
            "taken": taken.get(row, 0),
            "precision": right[row] / taken[row] if taken.get(row) else None,
        }
        for row, count in support.items()
        if count
    ]
    return sorted(rows, key=lambda row: (row["recall"], row["name"]))


def shown(evaluation: Mapping[str, Any], folder: str, heat: str, pictures: Pictures) -> list[dict[str, Any]]:
    """Return the images of a list of the evaluation, with the heat maps that there are of them."""
    rows = []
    for number, row in enumerate(evaluation[folder]):
        photo = embedded(pictures(f"{folder}/{number:02d}"))
        if photo is not None:
            heat_map = embedded(pictures(f"heat-maps/{heat}-{number:02d}"))
            # Of a hit the class that was predicted is its own.
            rows.append({"predicted": row.get("label", ""), **row, "photo": photo, "heat": heat_map})
    return rows
