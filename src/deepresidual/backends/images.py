"""Images on their way to a classifier: read, decoded and cut to the central view, batch by batch.

The same steps as in evaluation, without torch, for images that have no label and may be unusable.
"""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as PillowImage

from deepresidual.data.decode import decode, from_pillow, read_file
from deepresidual.data.threads import in_order
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.runtime.files import expanded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from deepresidual.preprocess import Preprocess

ImageLike: TypeAlias = PillowImage | NDArray[np.uint8] | str | Path
"""A path, an open image, or an array ``(H, W, 3)`` or ``(H, W)`` uint8 RGB."""

# Handing a task to a thread costs 20 µs, as much as a view of 32 px.
_IMAGES_PER_TASK = 8
_BATCHES_AHEAD = 4


@dataclass(frozen=True)
class ImageBatch:
    """Some images in the order in which they were given.

    Attributes:
        names: The path of each; empty for one that is in memory.
        errors: Why an image cannot be used; ``None`` for one that can.
        pixels: ``(N, S, S, C)`` uint8, the views of those that can.
    """

    names: list[str]
    errors: list[DataError | None]
    pixels: NDArray[np.uint8]


def image_batches(
    images: Iterable[ImageLike], preprocess: Preprocess, *, batch_size: int, num_workers: int
) -> Iterator[ImageBatch]:
    """Yield batches of central views.

    Args:
        images: The images; read only as far ahead as needed.
        preprocess: Makes the view.
        batch_size: Images at a time; the last batch may be smaller.
        num_workers: Threads that read and decode.

    Raises:
        ConfigurationError: Something is no image.
    """

    def view(image: ImageLike) -> NDArray[np.uint8] | DataError:
        try:
            return preprocess.center_view(preprocess.to_channels(_decoded(image)))
        except DataError as error:
            return error

    def views(part: tuple[ImageLike, ...]) -> list[tuple[str, NDArray[np.uint8] | DataError]]:
        return [(str(image) if isinstance(image, str | Path) else "", view(image)) for image in part]

    groups = (list(_in_parts(batch, _IMAGES_PER_TASK)) for batch in _in_parts(images, batch_size))
    viewed = in_order(views, groups, num_threads=num_workers, groups_ahead=_BATCHES_AHEAD)
    shape = (0, preprocess.crop_px, preprocess.crop_px, preprocess.num_channels)
    with contextlib.closing(viewed):
        for parts in viewed:
            named = list(itertools.chain.from_iterable(parts))
            good = [result for _, result in named if not isinstance(result, DataError)]
            yield ImageBatch(
                names=[name for name, _ in named],
                errors=[result if isinstance(result, DataError) else None for _, result in named],
                pixels=np.stack(good) if good else np.zeros(shape, np.uint8),
            )


def _in_parts(images: Iterable[ImageLike], size: int) -> Iterator[tuple[ImageLike, ...]]:
    rest = iter(images)
    while part := tuple(itertools.islice(rest, size)):
        yield part


def _decoded(image: object) -> NDArray[np.uint8]:
    """Return any accepted kind of image as ``(H, W, 3)`` uint8 RGB."""
    if isinstance(image, str | Path):
        return decode(read_file(expanded(image)))
    if isinstance(image, PillowImage):
        return from_pillow(image)
    if not isinstance(image, np.ndarray):
        raise ConfigurationError(
            f"an image is a {type(image).__name__}", expected="a path, a Pillow image or an array"
        )
    is_image = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if image.dtype != np.uint8 or not is_image or not image.size:
        raise ConfigurationError(
            f"an image is an array of shape {image.shape} and type {image.dtype}",
            expected="(H, W, 3) or (H, W) of uint8",
        )
    return np.repeat(image[:, :, None], 3, axis=2) if image.ndim == 2 else image
