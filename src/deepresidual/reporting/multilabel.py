"""The part of a report about several labels an image: from the evaluation's document and its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepresidual.reporting.classification import AT_ONCE, LISTED, Pictures, shown
from deepresidual.reporting.pages import rounded_percent

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


def label_parts(evaluation: Mapping[str, Any], pictures: Pictures) -> dict[str, Any]:
    """Return the variables of ``multilabel.html.jinja``.

    Args:
        evaluation: The document.
        pictures: The pictures beside it.
    """
    rows = sorted(evaluation["per_class"], key=lambda row: (row["support"] == 0, row["f1"], row["name"]))
    mistakes = [_in_words(row) for row in shown(evaluation, "mistakes", "mistake", pictures)]
    return {
        "evaluation": evaluation,
        "figures": [
            {"title": title, "value": evaluation[name], "interval": evaluation["intervals"][name]}
            for name, title in _TITLES.items()
        ],
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


def _in_words(row: Mapping[str, Any]) -> dict[str, Any]:
    given, there = (", ".join(row[name]) or _NONE for name in ("predicted", "labels"))
    return {**row, "given": given, "there": there, "is_right": set(row["predicted"]) == set(row["labels"])}
