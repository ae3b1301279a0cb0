"""Resizing by Pillow, with the same pixels from every version of it.

It goes over the width first and then over the height, in a call each: which of them comes first changes the
rounding, and Pillow's own choice has changed from version to version.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image, Resampling

__all__ = ["resized"]

# Pixels that a filter reaches to each side, when it does not shrink (Pillow's libImaging/Resample.c).
_REACH_PX = {"BILINEAR": 1.0, "BICUBIC": 2.0, "LANCZOS": 3.0}


def resized(
    pixels: NDArray[np.uint8],
    box: tuple[float, float, float, float],
    width: int,
    height: int,
    resampling: Resampling,
) -> Image:
    """Resize a part of ``(H, W)`` or ``(H, W, 3)`` pixels: over the width first, then over the height.

    To the bit what ``Image.resize`` gives in one call where it takes the width first, too: always in Pillow
    11, up to a height of 100 times the width in 12, less often in 13.
    """
    import numpy as np
    from PIL import Image

    rows, columns = pixels.shape[:2]
    # Pillow computes from float32; so do the comparisons here, then.
    left, top, right, bottom = np.array(box, dtype=np.float32).tolist()
    one_pass = (left, right, width) == (0, columns, columns) or (top, bottom, height) == (0, rows, rows)
    if one_pass or resampling.name not in _REACH_PX:
        return Image.fromarray(pixels).resize((width, height), resampling, box)
    # Rows beyond the reach of the filter are not read again, and are left out before anything is computed.
    scale = (bottom - top) / height
    reach = _REACH_PX[resampling.name] * max(scale, 1)
    first = max(math.floor(top + scale / 2 - reach), 0)
    last = min(math.ceil(bottom - scale / 2 + reach), rows)
    image = Image.fromarray(pixels[first:last])
    image = image.resize((width, last - first), resampling, (left, 0, right, last - first))
    if first:
        # The rows keep their places: a box that began elsewhere would be rounded differently. What stands
        # above them is never read.
        placed = Image.new(image.mode, (width, last), None)
        placed.paste(image, (0, first))
        image = placed
    return image.resize((width, height), resampling, (0, top, width, bottom))
