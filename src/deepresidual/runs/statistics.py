"""Summarize a figure over several seeds: mean, deviation, median, and 95 % intervals by Student's t.

Seeds are few (three to five), so intervals of means take t with n − 1 degrees of freedom, and intervals of
differences Welch's (1947), which does not ask the arms to vary alike. Both take the runs of an arm as
independent draws of (first weights, order, augmentation) on one fixed set of images: they say how far another
seed would land, not how far other images would.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """A figure over seeds, or the difference of two.

    Attributes:
        count: Number of seeds; of a difference, of the arm with fewer.
        mean: Mean, or difference of means.
        std: Sample standard deviation, or that of the difference of means (its standard error); ``None``
            for one seed.
        median: Median, or difference of medians.
        low: Lower end of the 95 % interval of ``mean``; ``None`` for one seed.
        high: Its upper end.
    """

    count: int
    mean: float
    std: float | None
    median: float
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return dataclasses.asdict(self)


def summarize(values: Sequence[float]) -> Summary:
    """Summarize the values of one or more seeds."""
    count, mean, median = len(values), statistics.fmean(values), statistics.median(values)
    if count < 2:
        return Summary(count, mean, None, median, None, None)
    std = statistics.stdev(values)
    half = _t_quantile(count - 1) * std / math.sqrt(count)
    return Summary(count, mean, std, median, mean - half, mean + half)


def difference(first: Sequence[float], second: Sequence[float]) -> Summary:
    """Summarize ``first`` − ``second``, each the values of several seeds, with Welch's interval."""
    count = min(len(first), len(second))
    mean = statistics.fmean(first) - statistics.fmean(second)
    median = statistics.median(first) - statistics.median(second)
    if count < 2:
        return Summary(count, mean, None, median, None, None)
    parts = [statistics.variance(values) / len(values) for values in (first, second)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Summary(count, mean, 0.0, median, mean, mean)
    shares = zip(parts, (first, second), strict=True)
    # Welch and Satterthwaite's degrees of freedom
    freedom = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in shares)
    half = _t_quantile(freedom) * error
    return Summary(count, mean, error, median, mean - half, mean + half)


def _t_quantile(freedom: float) -> float:
    from scipy.stats import t  # a second to import

    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))
