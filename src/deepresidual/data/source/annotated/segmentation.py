"""Read COCO's ``segmentation``: polygons, or runs of pixels as numbers or as COCO's text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepresidual.data.masks import Polygon, Runs
from deepresidual.errors import DataError, kind_of, quoted

_LEAST_CORNERS = 3
_POLYGONS_OR_RUNS = "a list of polygons, or runs with size and counts"


def read_segmentation(
    value: Any, size: tuple[int, int] | None, where: str
) -> tuple[list[Polygon] | Runs | None, str]:
    """Return a mask, and what is wrong with it where a part of it is left out.

    Args:
        value: What stands in the file; lists of polygons as the text that they are.
        size: Height and width that the file gives the image; ``None``: none.
        where: What messages call the annotation.

    Returns:
        Polygons, runs, or ``None`` where it has no mask; and a clause, empty where nothing is left out.

    Raises:
        DataError: It is something else, or runs are not of the image.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise DataError(
                f"{where} has {quoted(value)} as segmentation", expected=_POLYGONS_OR_RUNS
            ) from error
    if value is None or value == []:
        return None, ""
    if isinstance(value, dict):
        return _runs(value, size, where), ""
    if not isinstance(value, list):
        raise DataError(f"{where} has {kind_of(value)} as segmentation", expected=_POLYGONS_OR_RUNS)
    if not isinstance(value[0], list):
        value = [value]
    polygons, dots = [], 0
    for flat in value:
        if not isinstance(flat, list) or not all(type(number) in (int, float) for number in flat):
            raise DataError(f"{where} has a polygon {quoted(flat)}", expected="a list of numbers")
        if len(flat) % 2:
            raise DataError(
                f"{where} has a polygon of {len(flat)} numbers", expected="two for each of its corners"
            )
        if len(flat) < 2 * _LEAST_CORNERS:
            dots += 1
        else:
            polygons.append(np.array(flat, np.float64).reshape(-1, 2))
    problem = f"a polygon of its mask has fewer than {_LEAST_CORNERS} corners and is left out" if dots else ""
    return polygons or None, problem


def _runs(value: dict[str, Any], size: tuple[int, int] | None, where: str) -> Runs:
    sides, counts = value.get("size"), value.get("counts")
    if not (isinstance(sides, list) and len(sides) == 2 and all(type(side) is int for side in sides)):
        raise DataError(
            f"{where} has runs with {quoted(sides)} as size", expected="height and width, whole numbers"
        )
    height, width = sides
    if size is not None and (height, width) != size:
        raise DataError(
            f"{where} has a mask of {width}×{height} px, and its image has {size[1]}×{size[0]}",
            expected="masks of the size of their image",
            kind="mask-differs",
        )
    total = _sum_of(counts, where)
    if total != height * width:
        raise DataError(
            f"{where} has runs of {total:,} pixels in all, and its image of {width}×{height} has "
            f"{height * width:,}",
            expected="as many",
            kind="mask-differs",
        )
    if isinstance(counts, str):
        return Runs((height, width), counts.encode("ascii"))
    return Runs.of(counts if isinstance(counts, list) else [], (height, width))


def _sum_of(counts: Any, where: str) -> int:
    """Return how many pixels runs have.

    Raises:
        DataError: They are no runs.
    """
    if isinstance(counts, str):
        text = counts.encode("ascii", "ignore")
        lengths: Sequence[int] = []
        if (
            counts.isascii()
            and text
            and all(48 <= character < 112 for character in text)
            and not (text[-1] - 48) & 0x20
        ):
            lengths = Runs((0, 0), text).lengths().tolist()
        if not lengths or min(lengths) < 0:
            raise DataError(f"{where} has runs {quoted(counts, 40)}", expected="COCO's text of runs")
        return sum(lengths)
    if not isinstance(counts, list) or not counts:
        raise DataError(f"{where} has runs with {quoted(counts, 40)} as counts", expected="numbers of pixels")
    if not all(type(count) is int and count >= 0 for count in counts):
        raise DataError(f"{where} has runs {quoted(counts, 40)}", expected="whole numbers of pixels")
    return sum(counts)
