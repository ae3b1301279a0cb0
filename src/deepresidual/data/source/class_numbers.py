"""``ClassNumbers``: which class each label means, as the splits of a data set agree on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ClassNumbers:
    """Meaning of the labels.

    Attributes:
        names: Names of the classes.
        numbers: The class that every label means, as far as it means one.
        expected: Which labels there may be, for messages.
    """

    names: tuple[str, ...]
    numbers: Mapping[int | str, int]
    expected: str
