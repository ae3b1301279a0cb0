"""Judge the macro F1 of several labels an image by the baseline: giving every label to every image.

Where labels are frequent that has a high F1, which says nothing about telling images apart.

Example:
    >>> beside_every_label((0.79, 0.91), 0.884)
    'not shown to be better than giving every label to every image'
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["beside_every_label", "loses_to_always_yes"]


def beside_every_label(interval: Sequence[float], baseline: float) -> str:
    """Return how a model compares with giving every label to every image, as a clause.

    Args:
        interval: 95 % interval of its macro F1.
        baseline: Macro F1 of giving every label to every image.
    """
    low, high = interval
    if high < baseline:
        how = "worse than"
    else:
        how = "better than" if low > baseline else "not shown to be better than"
    return f"{how} giving every label to every image"


def loses_to_always_yes(f1: float, always_f1: float, support: int) -> bool:
    """Return whether the F1 of a label is not above that of giving it to every image.

    Args:
        f1: Its F1.
        always_f1: The F1 of giving it to every image.
        support: Images that have it; nothing is said of a label that none has.
    """
    return support > 0 and f1 <= always_f1
