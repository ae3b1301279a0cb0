"""Tables of an evaluation: metrics, members of an ensemble, classes, confusions, calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.cli.label_tables import print_labels
from deepresidual.cli.output import print_line, print_table
from deepresidual.runs.baseline import shows_top5
from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deepresidual.evaluation import EnsembleEvaluation, Evaluation, RobustnessEvaluation
    from deepresidual.evaluation.multilabel import MultilabelEvaluation
    from deepresidual.evaluation.result import AbstentionMetrics

__all__ = ["print_measured"]

# Characters of what was measured on what.
_SUBJECT_LENGTH = 200
# How many classes and confusions the tables show; --json has all.
_SHOWN = 40


def print_measured(
    measured: Evaluation | EnsembleEvaluation | RobustnessEvaluation | MultilabelEvaluation,
    of_what: str,
    *,
    details: bool,
) -> None:
    """Print a result of any kind.

    Args:
        measured: The result.
        of_what: What was measured on what, as the sentence begins: ``runs/mine on photos``.
        details: Add all figures, confusions and calibration.
    """
    from deepresidual.evaluation import EnsembleEvaluation, RobustnessEvaluation
    from deepresidual.evaluation.multilabel import MultilabelEvaluation

    if isinstance(measured, MultilabelEvaluation):
        print_labels(measured)
        return
    if isinstance(measured, RobustnessEvaluation):
        _print_robustness(measured)
        return
    if isinstance(measured, EnsembleEvaluation):
        _print_choice(measured)
        _print_members(measured)
        measured = measured.evaluation
    print_line(f"{shortened(of_what, _SUBJECT_LENGTH)} ({measured.split}): {measured.in_words()}")
    _print_classes(measured)
    if measured.temperature is not None:
        _print_temperature(measured)
    if measured.abstention is not None:
        _print_abstention(measured.abstention)
    if details:
        _print_metrics(measured)
        _print_details(measured)
    else:
        print_line("--details adds loss, calibration and confusions.")


def _print_metrics(measured: Evaluation) -> None:
    """Print what was measured of the whole split in one row."""
    low, high = measured.top1_interval
    _print_figures(
        ("split", ">images", ">right", ">top-1", "95 % interval", ">baseline", ">top-5", ">loss", ">ECE"),
        [
            (
                measured.split,
                f"{measured.count:,}",
                f"{measured.top1_count:,}",
                f"{measured.top1:.2%}",
                _interval(low, high),
                f"{measured.baseline.top1:.2%}",
                f"{measured.top5:.2%}",
                f"{measured.loss:.4f}",
                f"{measured.ece:.2%}",
            )
        ],
        len(measured.classes),
    )


def _print_temperature(measured: Evaluation) -> None:
    fitted = measured.temperature
    assert fitted is not None  # noqa: S101  # the caller has looked
    print_line(
        f"temperature {fitted.value:.4f}, fitted on {fitted.fit_count:,} images of {fitted.split}: "
        f"ECE {measured.ece:.2%} → {fitted.ece:.2%}, loss {measured.loss:.4f} → {fitted.loss:.4f}"
    )


def _print_abstention(measured: AbstentionMetrics) -> None:
    """Print how many images have an answer at a threshold, and how many of these are right."""
    rule, (low, high) = measured.rule, measured.precision_interval
    figures = (
        f"{measured.answered:,} of {measured.count:,} images are answered ({measured.coverage:.0%}), "
        f"{measured.correct:,} of them right: {measured.precision:.2%} ({_interval(low, high)})"
        if measured.answered
        else f"none of {measured.count:,} images is answered"
    )
    origin = "chosen on these images" if measured.is_chosen_here else f"chosen on {rule.chosen_on}"
    print_line(
        f"answers from probability {rule.min_probability:g} on ({origin} for a precision of "
        f"{rule.precision_target:g}): {figures}"
    )


def _print_figures(columns: Sequence[str], rows: Sequence[Sequence[str]], num_classes: int) -> None:
    """Print a table, without top-5 where the classes are too few for it."""
    kept = [place for place, name in enumerate(columns) if name != ">top-5" or shows_top5(num_classes)]
    print_table([columns[place] for place in kept], [[row[place] for place in kept] for row in rows])


def _print_members(together: EnsembleEvaluation) -> None:
    """Print the members of an ensemble: each alone, and what it contributes."""
    _print_figures(
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
        len(together.evaluation.classes),
    )
    chosen = sum(member.chosen for member in together.members)
    print_line(f"the mean of the probabilities of {chosen} of {len(together.members)} models:")


def _contribution(value: float | None, *, chosen: bool) -> str:
    if value is None:
        return "alone" if chosen else "not in it"
    return f"{100 * value:+.2f} points"


def _print_choice(together: EnsembleEvaluation) -> None:
    """Print how members were chosen, where they were."""
    if together.steps:
        print_line(f"chosen on {together.chosen_on}, the best first:")
        print_table(
            (">top-1", ">loss", "member added"),
            [(f"{step.top1:.2%}", f"{step.loss:.4f}", step.name) for step in together.steps],
        )


def _print_classes(measured: Evaluation) -> None:
    """Print every class, or of many those that do worst."""
    classes = [metrics for metrics in measured.per_class if metrics.support or metrics.num_predicted]
    weakest = sorted(classes, key=lambda metrics: metrics.f1)[:_SHOWN] if len(classes) > _SHOWN else classes
    print_table(
        ("class", ">images", ">predicted", ">precision", ">recall", ">F1"),
        [
            (
                metrics.name,
                f"{metrics.support:,}",
                f"{metrics.num_predicted:,}",
                f"{metrics.precision:.2%}",
                f"{metrics.recall:.2%}",
                f"{metrics.f1:.2%}",
            )
            for metrics in weakest
        ],
    )
    if len(classes) > _SHOWN:
        print_line(f"the {_SHOWN} classes of {len(classes):,} with the lowest F1; --json has all")


def _print_details(measured: Evaluation) -> None:
    """Print the most frequent confusions and the bins of the calibration."""
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


def _print_robustness(measured: RobustnessEvaluation) -> None:
    """Print top-1 for every corruption beside that of the images as they are."""
    clean = measured.evaluation
    changes = [f"{100 * (row.evaluation.top1 - clean.top1):+.2f} points" for row in measured.rows]
    print_table(
        ("images", ">top-1", "95 % interval", ">change", ">loss", ">ECE"),
        [
            (
                name,
                f"{evaluation.top1:.2%}",
                _interval(*evaluation.top1_interval),
                change,
                f"{evaluation.loss:.4f}",
                f"{evaluation.ece:.2%}",
            )
            for name, evaluation, change in [
                ("as they are", clean, ""),
                *(
                    (str(row.corruption), row.evaluation, change)
                    for row, change in zip(measured.rows, changes, strict=True)
                ),
            ]
        ],
    )
    print_line(f"as they are: {clean.in_words()}")


def _interval(low: float, high: float) -> str:
    return f"{100 * low:.2f} – {high:.2%}"
