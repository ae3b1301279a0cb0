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
    return Objects(boxes, found.labels, found.crowd, found.difficult, areas)[inside]


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
