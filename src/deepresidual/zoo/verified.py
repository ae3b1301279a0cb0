"""List the other libraries' networks that the tests compared each network with, and the largest differences.

``parity.json`` is written by the parity tests, ``pytest tests/parity --record-parity``; without it nothing
has been compared yet.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources

__all__ = ["Comparison", "verified"]


@dataclass(frozen=True)
class Comparison:
    """One comparison of logits on the same weights and images.

    Attributes:
        network: Name in the zoo.
        reference: Package that was compared with.
        version: Its version; empty for a reference that is not installed as a package.
        direction: ``in`` for weights that were converted from there, ``out`` for weights converted to there.
        largest_difference: Largest absolute difference of two logits, which are of the order of one.
    """

    network: str
    reference: str
    version: str
    direction: str
    largest_difference: float

    def __str__(self) -> str:
        """Return library and version, such as ``timm 1.0.20``."""
        return f"{self.reference} {self.version}".strip()


def verified(name: str) -> tuple[Comparison, ...]:
    """Return what the network called ``name`` was compared with; empty where that has not been done."""
    return tuple(row for row in _comparisons() if row.network == name)


@functools.cache
def _comparisons() -> tuple[Comparison, ...]:
    file = resources.files("deepresidual.zoo") / "parity.json"
    if not file.is_file():
        return ()
    return tuple(Comparison(**row) for row in json.loads(file.read_text("utf-8")))
