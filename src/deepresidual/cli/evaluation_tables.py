"""How evaluations are printed: the figures, the members of an ensemble, classes, confusions, calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.cli.output import print_line, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepresidual.evaluation import EnsembleEvaluation, Evaluation, RobustnessRow

__all__ = ["print_choice", "print_details", "print_figures", "print_members", "print_robustness"]

# How many classes and confusions the tables show; --json has all.
_SHOWN = 40


def print_figures(measured: Evaluation) -> None:
    """Print what was measured of the whole split in one row, and of a temperature in a sentence."""
    low, high = measured.top1_interval
    print_table(
        ("split", ">images", ">right", ">top-1", "95 % interval", ">top-5", ">loss", ">ECE"),
        [
            (
                measured.split,
                f"{measured.count:,}",
                f"{measured.top1_count:,}",
                f"{measured.top1:.2%}",
                _interval(low, high),
                f"{measured.top5:.2%}",
                f"{measured.loss:.4f}",
                f"{measured.ece:.2%}",
            )
        ],
    )
    if measured.temperature is not None:
        fitted = measured.temperature
        print_line(
            f"temperature {fitted.value:.4f}, fitted on {fitted.fit_count:,} images of {fitted.split}: "
            f"ECE {measured.ece:.2%} → {fitted.ece:.2%}, loss {measured.loss:.4f} → {fitted.loss:.4f}"
        )


def print_members(together: EnsembleEvaluation) -> None:
    """Print the members of an ensemble: each alone, and what it contributes."""
    print_table(
        (">top-1", "95 % interval", ">top-5", ">loss", ">contribution", "member"),
        [
            (
                f"{member.top1:.2%}",
                _interval(*member.top1_interval),
                f"{member.top5:.2%}",
                f"{member.loss:.4f}",
                _contribution(member.contribution, chosen=member.chosen),
                member.name,
            )
            for member in together.members
        ],
    )
    chosen = sum(member.chosen for member in together.members)
    print_line(f"the mean of the probabilities of {chosen} of {len(together.members)} models:")


def _contribution(value: float | None, *, chosen: bool) -> str:
    if value is None:
        return "alone" if chosen else "not in it"
    return f"{100 * value:+.2f} points"


def print_choice(together: EnsembleEvaluation) -> None:
    """Print how members were chosen, where they were."""
    if together.steps:
        print_line(f"chosen on {together.chosen_on}, the best first:")
        print_table(
            (">top-1", ">loss", "member added"),
            [(f"{step.top1:.2%}", f"{step.loss:.4f}", step.name) for step in together.steps],
        )


def print_details(measured: Evaluation) -> None:
    """Print every class, the most frequent confusions and the bins of the calibration."""
    classes = [figures for figures in measured.per_class if figures.support or figures.num_predicted]
    weakest = sorted(classes, key=lambda figures: figures.f1)[:_SHOWN] if len(classes) > _SHOWN else classes
    print_table(
        ("class", ">images", ">predicted", ">precision", ">recall", ">F1"),
        [
            (
                figures.name,
                f"{figures.support:,}",
                f"{figures.num_predicted:,}",
                f"{figures.precision:.2%}",
                f"{figures.recall:.2%}",
                f"{figures.f1:.2%}",
            )
            for figures in weakest
        ],
    )
    if len(classes) > _SHOWN:
        print_line(f"the {_SHOWN} classes of {len(classes):,} with the lowest F1; --json has all")
    wrong = sorted((row for row in measured.confusions if row[0] != row[1]), key=lambda row: -row[2])
    if wrong:
        print_table(
            (">images", "true class", "taken for"),
            [
                (f"{count:,}", measured.classes[true], measured.classes[predicted])
                for true, predicted, count in wrong[:_SHOWN]
            ],
        )
    print_table(
        ("probability", ">images", ">confidence", ">accuracy", ">difference"),
        [
            (
                f"{part.low:.2f} – {part.high:.2f}",
                f"{part.count:,}",
                f"{part.confidence:.2%}",
                f"{part.accuracy:.2%}",
                f"{100 * (part.confidence - part.accuracy):+.2f}",
            )
            for part in measured.bins
        ],
    )


def print_robustness(rows: Sequence[RobustnessRow]) -> None:
    """Print top-1 for every corruption beside that of the images as they are."""
    plain = rows[0].evaluation
    print_table(
        ("images", ">top-1", "95 % interval", ">change", ">loss", ">ECE"),
        [
            (
                "as they are" if row.corruption is None else str(row.corruption),
                f"{row.evaluation.top1:.2%}",
                _interval(*row.evaluation.top1_interval),
                "" if row.corruption is None else f"{100 * (row.evaluation.top1 - plain.top1):+.2f} points",
                f"{row.evaluation.loss:.4f}",
                f"{row.evaluation.ece:.2%}",
            )
            for row in rows
        ],
    )


def _interval(low: float, high: float) -> str:
    return f"{100 * low:.2f} – {high:.2%}"
