"""Compare two detectors on the same images: how much better one is, and how sure that is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deepresidual.data.objects import Objects
from deepresidual.data.source.annotated.split import DETECTION
from deepresidual.errors import DataError
from deepresidual.evaluation.objects.bootstrap import (
    Draws,
    Interval,
    PairedDifference,
    interval,
    paired_difference,
)
from deepresidual.evaluation.objects.matching import Matches
from deepresidual.evaluation.objects.measure import has_masks, masked, matched
from deepresidual.evaluation.objects.rules import Metric, Rules


@dataclass(frozen=True)
class DetectorComparison:
    """Two detectors on the same images. Figures are fractions from 0 to 1.

    Attributes:
        count: Number of images.
        num_objects: Objects of all images, without crowds and difficult ones.
        metric: Rules of the figures.
        ap: AP of the first and of the second.
        ap_intervals: Their 95 % intervals.
        ap50: AP50 of the first and of the second.
        ap_difference: AP of the second minus that of the first, over the same draws of the images.
        ap50_difference: The same of AP50.
        masks: The same by masks; ``None``: one of the two finds none, or the data have none.
    """

    count: int
    num_objects: int
    metric: str
    ap: tuple[float, float]
    ap_intervals: tuple[Interval, Interval]
    ap50: tuple[float, float]
    ap_difference: PairedDifference
    ap50_difference: PairedDifference
    masks: DetectorComparison | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON types; figures by masks are called ``mask_ap`` and so on."""
        by_masks = {} if self.masks is None else _figures(self.masks)
        return {
            "task": DETECTION,
            "count": self.count,
            "num_objects": self.num_objects,
            "metric": self.metric,
            **_figures(self),
            **{f"mask_{name}": value for name, value in by_masks.items()},
        }


@dataclass(frozen=True)
class DetectedSide:
    """What a detector found in some images, and what they have; labels of both mean the same classes.

    Attributes:
        found: What was found in each image, with scores.
        truth: What each image has.
    """

    found: Sequence[Objects]
    truth: Sequence[Objects]

    @property
    def has_masks(self) -> bool:
        """Whether it can be judged by masks."""
        return has_masks(self.found) and has_masks(self.truth)

    def matched(self, num_classes: int, rules: Rules) -> Matches:
        """Return the detections, matched by boxes or masks."""
        truth = self.truth if rules.overlap == "boxes" else [masked(objects) for objects in self.truth]
        return matched(self.found, truth, num_classes, rules)


def compare_sides(
    first: DetectedSide, second: DetectedSide, num_classes: int, rules: Rules
) -> DetectorComparison:
    """Compare two detectors by boxes, and by masks where both have them.

    Args:
        first: The first in some images.
        second: The second in the same images, in the same order.
        num_classes: Number of classes.
        rules: Rules of the figures.

    Raises:
        DataError: There is no object to find, or the images have different objects.
    """
    compared = _compared(first, second, num_classes, rules)
    if not (first.has_masks and second.has_masks):
        return compared
    return replace(compared, masks=_compared(first, second, num_classes, replace(rules, overlap="masks")))


def _compared(
    first: DetectedSide, second: DetectedSide, num_classes: int, rules: Rules
) -> DetectorComparison:
    before, after = (side.matched(num_classes, rules) for side in (first, second))
    return compare_matches(before, after, rules.metric)


def compare_matches(first: Matches, second: Matches, metric: Metric) -> DetectorComparison:
    """Compare two detectors by what they found in the same images.

    Args:
        first: Detections of the first, matched.
        second: Those of the second in the same images, in the same order.
        metric: Rules of the figures.

    Raises:
        DataError: There is no object to find, or the images have different objects.
    """
    truth = first.truth
    if truth.num_images != second.truth.num_images or not np.array_equal(truth.boxes, second.truth.boxes):
        raise DataError("the two were measured on different images", expected="the same ones in one order")
    if truth.ignored.all():
        raise DataError("there is no object to find", expected="images with objects")
    draws = [Draws.of(matches, metric) for matches in (first, second)]
    ap, ap50 = [each.ap for each in draws], [each.ap50 for each in draws]
    intervals = [interval(*each) for each in ap]
    assert intervals[0] is not None  # noqa: S101  # there are objects
    assert intervals[1] is not None  # noqa: S101
    return DetectorComparison(
        count=truth.num_images,
        num_objects=int((~truth.ignored).sum()),
        metric=metric,
        ap=(ap[0][0], ap[1][0]),
        ap_intervals=(intervals[0], intervals[1]),
        ap50=(ap50[0][0], ap50[1][0]),
        ap_difference=paired_difference(ap[0], ap[1]),
        ap50_difference=paired_difference(ap50[0], ap50[1]),
    )


def _figures(compared: DetectorComparison) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "ap": list(compared.ap),
        "ap_intervals": [list(each) for each in compared.ap_intervals],
        "ap50": list(compared.ap50),
    }
    for name in ("ap_difference", "ap50_difference"):
        fields = dataclasses.asdict(getattr(compared, name))
        figures[name] = {**fields, "interval": list(fields["interval"])}
    return figures
