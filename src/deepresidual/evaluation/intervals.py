"""Compute intervals of measured shares, and the test of a difference.

Closed forms: `scipy.stats` takes 6 ms for each interval, a thousand of which stand in a table of classes, and
most of a second to import. The tests hold them against it.

Example:
    >>> wilson_interval(81, 100)
    (0.722…, 0.874…)
"""

from __future__ import annotations

import math
from statistics import NormalDist

_Z = NormalDist().inv_cdf(0.975)  # two-sided 95 %

# With fewer discordant samples than this the approximation by chi-squared is poor (McNemar 1947; the limit is
# the usual one of textbooks and of statsmodels' documentation).
EXACT_BELOW = 25


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927).

    Unlike the mean ± 1.96 standard errors it stays within 0 to 1, and has a width where all are correct.

    Args:
        correct: Number of correct ones.
        count: Of how many; at least 1.
    """
    share = correct / count
    scale = 1 + _Z**2 / count
    center = share + _Z**2 / (2 * count)
    half_width = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    # All or none: exactly 1 or 0, which rounding would miss.
    low = 0.0 if correct == 0 else (center - half_width) / scale
    high = 1.0 if correct == count else (center + half_width) / scale
    return low, high


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
    half_width = _Z * math.sqrt((first + second) - (second - first) ** 2 / total) / total
    return max(-1.0, difference - half_width), min(1.0, difference + half_width)
