"""Write the HEIC files of the tests; a program, since what they are read with does not write.

    python tests/data/heic/write.py FOLDER

It needs ``pillow-heif`` 1.x in an environment of its own: the wheel holds x265 and is GPLv2 as a whole, so it
is no dependency of the tests. Sizes of the files differ from version to version; the pixels do not.
"""

from __future__ import annotations

import importlib
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_UPRIGHT = np.repeat(
    np.repeat(np.random.default_rng(5).integers(0, 256, (2, 3, 3), dtype=np.uint8), 16, axis=0), 16, axis=1
)
_LOSSLESS = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}


def _stored(orientation: int) -> NDArray[np.uint8]:
    upright = _UPRIGHT
    stored = {
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }
    return np.ascontiguousarray(stored[orientation])


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def files() -> dict[str, bytes]:
    """Return the content of every file, by name."""
    heif: Any = importlib.import_module("pillow_heif")

    def saved(file: Any, **options: object) -> bytes:
        stream = io.BytesIO()
        file.save(stream, **(options or _LOSSLESS))
        return stream.getvalue()

    def encoded(pixels: NDArray[Any], mode: str = "RGB", exif: bytes = b"") -> Any:
        file = heif.from_bytes(mode, (pixels.shape[1], pixels.shape[0]), pixels.tobytes())
        if exif:
            file.info["exif"] = exif  # the container is turned as it says
        return file

    alpha = np.full((*_UPRIGHT.shape[:2], 1), 51, np.uint8)
    both = heif.HeifFile()
    for pixels in (_UPRIGHT[::-1], _UPRIGHT):
        both.add_frombytes("RGB", (48, 32), pixels.tobytes())
    heif.register_heif_opener()
    stream = io.BytesIO()
    Image.fromarray(_UPRIGHT).save(stream, "HEIF", exif=_exif(6), **_LOSSLESS)
    return {
        "upright": saved(encoded(_UPRIGHT)),
        "alpha": saved(encoded(np.concatenate([_UPRIGHT, alpha], axis=2), "RGBA")),
        "ten-bit": saved(encoded(_UPRIGHT.astype(np.uint16) * 257, "RGB;16")),
        "lossy-420": saved(encoded(_UPRIGHT), quality=90),
        "second-is-primary": saved(both, primary_index=1, **_LOSSLESS),
        "exif-alone": stream.getvalue(),
        **{
            f"turned-{orientation}": saved(encoded(_stored(orientation), exif=_exif(orientation).tobytes()))
            for orientation in range(2, 9)
        },
    }


if __name__ == "__main__":
    for name, content in files().items():
        (Path(sys.argv[1]) / f"{name}.heic").write_bytes(content)
