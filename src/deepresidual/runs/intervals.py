"""Compute the interval of a measured share.

A closed form: `scipy.stats` takes 6 ms for each interval, a thousand of which stand in a table of classes,
and most of a second to import. The tests hold it against scipy.

Example:
    >>> wilson_interval(81, 100)
    (0.722…, 0.874…)
"""

from __future__ import annotations

import math
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)
"""Standard deviations on either side of a two-sided 95 % interval."""


def wilson_interval(correct: int, count: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share (Wilson 1927).

    Unlike the mean ± 1.96 standard errors it stays within 0 to 1, and has a width where all are correct.

    Args:
        correct: Number of correct ones.
        count: Of how many; at least 1.
    """
    share = correct / count
    scale = 1 + Z**2 / count
    center = share + Z**2 / (2 * count)
    half_width = Z * math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    # All or none: exactly 1 or 0, which rounding would miss.
    low = 0.0 if correct == 0 else (center - half_width) / scale
    high = 1.0 if correct == count else (center + half_width) / scale
    return low, high
