"""How sure an average precision is: a bootstrap over images, of one detector or of two on the same images.

Images are drawn with replacement, with the objects and the detections that they have; matches stay as they
are, so a draw is a weight for each image. A draw of which a class has lost all its objects leaves the class
out of the mean.

An image that comes twice raises an average precision, since its detections come in a row. The percentiles
are moved back by as much as draws lie above the figure on average. What they hold is the average precision
of as many other images of the same kind; that of very many images is lower by about a tenth of a point to
two points, the more so the fewer images there are (``tests/evaluation/objects/test_bootstrap.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deepresidual.errors import ConfigurationError
from deepresidual.evaluation.objects.matching import Matches
from deepresidual.evaluation.objects.precision import average_precisions
from deepresidual.evaluation.objects.rules import Metric

NUM_DRAWS = 300
"""Draws of an interval: its ends are then known to about a twentieth of its width."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Draws:
    """Average precisions of one set of images and of its draws.

    Attributes:
        figures: ``(T, K)`` of the images themselves; NaN where a class has no object.
        drawn: ``(B, T, K)`` of the draws.
    """

    figures: NDArray[np.float64]
    drawn: NDArray[np.float64]

    @classmethod
    def of(cls, matches: Matches, metric: Metric) -> Draws:
        """Draw the images of ``matches``; the draws are the same for every detector and every time."""
        weights = draws_of_images(matches.found.num_images)
        both = average_precisions(matches, metric, np.concatenate([np.ones_like(weights[:1]), weights]))
        return cls(both[0], both[1:])

    @property
    def ap(self) -> tuple[float, NDArray[np.float64]]:
        """AP, mean over IoU and classes, and ``(B,)`` that of the draws."""
        return _mean(self.figures.mean(axis=0)), _mean_of_classes(self.drawn.mean(axis=1))

    @property
    def ap50(self) -> tuple[float, NDArray[np.float64]]:
        """AP at an IoU of .5, mean over classes, and ``(B,)`` that of the draws."""
        return _mean(self.figures[0]), _mean_of_classes(self.drawn[:, 0])

    def of_class(self, label: int) -> Interval | None:
        """Return the 95 % interval of a class's AP; ``None`` where it has no object."""
        return interval(float(self.figures[:, label].mean()), self.drawn[:, :, label].mean(axis=1))


@dataclass(frozen=True)
class PairedDifference:
    """How much better a second detector is on the same images than a first.

    Attributes:
        difference: AP of the second minus that of the first.
        interval: Its 95 % interval over draws of the images.
        share: Share of the draws in which the second is the better one; a tie counts half.
    """

    difference: float
    interval: Interval
    share: float


def draws_of_images(count: int) -> NDArray[np.float64]:
    """Return how often each image comes in each draw, ``(NUM_DRAWS, count)``."""
    random = np.random.Generator(np.random.PCG64(0))
    return random.multinomial(count, np.full(count, 1 / max(1, count)), size=NUM_DRAWS).astype(np.float64)


def interval(figure: float, drawn: NDArray[np.float64]) -> Interval | None:
    """Return the 95 % interval of a figure from 0 to 1; ``None`` where no draw has it."""
    moved = _moved(figure, drawn)
    if not len(moved):
        return None
    low, high = np.percentile(moved, [2.5, 97.5])
    return float(max(0.0, low)), float(min(1.0, high))


def paired_difference(
    first: tuple[float, NDArray[np.float64]], second: tuple[float, NDArray[np.float64]]
) -> PairedDifference:
    """Return how much better the second is.

    Args:
        first: Figure of the first detector and those of the draws of its images.
        second: Those of the second, of the same draws.

    Raises:
        ConfigurationError: There is no object to find.
    """
    difference = second[0] - first[0]
    moved = _moved(difference, second[1] - first[1])
    if not len(moved):
        raise ConfigurationError("there is no object to find", expected="images with objects")
    low, high = np.percentile(moved, [2.5, 97.5])
    share = float((moved > 0).mean() + (moved == 0).mean() / 2)
    return PairedDifference(float(difference), (float(low), float(high)), share)


def _moved(figure: float, drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    known = drawn[~np.isnan(drawn)]
    moved: NDArray[np.float64] = known - known.mean() + figure if len(known) else known
    return moved


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _mean_of_classes(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of ``(B, K)`` over the classes that have objects; NaN where none has."""
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    total = np.where(known, values, 0).sum(axis=1)
    mean: NDArray[np.float64] = np.divide(total, count, out=np.full(len(values), np.nan), where=count > 0)
    return mean
