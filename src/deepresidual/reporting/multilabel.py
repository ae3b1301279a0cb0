"""The part of a report about several labels an image: from the evaluation's document and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepresidual.reporting.classification import AT_ONCE, LISTED, Pictures, shown
from deepresidual.reporting.pages import rounded_percent
from deepresidual.runs.label_baseline import beside_every_label, loses_to_always_yes

_NONE = "none"
_MOST_HITS = 2
_TITLES = {
    "map": "mean average precision (mAP)",
    "micro_ap": "micro average precision",
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "exact_match": "all labels right",
}


def label_headline(evaluation: Mapping[str, Any]) -> str:
    """Return the result in one sentence."""
    count = evaluation["count"]
    right = round(evaluation["exact_match"] * count)
    return (
        f"All labels are right on {right:,} of {count:,} held-out images: "
        f"{rounded_percent(evaluation['exact_match'])}"
    )


def label_verdict(evaluation: Mapping[str, Any]) -> str:
    """Return what the macro F1 means beside giving every label to every image; empty without any label."""
    if not any(row["support"] for row in evaluation["per_class"]):
        return ""
    interval, baseline = evaluation["intervals"]["macro_f1"], evaluation["always_macro_f1"]
    low, high = map(rounded_percent, interval)
    likely = f"; other images would likely give between {low} and {high}" if low != high else ""
    return (
        f"Macro F1, the mean of the labels' F1, is {rounded_percent(evaluation['macro_f1'])}{likely}. "
        f"Giving every label to every image would get {rounded_percent(baseline)}. "
        f"The model is {beside_every_label(interval, baseline)}."
    )


def label_parts(evaluation: Mapping[str, Any], pictures: Pictures) -> dict[str, Any]:
    """Return the variables of ``multilabel.html.jinja``.

    Args:
        evaluation: The document.
        pictures: The pictures beside it.
    """
    rows = [{**row, "is_losing": _is_losing(row)} for row in evaluation["per_class"]]
    rows.sort(key=lambda row: (row["support"] == 0, row["f1"], row["name"]))
    mistakes = [_in_words(row) for row in shown(evaluation, "mistakes", "mistake", pictures)]
    return {
        "evaluation": evaluation,
        "figures": [
            {"title": title, "value": evaluation[name], "interval": evaluation["intervals"][name]}
            for name, title in _TITLES.items()
        ],
        "lead": label_verdict(evaluation),
        "num_losing": sum(row["is_losing"] for row in rows),
        "num_measured": sum(row["support"] > 0 for row in rows),
        "rows": rows[:LISTED],
        "more_rows": rows[LISTED:],
        "mistakes": mistakes[:AT_ONCE],
        "more_mistakes": mistakes[AT_ONCE:],
        "best": [_in_words(row) for row in shown(evaluation, "best", "best", pictures)][:_MOST_HITS],
    }


def label_figures(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures that say something to those who know them."""
    return {
        "split": str(evaluation["split"]),
        **{title: f"{100 * evaluation[name]:.2f} %" for name, title in _TITLES.items()},
        "loss (nats a label)": f"{evaluation['loss']:.4f}",
        "images, each counted once": f"{evaluation['count']:,}",
    }


def _is_losing(row: Mapping[str, Any]) -> bool:
    return loses_to_always_yes(row["f1"], row["always_f1"], row["support"])


def _in_words(row: Mapping[str, Any]) -> dict[str, Any]:
    given, there = (", ".join(row[name]) or _NONE for name in ("predicted", "labels"))
    return {**row, "given": given, "there": there, "is_right": set(row["predicted"]) == set(row["labels"])}
