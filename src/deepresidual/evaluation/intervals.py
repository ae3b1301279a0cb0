"""Test the difference of two shares on the same samples, and compute its interval.

Closed forms, since `scipy.stats` takes most of a second to import. The tests hold them against it. The
interval of one share is in :mod:`deepresidual.runs.intervals`.

Example:
    >>> mcnemar_p_value(3, 12)
    0.035…
"""

from __future__ import annotations

import math

from deepresidual.runs.intervals import Z, wilson_interval

__all__ = ["EXACT_BELOW", "exact_p_value", "mcnemar_p_value", "paired_difference_interval", "wilson_interval"]

# With fewer discordant samples than this the approximation by chi-squared is poor (McNemar 1947; the limit is
# the usual one of textbooks and of statsmodels' documentation).
EXACT_BELOW = 25


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """Return how probable so different counts are, or more different ones, if both models are equally good.

    Exact below 25 discordant samples; else from chi-squared of one degree of freedom with the correction of
    continuity (Edwards 1948).

    Args:
        only_first: Samples that only the first model predicts correctly.
        only_second: Samples that only the second predicts correctly.
    """
    discordant = only_first + only_second
    if discordant < EXACT_BELOW:
        return exact_p_value(only_first, only_second)
    statistic = max(0, abs(only_first - only_second) - 1) ** 2 / discordant
    # The survival function of chi-squared with one degree of freedom.
    return math.erfc(math.sqrt(statistic / 2))


def exact_p_value(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of the binomial test of a fair coin."""
    discordant = only_first + only_second
    tail = sum(math.comb(discordant, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / (1 << discordant))


def paired_difference_interval(only_first: int, only_second: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of the difference of two shares on the same samples, second minus first.

    The adjusted Wald interval of Agresti and Min 2005 (Statistics in Medicine 24): half a sample is added to
    each of the four cells, which makes it cover what it promises in small samples, too.

    Args:
        only_first: Samples that only the first model predicts correctly.
        only_second: Samples that only the second predicts correctly.
        count: All samples; at least 1.
    """
    first, second, total = only_first + 0.5, only_second + 0.5, count + 2
    difference = (second - first) / total
    half_width = Z * math.sqrt((first + second) - (second - first) ** 2 / total) / total
    return max(-1.0, difference - half_width), min(1.0, difference + half_width)
