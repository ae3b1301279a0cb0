"""``DetectionEvaluation``: the result of an evaluation of a detector, to JSON and back.

A figure is ``None`` where there is nothing to measure: a class, or a size, of which the split has no object.
It is left out of means, as COCO leaves out its −1.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deepresidual.data.source.annotated.split import DETECTION
from deepresidual.evaluation.objects.bootstrap import Interval
from deepresidual.evaluation.objects.curves import Curve, Threshold
from deepresidual.evaluation.objects.mistakes import DetectionMistake

_NO_CURVE = Curve()
_PASCAL_VOC = {
    "voc07": "Pascal VOC 2007 (IoU .5, precision at 11 recalls)",
    "voc12": "Pascal VOC 2012 (IoU .5, area under the curve)",
}
_ADDED = ("num_small", "num_medium", "num_large", "masks")  # documents of earlier versions lack them


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class, as fractions from 0 to 1.

    Attributes:
        name: The class.
        num_objects: Objects of the class, without crowds and difficult ones.
        num_found: Detections of it that were measured.
        ap: Average precision, mean over ten IoU from .5 to .95.
        ap50: Average precision at an IoU of .5.
        ap75: Average precision at an IoU of .75.
        recall50: Highest recall at an IoU of .5.
        ap_interval: 95 % interval of ``ap``.
        threshold: Score from which on F1 is highest at an IoU of .5; ``None`` where nothing is right.
        curve: Precision over recall at an IoU of .5.
    """

    name: str
    num_objects: int
    num_found: int
    ap: float | None = None
    ap50: float | None = None
    ap75: float | None = None
    recall50: float | None = None
    ap_interval: Interval | None = None
    threshold: Threshold | None = None
    curve: Curve = _NO_CURVE

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        document = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        document["ap_interval"] = _as_list(self.ap_interval)
        document["threshold"] = None if self.threshold is None else self.threshold._asdict()
        document["curve"] = {name: list(values) for name, values in self.curve._asdict().items()}
        return document

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ClassFigures:
        """Build it from what :meth:`to_dict` returned."""
        own = dict(fields)
        own["ap_interval"] = _as_interval(fields["ap_interval"])
        own["threshold"] = None if fields["threshold"] is None else Threshold(**fields["threshold"])
        own["curve"] = Curve(**{name: tuple(values) for name, values in fields["curve"].items()})
        return cls(**own)


@dataclass(frozen=True)
class ErrorCount:
    """The errors of one kind.

    Attributes:
        kind: One of ``class``, ``place``, ``both``, ``twice``, ``background`` and ``missed``.
        count: How many there are.
        gain: AP50 that would be gained were they mended.
    """

    kind: str
    count: int
    gain: float


@dataclass(frozen=True, repr=False)
class DetectionEvaluation:
    """Result of an evaluation of a detector. Figures are fractions from 0 to 1.

    Attributes:
        split: Name of the split.
        count: Number of images.
        num_objects: Objects of all images, without crowds and difficult ones.
        num_found: Detections that were measured.
        metric: Rules of the figures: ``coco``, ``voc07`` or ``voc12``.
        most: Detections of an image and class that were measured.
        loss: Loss of training, mean over images; ``None``: it was not computed.
        per_class: Every class, in the order of the model's.
        ap_interval: 95 % interval of AP from a bootstrap over images; ``None`` where there is no object.
        ap50_interval: That of AP50.
        num_small: Objects below 32² pixels. Pascal VOC's rules know no sizes.
        num_medium: Objects from 32² to 96² pixels.
        num_large: Objects above 96² pixels.
        ap_small: AP of objects below 32² pixels, mean over the classes that have such ones.
        ap_medium: AP of objects from 32² to 96² pixels.
        ap_large: AP of objects above 96² pixels.
        ar1: Average recall with one detection of each image and class.
        ar10: Average recall with ten.
        ar: Average recall with all.
        ar_small: Average recall of objects below 32² pixels.
        ar_medium: Average recall of objects from 32² to 96² pixels.
        ar_large: Average recall of objects above 96² pixels.
        errors: Errors of each kind at an IoU of .5.
        false: The surest wrong detections, highest score first.
        missed: The largest objects that no detection is near.
        masks: The same measured by masks; ``None``: only boxes are known.
    """

    split: str
    count: int
    num_objects: int
    num_found: int
    metric: str
    most: int
    loss: float | None
    per_class: tuple[ClassFigures, ...]
    ap_interval: Interval | None = None
    ap50_interval: Interval | None = None
    num_small: int | None = None
    num_medium: int | None = None
    num_large: int | None = None
    ap_small: float | None = None
    ap_medium: float | None = None
    ap_large: float | None = None
    ar1: float | None = None
    ar10: float | None = None
    ar: float | None = None
    ar_small: float | None = None
    ar_medium: float | None = None
    ar_large: float | None = None
    errors: tuple[ErrorCount, ...] = ()
    false: tuple[DetectionMistake, ...] = ()
    missed: tuple[DetectionMistake, ...] = ()
    masks: DetectionEvaluation | None = None

    @property
    def judged(self) -> DetectionEvaluation:
        """What the detector is judged by: its figures by masks where it finds some, else by boxes."""
        return self if self.masks is None else self.masks

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(row.name for row in self.per_class)

    @property
    def measured(self) -> tuple[ClassFigures, ...]:
        """The classes that the split has objects of; the others are left out of means."""
        return tuple(row for row in self.per_class if row.ap is not None)

    @property
    def ap(self) -> float:
        """Average precision, mean over ten IoU from .5 to .95 and classes; 0 where there is no object."""
        return _mean([row.ap for row in self.measured])

    @property
    def ap50(self) -> float:
        """Average precision at an IoU of .5, mean over classes; 0 where there is no object."""
        return _mean([row.ap50 for row in self.measured])

    @property
    def ap75(self) -> float:
        """Average precision at an IoU of .75, mean over classes; 0 where there is no object."""
        return _mean([row.ap75 for row in self.measured])

    @property
    def of_pascal_voc(self) -> bool:
        """Whether Pascal VOC's rules were asked for, which have one figure: mAP at an IoU of .5."""
        return self.metric in _PASCAL_VOC

    def precisions(self, row: ClassFigures) -> tuple[float | None, ...]:
        """Return the average precisions of a class that the rules have: AP, AP50 and AP75, or VOC's AP."""
        return (row.ap50,) if self.of_pascal_voc else (row.ap, row.ap50, row.ap75)

    def __repr__(self) -> str:
        return f"DetectionEvaluation({self.split}: {self.in_words()})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the sentence, and a table of the classes."""
        titles = ["AP"] if self.of_pascal_voc else ["AP", "AP50", "AP75"]
        by_masks: list[tuple[float | None, ...]] = [()] * len(self.per_class)
        if self.masks is not None:
            titles += [f"mask {title}" for title in titles]
            by_masks = [self.masks.precisions(row) for row in self.masks.per_class]
        head = "".join(f'<th scope="col">{name}</th>' for name in ("class", "objects", *titles))
        rows = "".join(
            f'<tr><th scope="row">{html.escape(row.name)}</th><td>{row.num_objects:,}</td>'
            + "".join(f"<td>{_percent(value)}</td>" for value in (*self.precisions(row), *masks))
            + "</tr>"
            for row, masks in zip(self.per_class, by_masks, strict=True)
        )
        words = html.escape(f"{self.split}: {self.in_words()}")
        return f"<p>{words}</p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def in_words(self) -> str:
        """Return what was measured in a sentence."""
        if self.of_pascal_voc:
            figures = f"mAP {_sure(self.ap50, self.ap50_interval)} by the rules of {_PASCAL_VOC[self.metric]}"
        else:
            ap = _sure(self.ap, self.ap_interval)
            figures = f"AP {ap}, AP50 {100 * self.ap50:.1f}, AP75 {100 * self.ap75:.1f}"
        if self.masks is not None and self.of_pascal_voc:
            figures += f"; masks: mAP {_sure(self.masks.ap50, self.masks.ap50_interval)}"
        elif self.masks is not None:
            ap = _sure(self.masks.ap, self.masks.ap_interval)
            figures += f"; masks: AP {ap}, AP50 {100 * self.masks.ap50:.1f}"
        classes = "1 class" if len(self.measured) == 1 else f"{len(self.measured):,} classes"
        return f"{figures}; {self.num_objects:,} objects of {classes} in {self.count:,} images"

    def summary(self) -> dict[str, Any]:
        """Return the figures and the split as JSON types; ``loss`` only where it was computed."""
        figures = {"ap": self.ap, "ap50": self.ap50, "ap75": self.ap75}
        if self.masks is not None:
            figures |= {f"mask_{name}": getattr(self.masks, name) for name in tuple(figures)}
        loss = {} if self.loss is None else {"loss": self.loss}
        return {"split": self.split, **loss, **figures, "count": self.count}

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types."""
        lists: dict[str, Any] = {
            "ap_interval": _as_list(self.ap_interval),
            "ap50_interval": _as_list(self.ap50_interval),
            "per_class": [row.to_dict() for row in self.per_class],
            "errors": [dataclasses.asdict(row) for row in self.errors],
            **{name: [row.to_dict() for row in getattr(self, name)] for name in ("false", "missed")},
        }
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del own["masks"]
        if self.masks is not None:
            lists["mask_ap_interval"] = _as_list(self.masks.ap_interval)
            lists["masks"] = self.masks.to_dict()
        return {"task": DETECTION, **self.summary(), **own, "classes": list(self.classes), **lists}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> DetectionEvaluation:
        """Build an evaluation from what :meth:`to_dict` returned; what follows from the rest is not read."""
        own: dict[str, Any] = {
            field.name: fields.get(field.name) if field.name in _ADDED else fields[field.name]
            for field in dataclasses.fields(cls)
        }
        return cls(
            **{
                **own,
                "ap_interval": _as_interval(fields["ap_interval"]),
                "ap50_interval": _as_interval(fields["ap50_interval"]),
                "per_class": tuple(ClassFigures.from_dict(row) for row in fields["per_class"]),
                "errors": tuple(ErrorCount(**row) for row in fields["errors"]),
                "false": tuple(DetectionMistake.from_dict(row) for row in fields["false"]),
                "missed": tuple(DetectionMistake.from_dict(row) for row in fields["missed"]),
                "masks": cls.from_dict(fields["masks"]) if fields.get("masks") else None,
            }
        )


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else 0.0


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def _sure(figure: float, interval: Interval | None) -> str:
    """Return a figure in per cent with its interval."""
    within = "" if interval is None else f" ({100 * interval[0]:.1f}–{100 * interval[1]:.1f})"
    return f"{100 * figure:.1f}{within}"


def _as_list(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _as_interval(values: Sequence[float] | None) -> Interval | None:
    return None if values is None else (values[0], values[1])
