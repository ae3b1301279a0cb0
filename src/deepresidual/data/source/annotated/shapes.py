"""Boxes and polygons of the shapes that annotation tools draw."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from deepresidual.data.masks import Polygon

# Of a circle of 500 px the polygon is at no place more than half a pixel inside.
_CORNERS = 72


def bounds_of(polygons: Sequence[Polygon]) -> tuple[float, float, float, float]:
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
) -> tuple[Polygon, tuple[float, float, float, float]]:
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


def turned_rectangle(
    box: tuple[float, float, float, float], degrees: float, about: tuple[float, float]
) -> Polygon:
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
    return corners @ np.array([(cosine, sine), (-sine, cosine)]) + about
