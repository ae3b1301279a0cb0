"""Bring boxes to the upright image, whichever way up the program that wrote them saw it.

A file may say that it has to be turned (EXIF). Some tools draw boxes on the image as it is stored, others on
the upright one. What a format says of the image's size tells which: where it is that of the stored image, and
the upright one has another, the boxes are turned with the pixels. Where both have one size (a square image,
or one that is mirrored or turned by half), and where the format gives none, the boxes are of the upright one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.masks import Crop, Masks, Polygon, Runs
from deepresidual.data.objects import Objects
from deepresidual.data.readers import ImageHeader

if TYPE_CHECKING:
    from deepresidual.data.source.annotated.split import Annotation


def upright_objects(annotation: Annotation, header: ImageHeader) -> Objects:
    """Return the objects of an image in pixels of the upright image, cut at its edges.

    What lies outside of the image is left out, as may be where the format gives it another size than it has.
    """
    height, width = header.upright
    found = annotation.objects
    boxes: NDArray[Any] = found.boxes.astype(np.float64)
    if annotation.relative:
        boxes *= (width, height, width, height)
    elif is_of_stored(annotation.size, header):
        boxes = turned(boxes, header)
    boxes = np.clip(boxes, 0, (width, height, width, height)).astype(np.float32)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) if annotation.relative else found.areas
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    masks = None if found.masks is None else _upright_masks(found.masks, annotation, header)
    return Objects(boxes, found.labels, found.crowd, found.difficult, areas, masks=masks)[inside]


def _upright_masks(masks: Masks, annotation: Annotation, header: ImageHeader) -> Masks:
    """Return the masks of an image in pixels of the upright image.

    Raises:
        DataError: Runs are of an image of another size.
    """
    height, width = header.upright
    if annotation.relative:
        return masks.scaled(width, height).on(header.upright)
    if not is_of_stored(annotation.size, header):
        return masks.on(header.upright)
    masks = masks.on((header.height, header.width))
    rows: list[list[Polygon] | Runs | None] = []
    for row, is_known in enumerate(masks.known):
        if not is_known:
            rows.append(None)
        elif masks.drawn[row]:
            crop = masks.crop(row)
            left, top = turned(np.array([crop.box]), header)[0, :2].astype(int).tolist()
            rows.append(Runs.of_crop(Crop(left, top, _turned_pixels(crop.pixels, header)), header.upright))
        else:
            corners = [turned(np.tile(polygon, 2), header)[:, :2] for polygon in masks.polygons(row)]
            rows.append(corners)
    return Masks.of(rows).on(header.upright)


def _turned_pixels(pixels: NDArray[Any], header: ImageHeader) -> NDArray[Any]:
    """Return ``(h, w)`` pixels of an image as it is stored as they lie in the upright one."""
    if header.orientation in (5, 6, 7, 8):  # rows become columns
        pixels = pixels.T
    if header.orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels[::-1] if header.orientation in (3, 4, 7, 8) else pixels


def is_of_stored(size: tuple[int, int] | None, header: ImageHeader) -> bool:
    """Return whether a format means the image as it is stored, given the size that it says."""
    stored = (header.height, header.width)
    return size == stored and stored != header.upright


def is_ambiguous(size: tuple[int, int] | None, header: ImageHeader) -> bool:
    """Return whether an image has to be turned, and the size in its format leaves open which it means."""
    if header.orientation not in range(2, 9):
        return False
    stored = (header.height, header.width)
    return size is None or stored == header.upright or size not in (stored, header.upright)


def turned(boxes: NDArray[Any], header: ImageHeader) -> NDArray[Any]:
    """Return boxes ``(n, 4)`` of an image as it is stored as they lie in the upright one."""
    height, width = header.height, header.width
    left, top, right, bottom = boxes.T
    match header.orientation:
        case 2:
            moved = (width - right, top, width - left, bottom)
        case 3:
            moved = (width - right, height - bottom, width - left, height - top)
        case 4:
            moved = (left, height - bottom, right, height - top)
        case 5:
            moved = (top, left, bottom, right)
        case 6:
            moved = (height - bottom, left, height - top, right)
        case 7:
            moved = (height - bottom, width - right, height - top, width - left)
        case 8:
            moved = (top, width - right, bottom, width - left)
        case _:
            moved = (left, top, right, bottom)
    return np.stack(moved, axis=1)
