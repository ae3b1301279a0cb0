"""Put pictures of a run folder into a page: small, as ``data:`` addresses, and nothing that is no picture.

Photos become JPEG, a sixth of the size of PNG; small images of few pixels and heat maps, which are
transparent, stay PNG.
"""

from __future__ import annotations

import base64
import io
import warnings
from dataclasses import dataclass

from PIL import Image

# Larger ones come from no run; a page of a hundred of them could not be opened.
_MOST_PX = 1024
_PIXELATED_PX = 64
_QUALITY = 80


@dataclass(frozen=True)
class Embedded:
    """A picture in a page.

    Attributes:
        address: The ``data:`` address.
        width: In pixels.
        height: In pixels.
        is_transparent: Whether what lies below it is seen through it.
    """

    address: str
    width: int
    height: int
    is_transparent: bool

    @property
    def is_small(self) -> bool:
        """Whether its pixels are to be seen as squares."""
        return max(self.width, self.height) <= _PIXELATED_PX


def embedded(content: bytes) -> Embedded | None:
    """Return a PNG as it stands in a page; ``None`` for anything else and for a damaged one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
                width, height = image.size
                if max(width, height) > _MOST_PX:
                    return None
                is_transparent = image.mode == "RGBA"
                if is_transparent or max(width, height) <= _PIXELATED_PX:
                    image.load()
                    return Embedded(address_of(content, "png"), width, height, is_transparent)
                file = io.BytesIO()
                image.convert("RGB").save(file, "JPEG", quality=_QUALITY, optimize=True)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning):
        return None
    return Embedded(address_of(file.getvalue(), "jpeg"), width, height, is_transparent=False)


def address_of(content: bytes, kind: str) -> str:
    """Return the ``data:`` address of a file of a kind, ``png`` or ``jpeg``."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
