"""``MultilabelEvaluation``: the result of an evaluation of several labels an image, to JSON and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepresidual.data.source.multilabel import MULTILABEL
from deepresidual.runs.label_baseline import beside_every_label, loses_to_always_yes

Interval = tuple[float, float]

_FIGURES = ("map", "micro_ap", "macro_f1", "micro_f1", "exact_match")


@dataclass(frozen=True)
class LabelMetrics:
    """Metrics of one label.

    Attributes:
        name: The label.
        threshold: Probability from which on images are given it.
        support: Images that have it.
        num_predicted: Images that were given it.
        num_right: Images that have it and were given it.
        average_precision: Average precision; ``None`` where no image has it.
    """

    name: str
    threshold: float
    support: int
    num_predicted: int
    num_right: int
    average_precision: float | None

    @property
    def precision(self) -> float:
        """Share of the images that were given it which have it; 0 where none was."""
        return self.num_right / max(1, self.num_predicted)

    @property
    def recall(self) -> float:
        """Share of the images that have it which were given it; 0 where none has."""
        return self.num_right / max(1, self.support)

    @property
    def f1(self) -> float:
        """Harmonic mean of the two; 0 where both are."""
        return 2 * self.num_right / max(1, self.support + self.num_predicted)

    def always_f1(self, count: int) -> float:
        """Return the F1 of giving it to all of ``count`` images, the baseline."""
        return 2 * self.support / (self.support + count) if self.support else 0.0

    def loses_to_always_yes(self, count: int) -> bool:
        """Return whether its F1 is not above that of giving it to all of ``count`` images."""
        return loses_to_always_yes(self.f1, self.always_f1(count), self.support)


@dataclass(frozen=True)
class LabelMistake:
    """One image whose labels are not all right, or all right.

    Attributes:
        index: Which sample of the split.
        key: Its name.
        labels: The labels that it has.
        predicted: The labels that it was given.
        doubtful: The label of the highest loss.
        probability: Its probability, 0 to 1.
        loss: Binary cross-entropy of the image in nats, mean over the labels.
    """

    index: int
    key: str
    labels: tuple[str, ...]
    predicted: tuple[str, ...]
    doubtful: str
    probability: float
    loss: float

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> LabelMistake:
        """Build it from its fields as JSON types."""
        lists = {name: tuple(fields[name]) for name in ("labels", "predicted")}
        return cls(**{**fields, **lists})


@dataclass(frozen=True)
class MultilabelEvaluation:
    """Result of an evaluation of several labels an image.

    Attributes:
        split: Name of the split.
        loss: Binary cross-entropy in nats, mean over images and labels.
        count: Number of images.
        micro_ap: Average precision of all pairs of image and label together.
        exact_match: Share of images whose labels are all right (subset accuracy).
        num_without: Images that were given no label.
        per_class: Every label, in the order of the model's.
        thresholds_from: The split that thresholds were chosen on. Where that is the evaluated one each half
            of it is judged by those of the other half.
        intervals: 95 % intervals of the figures, from a bootstrap over images.
        mistakes: Images with wrong labels, highest loss first.
        best: Images whose labels are all right, lowest loss first.
    """

    split: str
    loss: float
    count: int
    micro_ap: float
    exact_match: float
    num_without: int
    per_class: tuple[LabelMetrics, ...]
    thresholds_from: str
    intervals: Mapping[str, Interval]
    mistakes: tuple[LabelMistake, ...] = ()
    best: tuple[LabelMistake, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels."""
        return tuple(row.name for row in self.per_class)

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Threshold of every label."""
        return tuple(row.threshold for row in self.per_class)

    @property
    def measured(self) -> tuple[LabelMetrics, ...]:
        """The labels that an image of the split has; the others are left out of means."""
        return tuple(row for row in self.per_class if row.support)

    @property
    def map(self) -> float:
        """Mean average precision over the labels that an image has; 0 where there is none."""
        known = [row.average_precision or 0.0 for row in self.measured]
        return sum(known) / max(1, len(known))

    @property
    def macro_f1(self) -> float:
        """Mean F1 over the labels that an image has; 0 where there is none."""
        return sum(row.f1 for row in self.measured) / max(1, len(self.measured))

    @property
    def micro_f1(self) -> float:
        """F1 of all decisions together; 0 where there is none."""
        pairs = sum(row.support + row.num_predicted for row in self.per_class)
        return 2 * sum(row.num_right for row in self.per_class) / max(1, pairs)

    @property
    def always_macro_f1(self) -> float:
        """Macro F1 of giving every label to every image, the baseline."""
        return sum(row.always_f1(self.count) for row in self.measured) / max(1, len(self.measured))

    def in_words(self) -> str:
        """Return what was measured in a sentence."""
        over = f"{len(self.measured)} of {len(self.per_class)} labels"
        (low, high), (low_f1, high_f1) = self.intervals["map"], self.intervals["macro_f1"]
        beside = beside_every_label((low_f1, high_f1), self.always_macro_f1)
        return (
            f"mAP {self.map:.1%} ({100 * low:.1f}–{high:.1%}), mean over {over}; "
            f"macro F1 {self.macro_f1:.1%} ({100 * low_f1:.1f}–{high_f1:.1%}), "
            f"{beside} ({self.always_macro_f1:.1%}); all labels "
            f"right in {round(self.exact_match * self.count):,} of {self.count:,} images, "
            f"{self.num_without:,} are given none"
        )

    def thresholds_in_words(self) -> str:
        """Return what thresholds were chosen on."""
        chosen = f"thresholds were chosen on {self.thresholds_from}"
        if self.thresholds_from == self.split:
            return f"{chosen}; each half of it is judged by those of the other half"
        return chosen

    def summary(self) -> dict[str, Any]:
        """Return the figures and the split as JSON types."""
        figures = {name: getattr(self, name) for name in _FIGURES}
        return {"split": self.split, "loss": self.loss, **figures, "count": self.count}

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types, with what follows from it."""
        return {
            "task": MULTILABEL,
            **self.summary(),
            "always_macro_f1": self.always_macro_f1,
            "num_without": self.num_without,
            "thresholds_from": self.thresholds_from,
            "intervals": {name: list(interval) for name, interval in self.intervals.items()},
            "classes": list(self.classes),
            "per_class": [
                {
                    **dataclasses.asdict(row),
                    "precision": row.precision,
                    "recall": row.recall,
                    "f1": row.f1,
                    "always_f1": row.always_f1(self.count),
                }
                for row in self.per_class
            ],
            "mistakes": [_as_json(row) for row in self.mistakes],
            "best": [_as_json(row) for row in self.best],
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> MultilabelEvaluation:
        """Build an evaluation from what :meth:`to_dict` returned; what follows from the rest is not read."""
        own = [field.name for field in dataclasses.fields(LabelMetrics)]
        names = ("split", "loss", "count", "micro_ap", "exact_match", "num_without", "thresholds_from")
        return cls(
            **{name: fields[name] for name in names},
            per_class=tuple(LabelMetrics(**{name: row[name] for name in own}) for row in fields["per_class"]),
            intervals={name: (low, high) for name, (low, high) in fields["intervals"].items()},
            mistakes=tuple(LabelMistake.from_dict(row) for row in fields["mistakes"]),
            best=tuple(LabelMistake.from_dict(row) for row in fields["best"]),
        )


def _as_json(row: LabelMistake) -> dict[str, Any]:
    return {**dataclasses.asdict(row), "labels": list(row.labels), "predicted": list(row.predicted)}
