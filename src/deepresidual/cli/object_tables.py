"""Tables of an evaluation of a detector: figures, classes, errors; and of a comparison of two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.cli.output import print_line, print_table
from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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


def _sides(measured: DetectionEvaluation) -> list[tuple[str, DetectionEvaluation]]:
    """Return the figures by boxes and by masks, each with its name; of boxes alone without one."""
    return [("", measured)] if measured.masks is None else [("boxes", measured), ("masks", measured.masks)]


def _by(sides: Sequence[tuple[str, object]]) -> tuple[str, ...]:
    """Return the column that names the sides, where there are several."""
    return ("by",) if len(sides) > 1 else ()


def _named(name: str) -> tuple[str, ...]:
    return (name,) if name else ()


def _print_figures(measured: DetectionEvaluation) -> None:
    sides = _sides(measured)
    if measured.of_pascal_voc:
        rows = [(*_named(by), _percent(side.ap50), _interval(side.ap50_interval)) for by, side in sides]
        print_table((*_by(sides), ">mAP", "95 % interval"), rows)
        print_line(
            "AP at IoU .5 to .95, AP75, sizes and recalls are no part of these rules: --metric coco has them"
        )
        return
    names = ("AP50", "AP75", "small", "medium", "large", "recall")
    figures = [
        (side.ap50, side.ap75, side.ap_small, side.ap_medium, side.ap_large, side.ar) for _, side in sides
    ]
    known = [place for place in range(len(names)) if any(row[place] is not None for row in figures)]
    print_table(
        (*_by(sides), ">AP", "95 % interval", *(f">{names[place]}" for place in known)),
        [
            (
                *_named(by),
                _percent(side.ap),
                _interval(side.ap_interval),
                *(_percent(row[place]) for place in known),
            )
            for (by, side), row in zip(sides, figures, strict=True)
        ],
    )
    small, medium, large = (measured.num_small or 0, measured.num_medium or 0, measured.num_large or 0)
    if max(small, medium, large) < small + medium + large:
        print_line(
            f"{small:,} objects are small (below 32×32 pixels), {medium:,} medium, {large:,} large (above "
            "96×96); AP of a size: mean over classes with such objects"
        )


def _print_classes(measured: DetectionEvaluation) -> None:
    """Print every class that has objects, or of many those that do worst."""
    precisions = (">AP",) if measured.of_pascal_voc else (">AP", ">AP50", ">AP75")
    print_table(
        ("class", *_by(_sides(measured)), ">objects", *precisions, ">best score", ">precision", ">recall"),
        [
            (
                *subject,
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
            for subject, row in _class_rows(measured)
        ],
    )
    if len(measured.measured) > _SHOWN:
        print_line(f"the {_SHOWN} classes of {len(measured.measured):,} with the lowest AP; --json has all")
    if without := len(measured.per_class) - len(measured.measured):
        have = "1 class has" if without == 1 else f"{without:,} classes have"
        print_line(f"{have} no object here and {'is' if without == 1 else 'are'} left out of the means")
    print_line("best score: F1 is highest from there on, with this precision and recall (at an IoU of .5)")


def _print_errors(measured: DetectionEvaluation) -> None:
    gain = "mAP to gain" if measured.of_pascal_voc else "AP50 to gain"
    if measured.masks is None:
        print_table(
            ("error", ">count", f">{gain}", "detections"),
            [
                (row.kind, f"{row.count:,}", f"{100 * row.gain:+.1f}", _MEANINGS[row.kind])
                for row in sorted(measured.errors, key=lambda row: -row.gain)
            ],
        )
        return
    by_masks = {row.kind: row for row in measured.masks.errors}
    pairs = [(row, by_masks[row.kind]) for row in measured.errors]
    print_table(
        ("error", ">boxes", ">to gain", ">masks", ">to gain", "detections"),
        [
            (
                row.kind,
                *(cell for each in (row, mask) for cell in (f"{each.count:,}", f"{100 * each.gain:+.1f}")),
                _MEANINGS[row.kind].partition(" (")[0],
            )
            for row, mask in sorted(pairs, key=lambda pair: -pair[1].gain)
        ],
    )
    print_line(
        f"to gain: points of {gain.removesuffix(' to gain')} were they mended; near: an IoU of .1 to .5"
    )


def _print_details(measured: DetectionEvaluation) -> None:
    sides = _sides(measured)
    recalls = [
        ("1 an image", [side.ar1 for _, side in sides]),
        ("10 an image", [side.ar10 for _, side in sides]),
        ("all", [side.ar for _, side in sides]),
        ("small", [side.ar_small for _, side in sides]),
        ("medium", [side.ar_medium for _, side in sides]),
        ("large", [side.ar_large for _, side in sides]),
    ]
    if known := [row for row in recalls if any(value is not None for value in row[1])]:
        print_table(
            ("recall with", *(f">{by or 'mean over IoU'}" for by, _ in sides)),
            [(name, *map(_percent, values)) for name, values in known],
        )
    likely = not measured.of_pascal_voc  # the interval of a class is of AP at IoU .5 to .95
    print_table(
        (
            *("class", *_by(_sides(measured)), ">objects", ">found", ">AP"),
            *(("95 % interval",) if likely else ()),
            ">highest recall",
        ),
        [
            (
                *subject,
                f"{row.num_objects:,}",
                f"{row.num_found:,}",
                _percent(measured.precisions(row)[0]),
                *((_interval(row.ap_interval),) if likely else ()),
                _percent(row.recall50),
            )
            for subject, row in _class_rows(measured)
        ],
    )
    judged = measured.judged
    if measured.masks is not None and (judged.false or judged.missed):
        print_line("the surest false detections and the largest missed objects, judged by their masks")
    _print_mistakes(">score", judged.false)
    _print_mistakes("", judged.missed)


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
    sides = [("", compared)]
    if compared.masks is not None:
        sides = [("boxes", compared), ("masks", compared.masks)]
    print_table(
        (*_by(sides), ">AP", "95 % interval", ">AP50", "detector"),
        [
            (*_named(by), _percent(ap), _interval(within), _percent(ap50), name)
            for by, side in sides
            for ap, within, ap50, name in zip(side.ap, side.ap_intervals, side.ap50, names, strict=True)
        ],
    )
    print_line(f"{compared.count:,} images with {compared.num_objects:,} objects")
    for by, side in sides:
        of = {"": "", "boxes": "box ", "masks": "mask "}[by]
        for title, change in ((f"{of}AP", side.ap_difference), (f"{of}AP50", side.ap50_difference)):
            low, high = (100 * end for end in change.interval)
            print_line(
                f"difference of {title} {100 * change.difference:+.1f} points (95 % interval {low:+.1f} to "
                f"{high:+.1f}), the second better in {change.share:.0%} of the draws of the images"
            )
    for by, side in sides:
        print_line((f"by {by}: " if by else "") + _better(names, side))


def _better(names: tuple[str, str], compared: DetectorComparison) -> str:
    """Return which of two is better, or that it cannot be told."""
    low, high = compared.ap_difference.interval
    if low <= 0 <= high:
        return "which is better cannot be told from these images"
    return f"{names[1] if low > 0 else names[0]} is better"


def _class_rows(measured: DetectionEvaluation) -> Iterator[tuple[tuple[str, ...], ClassFigures]]:
    """Yield the classes that are shown, by boxes and then by masks, with what names them."""
    by_masks = {} if measured.masks is None else {row.name: row for row in measured.masks.per_class}
    for row in _weakest(measured):
        if not by_masks:
            yield (row.name,), row
            continue
        yield (row.name, "boxes"), row
        yield ("", "masks"), by_masks[row.name]


def _weakest(measured: DetectionEvaluation) -> Sequence[ClassFigures]:
    classes = measured.measured
    if len(classes) <= _SHOWN:
        return classes
    return sorted(classes, key=lambda row: measured.precisions(row)[0] or 0)[:_SHOWN]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f}"
