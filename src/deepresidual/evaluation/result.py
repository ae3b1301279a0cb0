"""``Evaluation``: the result of an evaluation as a value, to JSON and back.

Fields are what was counted; whatever follows from them (intervals, metrics of each class, calibration
error) is a property, so the two cannot contradict each other.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from deepresidual.backends.abstention import Abstention
from deepresidual.evaluation.calibration import Bin, Temperature, expected_calibration_error
from deepresidual.runs.baseline import Baseline, in_words, majority_class
from deepresidual.runs.intervals import wilson_interval
from deepresidual.runtime.printable import shortened

_MOST_IN_NOTEBOOK = 24  # classes; of more a notebook shows no confusion matrix


@dataclass(frozen=True)
class Mistake:
    """One sample that the model predicted wrongly.

    Attributes:
        index: Which sample of the split.
        key: Its name.
        label: The true class.
        predicted: The class that the model thought most probable.
        probability: How probable the model thought that class, 0 to 1.
        loss: Cross-entropy of the sample in nats.
    """

    index: int
    key: str
    label: str
    predicted: str
    probability: float
    loss: float


@dataclass(frozen=True)
class CorrectPrediction:
    """One sample that the model predicted correctly.

    Attributes:
        index: Which sample of the split.
        key: Its name.
        label: Its class.
        probability: How probable the model thought that class, 0 to 1.
        loss: Cross-entropy of the sample in nats.
    """

    index: int
    key: str
    label: str
    probability: float
    loss: float


@dataclass(frozen=True)
class ClassMetrics:
    """Precision, recall and F1 of one class.

    Attributes:
        name: The class.
        support: Samples of the class.
        num_predicted: Samples that the model took for it.
        precision: Share of those that are of the class; 0 where it took none for it.
        recall: Share of the class that it took for it; 0 where there is no sample of the class.
        f1: Harmonic mean of the two; 0 where both are.
    """

    name: str
    support: int
    num_predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class AbstentionMetrics:
    """What a probability below which there is no answer gives on a split.

    Attributes:
        rule: The probability, and what it was chosen by.
        is_chosen_here: Whether it was chosen on these very images, so that the figures flatter.
        count: Images of the split.
        answered: How many of them have an answer.
        correct: How many of these are right.
    """

    rule: Abstention
    is_chosen_here: bool
    count: int
    answered: int
    correct: int

    @property
    def coverage(self) -> float:
        """Share of the images that have an answer."""
        return self.answered / self.count

    @property
    def precision(self) -> float:
        """Share of the answers that are right; 0 where there is none."""
        return self.correct / max(1, self.answered)

    @property
    def precision_interval(self) -> tuple[float, float]:
        """95 % score interval of the precision (Wilson 1927)."""
        return wilson_interval(self.correct, self.answered) if self.answered else (0.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types, with coverage, precision and its interval."""
        return {
            **dataclasses.asdict(self),
            "coverage": self.coverage,
            "precision": self.precision,
            "precision_interval": list(self.precision_interval),
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> AbstentionMetrics:
        """Build it from what :meth:`to_dict` returned."""
        known = {name: fields[name] for name in ("is_chosen_here", "count", "answered", "correct")}
        return cls(rule=Abstention.from_dict(fields["rule"]), **known)


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        split: Name of the split.
        top1: Fraction whose most probable class is correct.
        top5: Fraction whose true class is among the five most probable.
        loss: Mean cross-entropy in nats.
        count: Number of samples; the size of the split.
        classes: Names of the classes.
        confusions: Rows (true, predicted, samples) for every pair of classes that occurred, correct ones
            included; a matrix without its zeros.
        mistakes: The worst mistakes, highest loss first.
        bins: Samples by the probability of the predicted class: a reliability diagram.
        best: The surest correct predictions, each of another class, lowest loss first.
        temperature: Metrics after temperature scaling; ``None``: no temperature was fitted.
        abstention: Answers from the model's own threshold on; ``None``: it has none.
    """

    split: str
    top1: float
    top5: float
    loss: float
    count: int
    classes: tuple[str, ...]
    confusions: tuple[tuple[int, int, int], ...]
    mistakes: tuple[Mistake, ...]
    bins: tuple[Bin, ...] = ()
    best: tuple[CorrectPrediction, ...] = ()
    temperature: Temperature | None = None
    abstention: AbstentionMetrics | None = None

    def __repr__(self) -> str:
        if not self.count:
            return f"Evaluation({self.split}: no samples)"
        low, high = self.top1_interval
        return (
            f"Evaluation({self.split}: {self.top1_count:,} of {self.count:,} right, {self.top1:.1%} "
            f"({low:.1%} to {high:.1%}); always {self.baseline.name}: {self.baseline.top1:.1%})"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the sentence, and where classes are few the confusions."""
        if not self.count:
            return html.escape(repr(self))
        return f"<p>{html.escape(self.split)}: {html.escape(self.in_words())}</p>{self._confusions_as_html()}"

    def _confusions_as_html(self) -> str:
        if len(self.classes) > _MOST_IN_NOTEBOOK:
            return ""
        names = [html.escape(shortened(name, 20)) for name in self.classes]
        head = "".join(f'<th scope="col">{name}</th>' for name in names)
        rows = "".join(
            f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{count:,}</td>" for count in row) + "</tr>"
            for name, row in zip(names, self.matrix(), strict=True)
        )
        return f"<table><thead><tr><th>is \\ predicted</th>{head}</tr></thead><tbody>{rows}</tbody></table>"

    @property
    def top1_count(self) -> int:
        """Number of samples whose most probable class is correct."""
        return sum(count for true, predicted, count in self.confusions if true == predicted)

    @property
    def top5_count(self) -> int:
        """Number of samples whose true class is among the five most probable."""
        return round(self.top5 * self.count)

    @property
    def top1_interval(self) -> tuple[float, float]:
        """95 % score interval of the top-1 accuracy (Wilson 1927)."""
        return wilson_interval(self.top1_count, self.count)

    @cached_property
    def baseline(self) -> Baseline:
        """The majority-class baseline: always answering the most frequent class of the split."""
        return majority_class(self.classes, self.confusions)

    @property
    def ece(self) -> float:
        """Expected calibration error over 15 bins of equal width, 0 to 1 (Guo et al. 2017)."""
        return expected_calibration_error(self.bins)

    @cached_property
    def per_class(self) -> tuple[ClassMetrics, ...]:
        """Precision, recall and F1 of every class, in the order of ``classes``."""
        support, taken, correct = ([0] * len(self.classes) for _ in range(3))
        for true, predicted, count in self.confusions:
            support[true] += count
            taken[predicted] += count
            correct[true] += count * (true == predicted)
        return tuple(
            ClassMetrics(
                name,
                support[row],
                taken[row],
                correct[row] / max(1, taken[row]),
                correct[row] / max(1, support[row]),
                # 2PR / (P + R) without the divisions of P and R.
                2 * correct[row] / max(1, support[row] + taken[row]),
            )
            for row, name in enumerate(self.classes)
        )

    def matrix(self) -> list[list[int]]:
        """Return the confusion matrix: a row for every true class, a column for every predicted one."""
        rows = [[0] * len(self.classes) for _ in self.classes]
        for true, predicted, count in self.confusions:
            rows[true][predicted] = count
        return rows

    def in_words(self, *, training_top1: float | None = None, from_scratch: bool | None = None) -> str:
        """Return a sentence that says what the accuracy means: beside the baseline, and what would help.

        Args:
            training_top1: Accuracy of the training images; where it is much higher the model overfits.
            from_scratch: Whether training began without learned weights. Default of both: not known.
        """
        return in_words(
            self.top1_count,
            self.count,
            self.top1_interval if self.count else (0.0, 1.0),
            self.baseline,
            training_top1=training_top1,
            from_scratch=from_scratch,
        )

    def summary(self) -> dict[str, Any]:
        """Return the four metrics and the split as JSON types."""
        return {
            "split": self.split,
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "count": self.count,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types, with what follows from it: counts, interval, classes, ECE."""
        document: dict[str, Any] = {
            **self.summary(),
            "top1_count": self.top1_count,
            "top5_count": self.top5_count,
            "top1_interval": list(self.top1_interval),
            "baseline_top1": self.baseline.top1,
            "baseline_class": self.baseline.label,
            "ece": self.ece,
        }
        if self.temperature is not None:
            document["temperature"] = {**dataclasses.asdict(self.temperature), "ece": self.temperature.ece}
        if self.abstention is not None:
            document["abstention"] = self.abstention.to_dict()
        return {
            **document,
            "bins": [dataclasses.asdict(part) for part in self.bins],
            "classes": list(self.classes),
            "per_class": [dataclasses.asdict(metrics) for metrics in self.per_class],
            "confusions": [list(row) for row in self.confusions],
            "mistakes": [dataclasses.asdict(mistake) for mistake in self.mistakes],
            "best": [dataclasses.asdict(prediction) for prediction in self.best],
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Evaluation:
        """Build an evaluation from what :meth:`to_dict` returned; what follows from the rest is not read.

        ``bins``, ``best``, ``temperature`` and ``abstention`` may be absent, as they are from older versions.
        """
        known = {name: fields[name] for name in ("split", "top1", "top5", "loss", "count")}
        temperature, abstention = fields.get("temperature"), fields.get("abstention")
        return cls(
            **known,
            classes=tuple(fields["classes"]),
            confusions=tuple((true, predicted, count) for true, predicted, count in fields["confusions"]),
            mistakes=tuple(Mistake(**mistake) for mistake in fields["mistakes"]),
            bins=tuple(Bin(**row) for row in fields.get("bins", ())),
            best=tuple(CorrectPrediction(**row) for row in fields.get("best", ())),
            temperature=None if temperature is None else Temperature.from_dict(temperature),
            abstention=None if abstention is None else AbstentionMetrics.from_dict(abstention),
        )
