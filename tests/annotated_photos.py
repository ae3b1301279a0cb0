"""Gray photos with boxes, in memory."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from deepresidual.data.objects import Objects
from deepresidual.data.source.base import EncodedSample, LabelledSplit


class Photos(LabelledSplit):
    """A split of gray photos, each with one object or none.

    Args:
        sides: Width and height of each.
        boxes: The box of its object; empty: it has none.
        labels: Class of each object. Default: the first.
    """

    def __init__(
        self,
        sides: Sequence[tuple[int, int]],
        boxes: Sequence[tuple[float, ...]],
        labels: Sequence[int] | None = None,
    ) -> None:
        super().__init__([0] * len(sides) if labels is None else labels)
        self._sides, self._boxes = sides, boxes

    def key(self, index: int) -> str:
        """Return the name of a photo."""
        return f"{index:02d}.png"

    def objects(self, index: int) -> Objects:
        """Return the object of a photo."""
        box = np.array(self._boxes[index], np.float32).reshape(-1, 4)
        return Objects(box, np.array(self.labels[index : index + len(box)]))

    def image_id(self, index: int) -> int:
        """Return the number of a photo."""
        return index

    def read(self, index: int) -> EncodedSample:
        """Return a photo with its object."""
        file = io.BytesIO()
        Image.new("RGB", self._sides[index], (128, 128, 128)).save(file, "PNG")
        return EncodedSample(self.key(index), file.getvalue(), self.objects(index))
