"""Pooled features of images of which some may be unusable, a batch in memory at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepresidual.backends.images import ImageLike, image_batches
from deepresidual.errors import ConfigurationError, ModelFileError, ResidualError

if TYPE_CHECKING:
    from deepresidual.backends.classifier import Classifier

NOT_FINITE = "the features are not finite"
"""Why there are no features where a network gives NaN or infinity."""

FeaturesOrError: TypeAlias = "NDArray[np.float32] | ResidualError"


def feature_outcomes(
    model: Classifier,
    images: Iterable[ImageLike],
    stage: str | None = None,
    *,
    batch_size: int,
    num_workers: int = 0,
) -> Iterator[tuple[str, FeaturesOrError]]:
    """Yield each image's path (empty for one in memory), and its features or why there are none, in order.

    Images are read while the results before them are taken. An error does not stop the others.

    Args:
        model: The model, a backbone or a classifier.
        images: Paths, Pillow images or arrays; read only as far ahead as needed.
        stage: As for :meth:`deepresidual.Classifier.features`.
        batch_size: Images at a time.
        num_workers: Threads that read and decode.

    Yields:
        Path, and ``(F,)`` float32 or the :class:`DataError` or :class:`ModelFileError`.

    Raises:
        ModelFileError: The backend gives no features.
        UnknownNameError: The network has no such stage.
        ConfigurationError: A number is out of range, or something is no image.
    """
    if batch_size < 1:
        raise ConfigurationError(f"batch_size is {batch_size}", expected="1 or more")
    for batch in image_batches(images, model.preprocess, batch_size=batch_size, num_workers=num_workers):
        rows = iter(model.features(batch.pixels, stage) if len(batch.pixels) else ())
        for name, error in zip(batch.names, batch.errors, strict=True):
            yield name, error if error is not None else _finite(next(rows))


def _finite(row: NDArray[np.float32]) -> FeaturesOrError:
    return row if np.isfinite(row).all() else ModelFileError(NOT_FINITE)
