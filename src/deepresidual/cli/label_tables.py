"""Tables of an evaluation of several labels an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.cli.output import print_line, print_table

if TYPE_CHECKING:
    from deepresidual.evaluation.multilabel import MultilabelEvaluation

__all__ = ["print_labels"]

# How many labels the table shows; --json has all.
_SHOWN = 40


def print_labels(measured: MultilabelEvaluation) -> None:
    """Print the figures with their intervals, every label, and what they mean."""
    shown = {
        "map": "mAP",
        "micro_ap": "micro AP",
        "macro_f1": "macro F1",
        "micro_f1": "micro F1",
        "exact_match": "all right",
    }
    print_table(
        ("split", ">images", "figure", ">value", "95 % interval"),
        [
            (
                measured.split if number == 0 else "",
                f"{measured.count:,}" if number == 0 else "",
                title,
                f"{getattr(measured, name):.2%}",
                f"{100 * measured.intervals[name][0]:.2f} – {measured.intervals[name][1]:.2%}",
            )
            for number, (name, title) in enumerate(shown.items())
        ],
    )
    weakest = measured.per_class
    if len(weakest) > _SHOWN:
        weakest = tuple(sorted(weakest, key=lambda row: row.f1)[:_SHOWN])
    losing = [row.name for row in measured.per_class if row.loses_to_always_yes(measured.count)]
    print_table(
        ("label", ">images", ">given", ">AP", ">threshold", ">precision", ">recall", ">F1", ">always yes"),
        [
            (
                row.name,
                f"{row.support:,}",
                f"{row.num_predicted:,}",
                "–" if row.average_precision is None else f"{row.average_precision:.1%}",
                f"{row.threshold:.2f}",
                f"{row.precision:.1%}",
                f"{row.recall:.1%}",
                f"{row.f1:.1%}",
                f"{row.always_f1(measured.count):.1%}{_mark(row.name in losing, bool(losing))}",
            )
            for row in weakest
        ],
    )
    if len(measured.per_class) > _SHOWN:
        print_line(f"the {_SHOWN} labels of {len(measured.per_class):,} with the lowest F1; --json has all")
    if losing:
        of_labels = f"{len(losing):,} of {len(measured.measured):,} labels"
        print_line(f"* F1 is not above that of always yes, giving the label to every image: {of_labels}")
    print_line(measured.in_words())
    print_line(measured.thresholds_in_words())


def _mark(is_marked: bool, has_marks: bool) -> str:
    """Return the mark of a label, or the room for it, so that figures stay below each other."""
    return " *" if is_marked else "  " * has_marks
