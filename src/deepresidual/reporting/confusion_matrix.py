"""Show a confusion matrix: cells of one ramp of colour, confused classes side by side, a picture for many.

The strength of a cell is its share of the row, for right and wrong ones alike, so the caption holds for every
cell; the hue says which of the two it is. Classes are ordered by average linkage of their confusions with
optimal leaf ordering (Bar-Joseph et al. 2001), so that mistakes lie near the diagonal.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepresidual.reporting.palette import (
    BLUE,
    NIGHT_PAPER,
    NIGHT_RIGHT,
    NIGHT_WRONG,
    ORANGE,
    PAPER,
    RIGHT,
    WRONG,
    ink_on,
    mixed,
)

MOST_CELLS = 24
"""Classes of a matrix whose cells can be read; more are drawn as a picture."""

_FEWEST_TO_ORDER = 4
# Optimal leaf ordering takes time with the cube of the number of classes: 0.1 s for 100, minutes for 1,000.
_MOST_TO_ORDER = 300
# Of the strength over the share, so that few mistakes are still seen; more so where a cell is a few pixels.
_GAMMA, _PICTURE_GAMMA = 0.75, 0.4
# Two classes are of one group where this share of both is taken for the other, on average.
_GROUPED_SHARE = 0.05
_LISTED_GROUPS = 8


@dataclass(frozen=True)
class Cell:
    """One cell: the images of a true class that were taken for another, or for itself.

    Attributes:
        count: How many.
        share: Of the images of the true class, 0 to 1.
        predicted: The class that they were taken for.
        is_right: Whether that is their own.
        style: Background and ink, by day (a, b) and by night (c, d), as custom properties of CSS.
    """

    count: int
    share: float
    predicted: str
    is_right: bool
    style: str


@dataclass(frozen=True)
class Row:
    """One true class.

    Attributes:
        name: The class.
        cells: Its cells in the order of the rows.
        total: Its images.
    """

    name: str
    cells: tuple[Cell, ...]
    total: int


@dataclass(frozen=True)
class Group:
    """Classes that are confused with each other.

    Attributes:
        names: The classes.
        inside: Mistakes among them.
        mistakes: All mistakes on images of them.
    """

    names: tuple[str, ...]
    inside: int
    mistakes: int


def counts_of(num_classes: int, confusions: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Return the matrix ``(K, K)`` of rows (true, predicted, samples)."""
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    for true, predicted, count in confusions:
        counts[true, predicted] += count
    return counts


def class_order(counts: NDArray[np.int64]) -> list[int]:
    """Return the classes in an order in which those that are confused stand side by side."""
    if len(counts) < _FEWEST_TO_ORDER:
        return list(range(len(counts)))
    from scipy.cluster.hierarchy import leaves_list

    return [int(row) for row in leaves_list(_linkage(counts))]


def matrix_rows(names: Sequence[str], counts: NDArray[np.int64]) -> list[Row]:
    """Return the rows of the matrix in the order of :func:`class_order`."""
    order, totals = class_order(counts), counts.sum(axis=1)
    return [
        Row(
            names[true],
            tuple(
                _cell(int(counts[true, column]), int(totals[true]), names[column], is_right=true == column)
                for column in order
            ),
            int(totals[true]),
        )
        for true in order
    ]


def matrix_picture(counts: NDArray[np.int64]) -> bytes:
    """Return the matrix as a PNG of one pixel a cell, transparent where nothing is, in that order."""
    order = class_order(counts)
    strengths = (_shares(counts) ** _PICTURE_GAMMA)[np.ix_(order, order)]
    pixels = np.zeros((*counts.shape, 4), dtype=np.uint8)
    right = np.eye(len(counts), dtype=bool)
    for where, color in ((right, BLUE), (~right, ORANGE)):
        pixels[where, :3] = tuple(bytes.fromhex(color[1:]))
    pixels[:, :, 3] = np.rint(255 * strengths)
    pixels[pixels[:, :, 3] == 0] = 0
    file = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(file, "PNG", optimize=True)
    return file.getvalue()


def confused_groups(names: Sequence[str], counts: NDArray[np.int64]) -> list[Group]:
    """Return groups of classes that are confused with each other, the most mistakes among them first."""
    if len(counts) < _FEWEST_TO_ORDER:
        return []
    from scipy.cluster.hierarchy import fcluster

    members: dict[int, list[int]] = {}
    for row, label in enumerate(fcluster(_linkage(counts), 1 - _GROUPED_SHARE, "distance")):
        members.setdefault(int(label), []).append(row)
    wrong = counts - np.diag(np.diag(counts))
    groups = [
        Group(tuple(names[row] for row in rows), int(wrong[np.ix_(rows, rows)].sum()), int(wrong[rows].sum()))
        for rows in members.values()
        if 1 < len(rows) < len(counts)
    ]
    groups = [group for group in groups if group.inside]
    return sorted(groups, key=lambda group: (-group.inside, group.names))[:_LISTED_GROUPS]


def _linkage(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    shares = _shares(counts)
    distances = 1 - (shares + shares.T) / 2
    np.fill_diagonal(distances, 0)
    ordered = len(counts) <= _MOST_TO_ORDER
    linked: NDArray[np.float64] = linkage(squareform(distances), "average", optimal_ordering=ordered)
    return linked


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return every count as a share of its row; zeros in a row without images."""
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def _cell(count: int, total: int, predicted: str, *, is_right: bool) -> Cell:
    share = count / max(1, total)
    strength = share**_GAMMA
    day = mixed(PAPER, RIGHT if is_right else WRONG, strength)
    night = mixed(NIGHT_PAPER, NIGHT_RIGHT if is_right else NIGHT_WRONG, strength)
    style = f"--a:{day};--b:{ink_on(day)};--c:{night};--d:{ink_on(night)}"
    return Cell(count, share, predicted, is_right, style)
