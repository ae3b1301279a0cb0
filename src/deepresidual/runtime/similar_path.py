"""Guess which path was meant by one that does not exist: the most similar name beside it."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from deepresidual.errors import nearest
from deepresidual.runtime.files import expanded

# Names of a folder that are looked at; of more the user knows better than a guess.
_MOST_NAMES = 5000


def similar_path(given: str | Path) -> str:
    """Return the path that exists and is most like ``given``, spelled as the user spelled his; empty: none.

    The first part that does not exist is replaced, and what follows it is kept if it exists then.
    """
    path = Path(given)
    try:
        missing = path
        while not expanded(missing.parent).is_dir():
            if missing == missing.parent:
                return ""
            missing = missing.parent
        with os.scandir(expanded(missing.parent)) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MOST_NAMES)]
    except (OSError, ValueError):
        return ""
    close = nearest(missing.name, names, count=1, cutoff=0.7)
    if not close:
        return ""
    found = missing.parent / close[0]
    whole = found / path.relative_to(missing)
    return str(whole if expanded(whole).exists() else found)


def did_you_mean(given: str | Path) -> str:
    """Return the question that names the similar path, as the remedy of an error; empty: there is none."""
    similar = similar_path(given)
    return f"did you mean {similar}?" if similar else ""
