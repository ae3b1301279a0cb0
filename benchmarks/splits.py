"""How many of the old images change side when files are added to a data set without splits.

    python benchmarks/splits.py              # the table of docs/data.md: mean of 100 draws of file names

Beside the rule of Residual (the smallest hashes of a class) stand scikit-learn's stratified split with a
fixed seed, and the hash of each name alone, which moves nothing and holds out anything between nothing and
half.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from deepresidual.data.source.stratified import held_out, unit_of


def smallest_hashes(names: list[str]) -> NDArray[np.bool_]:
    """Hold out as Residual does."""
    return held_out([unit_of(name) for name in names], [0] * len(names), 1 / 5)


def hash_below_a_fifth(names: list[str]) -> NDArray[np.bool_]:
    """Hold out the names whose hash begins with a byte below 51."""
    return np.array([hashlib.sha256(name.encode()).digest()[0] < 51 for name in names])


def seeded(names: list[str]) -> NDArray[np.bool_]:
    """Hold out as scikit-learn does with ``random_state=0``."""
    chosen = np.zeros(len(names), dtype=bool)
    _, test = train_test_split(np.arange(len(names)), test_size=max(1, round(len(names) / 5)), random_state=0)
    chosen[test] = True
    return chosen


RULES: dict[str, Callable[[list[str]], NDArray[np.bool_]]] = {
    "smallest hashes": smallest_hashes,
    "hash below a fifth": hash_below_a_fifth,
    "scikit-learn, seed 0": seeded,
}


def moved(rule: Callable[[list[str]], NDArray[np.bool_]], count: int, added: float, draw: int) -> float:
    """Return which share of ``count`` images changes side when ``added`` times as many come."""
    names = [f"{draw}/{number}.jpg" for number in range(count + round(added * count))]
    names = [hashlib.sha256(name.encode()).hexdigest()[:12] for name in names]
    # Names of other lengths sort anywhere, as those of new photos do in a listing.
    order = sorted(range(len(names)), key=names.__getitem__)
    after = np.empty(len(names), dtype=bool)
    after[order] = rule([names[index] for index in order])
    old = sorted(range(count), key=names.__getitem__)
    before = np.empty(count, dtype=bool)
    before[old] = rule([names[index] for index in old])
    return float((before != after[:count]).mean())


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=100)
    draws = parser.parse_args().draws
    for name, rule in RULES.items():
        for count in (10, 50, 400):
            figures = [
                f"+{added:.0%} {np.mean([moved(rule, count, added, draw) for draw in range(draws)]):.2%}"
                for added in (0.2, 0.5)
            ]
            tested = [rule([f"{draw}/{number}" for number in range(count)]).sum() for draw in range(draws)]
            sys.stdout.write(
                f"{name:<22} {count:>5} images: {', '.join(figures)} moved; "
                f"{min(tested)} to {max(tested)} for testing\n"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
