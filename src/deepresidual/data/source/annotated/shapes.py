"""Boxes and polygons of the shapes that annotation tools draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from deepresidual.data.masks import Polygon, Runs

Box: TypeAlias = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels."""

# Of a circle of 500 px the polygon is at no place more than half a pixel inside.
_CORNERS = 72


@dataclass(frozen=True)
class Shape:
    """A shape that was drawn on an image.

    Attributes:
        label: Its class.
        number: What messages call it.
        box: The box around it.
        mask: Its polygons or runs; ``None``: it is a box.
        group: Shapes of one label and one group are one object; ``None``: it is one by itself.
    """

    label: str
    number: str
    box: Box
    mask: Sequence[Polygon] | Runs | None = None
    group: int | str | None = None


def objects_of_shapes(shapes: Sequence[Shape]) -> list[Shape]:
    """Return a shape for each object, in the order of the first shape of each."""
    groups: dict[tuple[str, object], list[Shape]] = {}
    for place, shape in enumerate(shapes):
        key = ("", place) if shape.group is None else (shape.label, shape.group)
        groups.setdefault(key, []).append(shape)
    return [group[0] if len(group) == 1 else _joined(group) for group in groups.values()]


def _joined(shapes: Sequence[Shape]) -> Shape:
    left, top, right, bottom = zip(*(shape.box for shape in shapes), strict=True)
    masks = [shape.mask for shape in shapes if shape.mask is not None]
    polygons = [polygon for mask in masks if not isinstance(mask, Runs) for polygon in mask]
    drawn = [mask for mask in masks if isinstance(mask, Runs)]
    mask: Sequence[Polygon] | Runs | None = polygons or None
    if drawn:
        mask = Runs.united([*drawn, *([Runs.drawn(polygons, drawn[0].size)] if polygons else [])])
    first = shapes[0]
    box = (min(left), min(top), max(right), max(bottom))
    return Shape(first.label, first.number, box, mask, first.group)


def bounds_of(polygons: Sequence[Polygon]) -> Box:
    """Return left, top, right and bottom of the box around some polygons."""
    corners = np.concatenate(polygons)
    left, top = corners.min(axis=0).tolist()
    right, bottom = corners.max(axis=0).tolist()
    return left, top, right, bottom


def area_of(polygons: Sequence[Polygon]) -> float:
    """Return the area of some polygons that do not overlap, by the shoelace formula."""
    area = 0.0
    for polygon in polygons:
        across, down = (polygon - polygon[0]).T
        area += abs(float(across @ np.roll(down, -1) - down @ np.roll(across, -1))) / 2
    return area


def ellipse(
    centre: tuple[float, float], radii: tuple[float, float], degrees: float = 0
) -> tuple[Polygon, Box]:
    """Return an ellipse as a polygon of 72 corners, and the box around it.

    Args:
        centre: Across and down, in pixels.
        radii: Across and down, before it is turned.
        degrees: How far it is turned, clockwise as it is seen.
    """
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    around = np.arange(_CORNERS) * (2 * math.pi / _CORNERS)
    across, down = radii[0] * np.cos(around), radii[1] * np.sin(around)
    polygon = np.stack(
        [centre[0] + across * cosine - down * sine, centre[1] + across * sine + down * cosine], axis=1
    )
    half_width = math.hypot(radii[0] * cosine, radii[1] * sine)
    half_height = math.hypot(radii[0] * sine, radii[1] * cosine)
    return polygon, (
        centre[0] - half_width,
        centre[1] - half_height,
        centre[0] + half_width,
        centre[1] + half_height,
    )


def turned_rectangle(box: Box, degrees: float, about: tuple[float, float]) -> Polygon:
    """Return the four corners of a rectangle that is turned.

    Args:
        box: Left, top, right and bottom before that.
        degrees: How far it is turned, clockwise as it is seen.
        about: The point that stays where it is.
    """
    left, top, right, bottom = box
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64) - about
    angle = math.radians(degrees)
    cosine, sine = math.cos(angle), math.sin(angle)
    turned: Polygon = corners @ np.array([(cosine, sine), (-sine, cosine)]) + about
    return turned
