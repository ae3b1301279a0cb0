"""Images in memory → the bytes of an image file, so that they go the way of every other image.

The file is a BMP: no compression and no loss, 0.6 ms for a photo of 512×768 px where PNG takes 11 to 60 ms
(Pillow 12). The same pixels give the same bytes on every machine, so a checksum of the file is one of the
pixels.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deepresidual.data.decode import from_pillow, read_file
from deepresidual.errors import DataError, kind_of
from deepresidual.runtime.files import expanded

_ACCEPTED = (
    "a Pillow image, a uint8 array (H, W) or (H, W, C), a uint8 tensor (C, H, W), a path, or a file's bytes"
)


def encoded(image: object) -> bytes:
    """Return an image as the bytes of an image file.

    Args:
        image: A Pillow image; an array ``(H, W)``, ``(H, W, 1)``, ``(H, W, 3)`` or ``(H, W, 4)`` of uint8; a
            tensor of PyTorch ``(H, W)`` or ``(C, H, W)`` of uint8; the path of a file; or its bytes.

    Raises:
        DataError: It is something else, or a file that cannot be read.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return read_file(expanded(image))
    if isinstance(image, Image.Image):
        return _as_bmp(image)
    if is_tensor(image):
        image = channels_last(image)
    if not isinstance(image, np.ndarray):
        raise DataError(f"its image is {kind_of(image)}", expected=_ACCEPTED)
    pixels = image[:, :, 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if pixels.dtype != np.uint8:
        raise DataError(
            f"its image is an array of {pixels.dtype}, shape {image.shape}",
            expected="uint8, 0 to 255",
            remedy=_WITHOUT_TRANSFORMS
            if np.issubdtype(pixels.dtype, np.floating)
            else "convert it to uint8 first",
        )
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))) or not pixels.size:
        remedy = "put the channels last" if image.ndim == 3 and image.shape[0] in (1, 3, 4) else ""
        raise DataError(
            f"its image is an array of shape {image.shape}",
            expected="(H, W), or (H, W, C) with 1, 3 or 4 channels",
            remedy=remedy,
        )
    return _as_bmp(Image.fromarray(np.ascontiguousarray(pixels)))


_WITHOUT_TRANSFORMS = (
    "give the data set without its transforms (transform=None): resizing, normalizing and varying images is "
    "part of training"
)


def is_tensor(image: object) -> bool:
    """Return whether this is a tensor of PyTorch, which is not loaded to find that out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(image, torch.Tensor)


def channels_last(tensor: Any) -> object:
    """Return a tensor ``(H, W)`` or ``(C, H, W)`` of uint8 as an array ``(H, W)`` or ``(H, W, C)``.

    Raises:
        DataError: It is of another shape or type.
    """
    if str(tensor.dtype) != "torch.uint8":
        raise DataError(
            f"its image is a tensor of {tensor.dtype}, shape {tuple(tensor.shape)}".replace("torch.", ""),
            expected="a Pillow image or uint8",
            remedy=_WITHOUT_TRANSFORMS,
        )
    if tensor.ndim not in (2, 3) or (tensor.ndim == 3 and tensor.shape[0] not in (1, 3, 4)):
        raise DataError(
            f"its image is a tensor of shape {tuple(tensor.shape)}",
            expected="(H, W), or (C, H, W) with 1, 3 or 4 channels",
        )
    array = tensor.detach().cpu().numpy()
    return array.transpose(1, 2, 0) if array.ndim == 3 else array


def _as_bmp(image: Image.Image) -> bytes:
    file = io.BytesIO()
    Image.fromarray(from_pillow(image)).save(file, "BMP")
    return file.getvalue()
