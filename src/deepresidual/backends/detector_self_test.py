"""The self-test of an exported detector: an image and what PyTorch finds in it, found again before the first.

As for classifiers (:mod:`.self_test`), an engine that computes another function on this machine is refused
before it answers anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepresidual.backends.detection_difference import DetectionDifference, sure_agreement
from deepresidual.backends.object_detector import FoundInView
from deepresidual.backends.self_test import COPY, read_arrays
from deepresidual.errors import ModelFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from deepresidual.backends.signature import FileKind
    from deepresidual.runtime.compute import Precision

LEAST_SAME_HERE = 0.9
"""Share of the objects of the image that have to be the same on any machine."""

ROUNDED_GAP = 0.2
"""Difference of the score up to which what rounds, int8 and bf16, finds an object of the image."""

_SURE = 0.5


@dataclass(frozen=True, eq=False)
class DetectorSelfTest:
    """An image and what PyTorch finds in it.

    Attributes:
        pixels: ``(height, width, C)`` uint8.
        found: What is found.
    """

    pixels: NDArray[np.uint8]
    found: FoundInView

    def write(self, path: Path) -> None:
        """Write it; compressed, since it is a photo."""
        found = self.found
        arrays: dict[str, Any] = {"pixels": self.pixels, "boxes": found.boxes}
        arrays |= {"labels": found.labels, "scores": found.scores}
        if found.masks is not None:
            arrays["masks"] = found.masks
        np.savez_compressed(path, **arrays)

    @classmethod
    def read(cls, path: Path) -> DetectorSelfTest:
        """Read what :meth:`write` wrote; nothing is unpickled.

        Raises:
            ModelFileError: It is missing or damaged.
        """
        read = read_arrays(path, ("pixels", "boxes", "labels", "scores"))
        found = FoundInView(read["boxes"], read["labels"], read["scores"], read.get("masks"))
        test = cls(read["pixels"], found)
        if not test._fits():
            raise ModelFileError(
                f"{path} holds other arrays", expected="an image, and the objects in it", remedy=COPY
            )
        return test

    def _fits(self) -> bool:
        count, found = len(self.found.scores), self.found
        return (
            self.pixels.ndim == 3
            and self.pixels.dtype == np.uint8
            and found.boxes.shape == (count, 4)
            and found.labels.shape == found.scores.shape == (count,)
            and (found.masks is None or (found.masks.ndim == 3 and len(found.masks) == count))
        )

    def rounded_share(self, found: FoundInView) -> float:
        """Return the share of the objects that what rounds and PyTorch both find, 0 to 1.

        Those count that are half as sure as the surest of PyTorch's; class, half of an overlap and
        :data:`ROUNDED_GAP` of the score make them the same.
        """
        return sure_agreement(
            [found], [self.found], _SURE * float(self.found.scores.max(initial=0)), ROUNDED_GAP
        )

    def require_passed(
        self, find: Callable[[NDArray[np.uint8]], FoundInView], precision: FileKind | Precision, who: str
    ) -> None:
        """Refuse what finds other objects than PyTorch did.

        Args:
            find: Finds the objects of an image.
            precision: What it computes in.
            who: What computes which file, for the message.

        Raises:
            ModelFileError: Fewer than :data:`LEAST_SAME_HERE` of the objects are the same.
        """
        try:
            found = find(self.pixels)
        except ModelFileError:
            raise
        except Exception as error:  # engines raise classes of their own
            raise ModelFileError(f"{who} failed in its self-test: {' '.join(str(error).split())}") from error
        difference = DetectionDifference.between([found], [self.found])
        is_exact = precision == "fp32"
        if (difference.share if is_exact else self.rounded_share(found)) < LEAST_SAME_HERE:
            summary = difference.summary() if is_exact else difference.matched_summary()
            raise ModelFileError(
                f"{who} computes wrongly here: of the stored image {summary}",
                expected=f"at least {LEAST_SAME_HERE:.0%} the same",
                remedy="choose another --backend",
            )
