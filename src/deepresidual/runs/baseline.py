"""Judge an accuracy by the majority-class baseline: always answering the most frequent class of the split.

Of a thousand classes an accuracy of 68 % is high; of two it is low where that answer alone has 54 % right.
Beside the accuracy of the training images it tells what is wrong, and what would help.

Example:
    >>> baseline = majority_class(("ants", "bees"), ((0, 0, 40), (0, 1, 30), (1, 0, 19), (1, 1, 64)))
    >>> in_words(104, 153, (0.60, 0.75), baseline, training_top1=0.88)
    "104 of 153 right: 68 % (60–75 %); always 'bees': 54 %; it overfits: 88 % on training images; …"
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepresidual.runtime.printable import shortened

if TYPE_CHECKING:
    from deepresidual.runs.read import RunFiles

_FEWEST_CLASSES_OF_TOP5 = 11  # of ten, guessing gets half of the images right by top-5
# Training accuracy so far above the held-out one, and above its interval, is called overfitting.
_OVERFITTING = 0.1
_CLASS_LENGTH = 40  # characters of the name of a class in a sentence


@dataclass(frozen=True)
class Baseline:
    """The majority-class baseline of a split.

    Attributes:
        label: The most frequent class; of equally frequent ones the first; empty of a split without images.
        right: Images of it, which the answer has right.
        count: Images of the split.
    """

    label: str
    right: int
    count: int

    @property
    def top1(self) -> float:
        """Share of the images that the answer has right."""
        return self.right / max(1, self.count)

    @property
    def name(self) -> str:
        """The class in quotation marks, as a sentence names it."""
        return f"'{shortened(self.label, _CLASS_LENGTH)}'"


def majority_class(classes: Sequence[str], confusions: Iterable[Sequence[int]]) -> Baseline:
    """Return the baseline of a split.

    Args:
        classes: Names of the classes.
        confusions: Rows (true, predicted, samples).
    """
    support = [0] * len(classes)
    for true, _, count in confusions:
        support[true] += count
    right = max(support, default=0)
    label = classes[support.index(right)] if right else ""
    return Baseline(label, right, sum(support))


def shows_top5(num_classes: int) -> bool:
    """Return whether top-5 accuracy says anything: not below 11 classes, where half of them are five."""
    return num_classes >= _FEWEST_CLASSES_OF_TOP5


def in_words(
    right: int,
    count: int,
    interval: tuple[float, float],
    baseline: Baseline,
    *,
    training_top1: float | None = None,
    from_scratch: bool | None = None,
) -> str:
    """Return a sentence that says what an accuracy means.

    Args:
        right: Images that the model predicts correctly.
        count: Images of the split.
        interval: 95 % interval of the accuracy.
        baseline: The majority-class baseline of the same images.
        training_top1: Accuracy of the training images; ``None``: not known.
        from_scratch: Whether training began without learned weights; ``None``: not known.
    """
    if not count:
        return "no images were measured"
    low, high = interval
    clauses = [
        f"{right:,} of {count:,} right: {_percent(right / count, count)} ({_interval(interval, count)})"
    ]
    if baseline.right == count:
        said = f"all are {baseline.name}, which says nothing about telling classes apart"
        return f"{right:,} of {count:,} right; {said}"
    clauses.append(f"always {baseline.name}: {_percent(baseline.top1, count)}")
    is_weak = low <= baseline.top1
    if is_weak:
        how = "worse than" if high < baseline.top1 else "not shown to be better than"
        clauses.append(f"{how} always answering {baseline.name}")
    is_overfitted = training_top1 is not None and overfits(training_top1, right / count, interval)
    if is_overfitted:
        clauses.append(f"it overfits: {100 * (training_top1 or 0):.0f} % on training images")
    if is_weak or is_overfitted:
        learned = "" if from_scratch is False else " or learned weights (--weights)"
        clauses.append(f"more images{learned} would help")
    return "; ".join(clauses)


def _percent(share: float, count: int) -> str:
    return f"{100 * share:.{_digits(count)}f} %"


def _interval(bounds: tuple[float, float], count: int) -> str:
    low, high = (f"{100 * bound:.{_digits(count)}f}" for bound in bounds)
    return f"{low}–{high} %"


def _digits(count: int) -> int:
    """Return the decimals of a percentage of so many images that say something."""
    return 0 if count < 200 else 1 if count < 20_000 else 2


def overfits(training_top1: float, top1: float, interval: tuple[float, float]) -> bool:
    """Return whether training images are right so much more often than held-out ones that it is overfitting.

    Args:
        training_top1: Accuracy of the training images.
        top1: Accuracy of held-out images.
        interval: Its 95 % interval.
    """
    return training_top1 > max(interval[1], top1 + _OVERFITTING)


def run_in_words(files: RunFiles) -> str:
    """Return the sentence about the evaluation of a run; empty where there is none, or of another task."""
    evaluation = files.evaluation
    if not evaluation or "task" in evaluation or not evaluation["top1_interval"]:
        return ""
    confusions = evaluation["confusions"]
    low, high = evaluation["top1_interval"]
    return in_words(
        sum(count for true, predicted, count in confusions if true == predicted),
        evaluation["count"],
        (low, high),
        majority_class(evaluation["classes"], confusions),
        training_top1=training_top1(files.training, evaluation.get("step")),
        from_scratch=not files.plan["weights"],
    )


def training_top1(rows: Sequence[dict[str, Any]], step: int | None = None) -> float | None:
    """Return the accuracy in the last epoch of training, augmented as it was; ``None``: not known.

    Args:
        rows: The lines of ``metrics.jsonl`` on training, each of the steps since the one before.
        step: The step whose weights were kept. Default: the last.
    """
    rows = [row for row in rows if step is None or row["step"] <= step]
    total, weights = 0.0, 0
    for number, row in enumerate(rows):
        if "top1" in row and row["epoch"] > rows[-1]["epoch"] - 1:
            weight = row["step"] - (rows[number - 1]["step"] if number else 0)
            total, weights = total + row["top1"] * weight, weights + weight
    return total / weights if weights else None
