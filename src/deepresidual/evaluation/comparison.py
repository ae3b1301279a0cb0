"""Compare two models on the same images by McNemar's test, from two files of single results.

Two accuracies on one test set are not independent: both models fail on the hard images. What tells them
apart are the discordant images, which one has right and the other wrong; were both equally good, each would
be as likely to win one as a fair coin (McNemar 1947; Dietterich 1998 recommends the test for models that
can be trained only once).

Example:
    >>> compare("a.csv", "b.csv").p_value
    0.0312
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepresidual.errors import DataError
from deepresidual.evaluation.intervals import EXACT_BELOW, mcnemar_p_value, paired_difference_interval
from deepresidual.evaluation.results import Results, read_results
from deepresidual.runs.baseline import Baseline


@dataclass(frozen=True)
class PairedComparison:
    """Two models on the same images.

    Attributes:
        both_correct: Images that both predict correctly.
        only_first: Images that only the first predicts correctly.
        only_second: Images that only the second predicts correctly.
        both_wrong: Images that neither predicts correctly.
        baseline: The majority-class baseline of the images; ``None``: their classes are not known.
    """

    both_correct: int
    only_first: int
    only_second: int
    both_wrong: int
    baseline: Baseline | None = None

    @property
    def count(self) -> int:
        """Number of images."""
        return self.both_correct + self.only_first + self.only_second + self.both_wrong

    @property
    def top1(self) -> tuple[float, float]:
        """Top-1 accuracy of the first and of the second."""
        first, second = self.both_correct + self.only_first, self.both_correct + self.only_second
        return first / self.count, second / self.count

    @property
    def difference(self) -> float:
        """Top-1 accuracy of the second minus that of the first."""
        return (self.only_second - self.only_first) / self.count

    @property
    def difference_interval(self) -> tuple[float, float]:
        """95 % interval of the difference (Agresti and Min 2005)."""
        return paired_difference_interval(self.only_first, self.only_second, self.count)

    @property
    def test(self) -> str:
        """Test of the p-value: ``exact binomial``, or ``chi-squared`` of many samples."""
        return "exact binomial" if self.only_first + self.only_second < EXACT_BELOW else "chi-squared"

    @property
    def p_value(self) -> float:
        """Two-sided p-value of McNemar's test."""
        return mcnemar_p_value(self.only_first, self.only_second)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        return {
            "count": self.count,
            "both_right": self.both_correct,
            "only_first": self.only_first,
            "only_second": self.only_second,
            "both_wrong": self.both_wrong,
            "top1": list(self.top1),
            "difference": self.difference,
            "difference_interval": list(self.difference_interval),
            "test": self.test,
            "p_value": self.p_value,
            **(
                {"baseline_top1": self.baseline.top1, "baseline_class": self.baseline.label}
                if self.baseline
                else {}
            ),
        }


def compare(first: str | Path, second: str | Path) -> PairedComparison:
    """Compare two files that ``residual evaluate --predictions`` wrote; images are matched by name.

    Raises:
        ConfigurationError: The name of a file does not end in a known format.
        DataError: A file cannot be read, or the two are not about the same images and classes.
    """
    return compare_results(read_results(first), read_results(second), str(first), str(second))


def compare_results(results: Results, others: Results, first: str, second: str) -> PairedComparison:
    """Compare the results of two models on single images.

    Args:
        results: True and predicted class of the first model by the name of the image.
        others: The same of the second.
        first: Name of the first, for messages.
        second: Name of the second.

    Raises:
        DataError: The two are not about the same images and classes.
    """
    for name, here, there in ((second, results, others), (first, others, results)):
        missing = next((key for key in here if key not in there), None)
        if missing is not None:
            raise DataError(
                f"{name} has no result of {missing!r}",
                expected=f"the same images in both ({len(results):,} and {len(others):,} here)",
                remedy="give the models in place of their files, which are then measured on the images that "
                "both may be judged on: residual compare MODEL MODEL DATA",
            )
    counts = {
        (first_correct, second_correct): 0
        for first_correct in (True, False)
        for second_correct in (True, False)
    }
    for key, (label, predicted) in results.items():
        other_label, other_predicted = others[key]
        if label != other_label:
            raise DataError(
                f"{key!r} is of class {label!r} in {first} and {other_label!r} in {second}",
                expected="the same classes in both",
            )
        counts[predicted == label, other_predicted == label] += 1
    support = Counter(label for label, _ in results.values())
    label = max(sorted(support), key=lambda name: support[name])
    baseline = Baseline(label, support[label], len(results))
    return PairedComparison(
        counts[True, True], counts[True, False], counts[False, True], counts[False, False], baseline
    )
