"""Write a length of time as people say it: ``8 s``, ``2 min``, ``3 h 10 min``, ``69 days``.

Two units at most, and none finer than what anybody acts on: a run of hours is not told by its seconds.

Example:
    >>> duration(8), duration(130), duration(11_400), duration(6_000_000)
    ('8 s', '2 min', '3 h 10 min', '69 days')
"""

from __future__ import annotations

import math

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_MINUTES_ALONE = 10 * _HOUR  # beyond ten hours minutes say nothing more
_DAYS_ALONE = 10 * _DAY


def duration(seconds: float) -> str:
    """Return a length of time in one unit or two.

    Args:
        seconds: The time; below zero counts as none. Not a number or infinite: a dash.
    """
    if not math.isfinite(seconds):
        return "–"
    seconds = max(0.0, seconds)
    if seconds < 0.95:
        return f"{seconds:.1f} s"
    if round(seconds) < 100:
        return f"{round(seconds)} s"
    if round(seconds / _MINUTE) < 100:
        return f"{round(seconds / _MINUTE)} min"
    if seconds < _MINUTES_ALONE:
        hours, minutes = divmod(round(seconds / _MINUTE), 60)
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if round(seconds / _HOUR) < 48:
        return f"{round(seconds / _HOUR)} h"
    if seconds < _DAYS_ALONE:
        days, hours = divmod(round(seconds / _HOUR), 24)
        return f"{days} days {hours} h" if hours else f"{days} days"
    return f"{round(seconds / _DAY):,} days"
