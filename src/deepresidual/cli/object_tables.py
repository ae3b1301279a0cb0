"""Tables of an evaluation of a detector: figures, classes, errors; and of a comparison of two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.cli.output import print_line, print_table
from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepresidual.evaluation.objects import (
        ClassFigures,
        DetectionEvaluation,
        DetectionMistake,
        DetectorComparison,
    )

__all__ = ["print_comparison", "print_detections"]

_SUBJECT_LENGTH = 200
_SHOWN = 40  # classes; --json has all
_SHOWN_MISTAKES = 10
_MEANINGS = {
    "place": "near an object of its class (IoU .1 to .5)",
    "class": "on an object of another class",
    "both": "near an object of another class",
    "twice": "on an object that is found already",
    "background": "on no object",
    "missed": "objects that nothing is near",
}


def print_detections(measured: DetectionEvaluation, of_what: str, *, details: bool) -> None:
    """Print the figures of a detector.

    Args:
        measured: The result.
        of_what: What was measured on what, as the sentence begins: ``runs/mine on photos``.
        details: Add recalls, intervals of the classes, and the worst mistakes.
    """
    print_line(f"{shortened(of_what, _SUBJECT_LENGTH)} ({measured.split}): {measured.in_words()}")
    _print_figures(measured)
    _print_classes(measured)
    _print_errors(measured)
    if details:
        _print_details(measured)
    else:
        print_line("--details adds recalls, intervals of the classes and the worst mistakes.")


def _print_figures(measured: DetectionEvaluation) -> None:
    if measured.of_pascal_voc:
        within = "–" if measured.ap50_interval is None else _interval(measured.ap50_interval)
        print_table((">mAP", "95 % interval"), [(_percent(measured.ap50), within)])
        print_line(
            "AP at IoU .5 to .95, AP75, sizes and recalls are no part of these rules: --metric coco has them"
        )
        return
    figures = {
        "AP": measured.ap,
        "AP50": measured.ap50,
        "AP75": measured.ap75,
        "small": measured.ap_small,
        "medium": measured.ap_medium,
        "large": measured.ap_large,
        "recall": measured.ar,
    }
    known = {name: value for name, value in figures.items() if value is not None}
    within = "–" if measured.ap_interval is None else _interval(measured.ap_interval)
    columns, cells = [f">{name}" for name in known], [_percent(value) for value in known.values()]
    print_table([columns[0], "95 % interval", *columns[1:]], [[cells[0], within, *cells[1:]]])
    small, medium, large = (measured.num_small or 0, measured.num_medium or 0, measured.num_large or 0)
    if max(small, medium, large) < small + medium + large:
        print_line(
            f"{small:,} objects are small (below 32×32 pixels), {medium:,} medium, {large:,} large (above "
            "96×96); AP of a size: mean over classes with such objects"
        )


def _print_classes(measured: DetectionEvaluation) -> None:
    """Print every class that has objects, or of many those that do worst."""
    classes = _weakest(measured)
    precisions = (">AP",) if measured.of_pascal_voc else (">AP", ">AP50", ">AP75")
    print_table(
        ("class", ">objects", *precisions, ">best score", ">precision", ">recall"),
        [
            (
                row.name,
                f"{row.num_objects:,}",
                *(_percent(value) for value in measured.precisions(row)),
                *(
                    ("–", "–", "–")
                    if row.threshold is None
                    else (
                        f"{row.threshold.score:.2f}",
                        _percent(row.threshold.precision),
                        _percent(row.threshold.recall),
                    )
                ),
            )
            for row in classes
        ],
    )
    if len(measured.measured) > _SHOWN:
        print_line(f"the {_SHOWN} classes of {len(measured.measured):,} with the lowest AP; --json has all")
    if without := len(measured.per_class) - len(measured.measured):
        have = "1 class has" if without == 1 else f"{without:,} classes have"
        print_line(f"{have} no object here and {'is' if without == 1 else 'are'} left out of the means")
    print_line("best score: F1 is highest from there on, with this precision and recall (at an IoU of .5)")


def _print_errors(measured: DetectionEvaluation) -> None:
    print_table(
        ("error", ">count", ">mAP to gain" if measured.of_pascal_voc else ">AP50 to gain", "detections"),
        [
            (row.kind, f"{row.count:,}", f"{100 * row.gain:+.1f}", _MEANINGS[row.kind])
            for row in sorted(measured.errors, key=lambda row: -row.gain)
        ],
    )


def _print_details(measured: DetectionEvaluation) -> None:
    recalls = [
        ("1 an image", measured.ar1),
        ("10 an image", measured.ar10),
        ("all", measured.ar),
        ("small", measured.ar_small),
        ("medium", measured.ar_medium),
        ("large", measured.ar_large),
    ]
    if any(value is not None for _, value in recalls):
        print_table(
            ("recall with", ">mean over IoU"),
            [(name, _percent(value)) for name, value in recalls if value is not None],
        )
    likely = not measured.of_pascal_voc  # the interval of a class is of AP at IoU .5 to .95
    print_table(
        ("class", ">objects", ">found", ">AP", *(("95 % interval",) if likely else ()), ">highest recall"),
        [
            (
                row.name,
                f"{row.num_objects:,}",
                f"{row.num_found:,}",
                _percent(measured.precisions(row)[0]),
                *(("–" if row.ap_interval is None else _interval(row.ap_interval),) if likely else ()),
                _percent(row.recall50),
            )
            for row in _weakest(measured)
        ],
    )
    _print_mistakes(">score", measured.false)
    _print_mistakes("", measured.missed)


def _print_mistakes(score: str, mistakes: Sequence[DetectionMistake]) -> None:
    """Print wrong detections, or objects that were missed, which have no score."""
    if not mistakes:
        return
    columns = (*((score,) if score else ()), "error", "label", "object", "box", "image")
    print_table(
        columns if score else ("error", "object", "box", "image"),
        [
            (
                *((f"{row.score:.2f}",) if row.score is not None else ()),
                row.kind,
                row.label,
                *((row.true_label or "–",) if score else ()),
                " ".join(f"{edge:.0f}" for edge in row.box),
                row.key,
            )
            for row in mistakes[:_SHOWN_MISTAKES]
        ],
    )


def print_comparison(names: tuple[str, str], compared: DetectorComparison) -> None:
    """Print two detectors, their difference and whether it can be told from chance."""
    print_table(
        (">AP", "95 % interval", ">AP50", "detector"),
        [
            (_percent(ap), _interval(within), _percent(ap50), name)
            for ap, within, ap50, name in zip(
                compared.ap, compared.ap_intervals, compared.ap50, names, strict=True
            )
        ],
    )
    print_line(f"{compared.count:,} images with {compared.num_objects:,} objects")
    for title, change in (("AP", compared.ap_difference), ("AP50", compared.ap50_difference)):
        low, high = (100 * end for end in change.interval)
        print_line(
            f"difference of {title} {100 * change.difference:+.1f} points (95 % interval {low:+.1f} to "
            f"{high:+.1f}), the second better in {change.share:.0%} of the draws of the images"
        )
    low, high = compared.ap_difference.interval
    if low <= 0 <= high:
        print_line("which is better cannot be told from these images")
    else:
        print_line(f"{names[1] if low > 0 else names[0]} is better")


def _weakest(measured: DetectionEvaluation) -> Sequence[ClassFigures]:
    classes = measured.measured
    if len(classes) <= _SHOWN:
        return classes
    return sorted(classes, key=lambda row: measured.precisions(row)[0] or 0)[:_SHOWN]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _interval(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f}"
