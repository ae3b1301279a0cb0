"""The rule for data without splits, said a second time for the tests: the smallest hashes of names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def smallest_hashes(names: Sequence[str], count: int | None = None) -> set[str]:
    """Return the names of one class that are for testing; all differ."""
    by_hash = sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return set(by_hash[: max(1, round(len(names) / 5)) if count is None else count])
