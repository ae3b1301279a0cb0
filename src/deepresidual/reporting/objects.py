"""The part of a report about a detector: from the evaluation's document and its pictures.

A practitioner asks how many of the objects are found, how many false ones there are, and how sure that is;
the figures of the field stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deepresidual.reporting.classification import AT_ONCE, LISTED, Pictures
from deepresidual.reporting.object_charts import MOST_CURVES, draw_precision
from deepresidual.reporting.pages import rounded_percent
from deepresidual.reporting.pictures import embedded
from deepresidual.runs.detections import found_at_thresholds, judged

_SIZES = (
    ("small", "below 32×32 pixels"),
    ("medium", "32×32 to 96×96 pixels"),
    ("large", "above 96×96 pixels"),
)

_KINDS = {
    "background": ("nothing there", "a detection where nothing is annotated"),
    "missed": ("missed", "an object that no detection is near"),
    "place": ("place", "the right class, and it overlaps the object by less than half"),
    "class": ("class", "the right place, and another class"),
    "both": ("class and place", "near an object of another class"),
    "twice": ("twice", "one object found a second time"),
}

_RULES = {"coco": "COCO", "voc07": "Pascal VOC 2007", "voc12": "Pascal VOC 2012"}
_MOST_SCENES = 12
_SEEN_AT_ONCE = 4  # whole images; the rest is folded


def object_headline(evaluation: Mapping[str, Any]) -> str:
    """Return the result in one sentence: counts, not the figures of the field."""
    found, images = found_at_thresholds(evaluation), _images(evaluation)
    if found is None:
        return f"There is no object to find in {images}"
    if not found.num_right:
        ap50 = rounded_percent(judged(evaluation)["ap50"])
        return f"None of {found.num_objects:,} objects in {images} is found: AP50 {ap50}"
    return (
        f"It finds {found.num_right:,} of {found.num_objects:,} objects in {images}, "
        f"with {_false_ones(found.num_false, found.count)}"
    )


def _images(evaluation: Mapping[str, Any]) -> str:
    """Return on which images was measured: ``72 test images``."""
    count = evaluation["count"]
    return f"{count:,} {evaluation['split']} image{'' if count == 1 else 's'}"


def _false_ones(num_false: int, count: int) -> str:
    """Return how many false detections images have, as a frequency: ``a false one in 12 images``."""
    if not num_false:
        return "no false ones"
    each = num_false / count
    if each >= 1:
        return f"{each:.1f} false ones an image" if each < 10 else f"{each:.0f} false ones an image"
    images = round(count / num_false)
    return "a false one in every image" if images < 2 else f"a false one in {images:,} images"


def object_verdict(evaluation: Mapping[str, Any]) -> str:
    """Return what AP50 is and how sure it is, and what it means; empty without an object."""
    if not evaluation["num_objects"]:
        return ""
    figures = judged(evaluation)
    interval = figures.get("ap50_interval")
    likely = ""
    if interval and rounded_percent(interval[0]) != rounded_percent(interval[1]):
        likely = (
            f"; other images would likely give between {rounded_percent(interval[0])} "
            f"and {rounded_percent(interval[1])}"
        )
    right = "it has the class of an object and overlaps it by half or more."
    if figures is not evaluation:
        right = (
            "it has the class of an object and its mask overlaps that of the object by half or more; "
            f"judged by boxes, AP50 is {rounded_percent(evaluation['ap50'])}."
        )
    return (
        "Detections count from the score on that suits their class best. Over all scores the mean precision "
        f"(AP50) is {rounded_percent(figures['ap50'])}{likely}. A detection is right if {right}"
    )


def object_parts(evaluation: Mapping[str, Any], pictures: Pictures) -> dict[str, Any]:
    """Return the variables of ``objects.html.jinja``.

    Args:
        evaluation: The document, checked.
        pictures: The pictures beside it.
    """
    figures = judged(evaluation)
    of_boxes = {row["name"]: row for row in evaluation["per_class"]}
    rows = [_class_row(row) | {"of_boxes": of_boxes[row["name"]]} for row in figures["per_class"]]
    rows.sort(key=lambda row: (row["ap"] is None, row["ap"], row["name"]))
    most_objects = sorted(figures["per_class"], key=lambda row: -row["num_objects"])[:MOST_CURVES]
    wrong, missed = (_mistakes(figures, name, pictures) for name in ("false", "missed"))
    scenes = _scenes(pictures)
    return {
        "evaluation": figures,
        "by_masks": figures is not evaluation,
        "lead": object_verdict(evaluation),
        "interval": figures.get("ap50_interval"),
        "rows": rows[:LISTED],
        "more_rows": rows[LISTED:],
        "sizes": _size_rows(evaluation),
        "precision": draw_precision(most_objects),
        "num_curves": min(len(rows), MOST_CURVES),
        "kinds": _kind_rows(figures),
        "images": _images(evaluation),
        "wrong": wrong,
        "missed": missed,
        "scenes": scenes[:_SEEN_AT_ONCE],
        "more_scenes": scenes[_SEEN_AT_ONCE:],
    }


def object_sections(parts: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return identifier and title of the sections that a page with these :func:`object_parts` has."""
    return (
        ("figures", "How good"),
        *((("errors", "What goes wrong"),) if parts["kinds"] else ()),
        ("mistakes", "False and missed"),
        *((("images", "Whole images"),) if parts["scenes"] else ()),
    )


def object_figures(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures that say something to those who know them."""
    figures = {
        "split": str(evaluation["split"]),
        "rules": _RULES.get(evaluation["metric"], evaluation["metric"]),
    }
    if masks := evaluation.get("masks"):
        figures |= {f"{title}, masks": value for title, value in _precisions(masks).items()}
        figures |= {f"{title}, boxes": value for title, value in _precisions(evaluation).items()}
    else:
        figures |= _precisions(evaluation)
    if evaluation["loss"] is not None:
        figures["loss"] = f"{evaluation['loss']:.4f}"
    return {
        **figures,
        "objects": f"{evaluation['num_objects']:,}",
        "detections measured": f"{evaluation['num_found']:,}",
        "images, each counted once": f"{evaluation['count']:,}",
    }


def _precisions(evaluation: Mapping[str, Any]) -> dict[str, str]:
    """Return average precisions with their intervals, and average recalls, by boxes or by masks."""
    figures = {
        "AP, IoU .50 to .95": _percent(evaluation["ap"]),
        "AP50": _percent(evaluation["ap50"]),
        "AP75": _percent(evaluation["ap75"]),
    }
    for title, name in (("AP", "ap_interval"), ("AP50", "ap50_interval")):
        if interval := evaluation.get(name):
            low, high = (100 * bound for bound in interval)
            figures[f"95 % interval of {title} (bootstrap)"] = f"{low:.2f} – {high:.2f} %"
    for name, title in (("ar1", "AR, 1 detection"), ("ar10", "AR, 10 detections"), ("ar", "AR")):
        if evaluation.get(name) is not None:
            figures[title] = _percent(evaluation[name])
    return figures


def _class_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"ap_interval": None, "threshold": None, **row}


def _size_rows(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return objects, AP and average recall by size; none where only one size has objects."""
    figures = judged(evaluation)
    rows = [
        {
            "name": name,
            "what": what,
            "count": figures.get(f"num_{name}"),
            "ap": figures[f"ap_{name}"],
            "ar": figures[f"ar_{name}"],
            "ap_of_boxes": evaluation[f"ap_{name}"],
        }
        for name, what in _SIZES
        if figures.get(f"ap_{name}") is not None
    ]
    return rows if len(rows) > 1 else []


def _kind_rows(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the kinds of errors that occur, the most costly first."""
    rows = [row for row in evaluation.get("errors") or [] if row["count"]]
    highest = max((row["gain"] for row in rows), default=0) or 1
    return [
        {
            "name": _KINDS.get(row["kind"], (row["kind"], ""))[0],
            "what": _KINDS.get(row["kind"], ("", ""))[1],
            "count": row["count"],
            "gain": row["gain"],
            "share": row["gain"] / highest,
        }
        for row in sorted(rows, key=lambda row: (-row["gain"], -row["count"]))
    ]


def _mistakes(evaluation: Mapping[str, Any], name: str, pictures: Pictures) -> dict[str, Any]:
    """Return the mistakes of a list: with pictures, more with pictures, and those that have none."""
    rows = [
        {**row, "why": _why(row), "photo": embedded(pictures(f"mistakes/{name}-{number:02d}"))}
        for number, row in enumerate(evaluation.get(name) or [])
    ]
    shown = [row for row in rows if row["photo"]]
    listed = [row for row in rows if not row["photo"]]
    return {"shown": shown[:AT_ONCE], "more": shown[AT_ONCE:], "listed": listed}


def _why(row: Mapping[str, Any]) -> str:
    """Return what is wrong with a detection, or that an object was missed."""
    match row["kind"]:
        case "background":
            return "nothing annotated there"
        case "missed":
            return "missed"
        case "twice":
            return "found twice"
        case "place":
            return "mask too far off" if "mask" in row else "box too far off"
        case "class":
            return f"is {row['true_label']}"
        case _:
            return f"near {row['true_label']}"


def _scenes(pictures: Pictures) -> list[dict[str, Any]]:
    scenes = []
    for number in range(_MOST_SCENES):
        both = [embedded(pictures(f"heat-maps/scene-{number:02d}-{name}")) for name in ("annotated", "found")]
        if None not in both:
            scenes.append({"number": number + 1, "annotated": both[0], "found": both[1]})
    return scenes


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
