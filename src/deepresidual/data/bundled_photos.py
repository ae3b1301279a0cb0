"""The two photos that come with scikit-learn, for comparisons that want real pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["bundled_photos"]


def bundled_photos() -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield name and pixels ``(427, 640, 3)`` uint8 of the photos that come with scikit-learn."""
    from sklearn.datasets import load_sample_images

    loaded: Any = load_sample_images()
    yield from zip(("china.jpg", "flower.jpg"), loaded.images, strict=True)
