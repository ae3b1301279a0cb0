"""``ExportedDetector``: an exported file that finds objects. No torch is imported here."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Self

import numpy as np

from deepresidual.backends.classifier import SettledPrecision
from deepresidual.backends.detected import DETECT_BATCH_SIZE, MIN_SCORE, Detected, require_score
from deepresidual.backends.detector_session import DetectorSession
from deepresidual.backends.exported_model import ExportedModel
from deepresidual.backends.images import computed_parts
from deepresidual.backends.object_detector import FoundInView, ObjectDetector
from deepresidual.errors import ConfigurationError, ResidualError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from deepresidual.backends.engine import EngineName, EngineSettings
    from deepresidual.backends.images import ImageBatch, ImageLike
    from deepresidual.backends.signature import Signature
    from deepresidual.data.augment import Window
    from deepresidual.preprocess import Preprocess
    from deepresidual.runtime.compute import PrecisionChoice


class ExportedDetector(ExportedModel[DetectorSession], ObjectDetector):
    """An exported detector, computed by one of the engines that run it; ``load`` returns it.

    The engine is opened, and computes its self-test, before the first image. Images that come one at a time
    are computed on all cores; of several each core takes its own.

    Args:
        folder: The exported detector.
        signature: What its ``signature.json`` says.
        engines: What may compute it, the preferred one first; or the settings of one, which are taken as
            they are.
        label_names: Name of every class.
        preprocess: How a decoded image becomes the input.
        task: What it has learned.
    """

    session_type = DetectorSession

    def __init__(
        self,
        folder: Path,
        signature: Signature,
        engines: Sequence[EngineName] | EngineSettings,
        label_names: tuple[str, ...],
        preprocess: Preprocess,
        *,
        task: str = "detection",
    ) -> None:
        super().__init__(folder, signature, engines, label_names, preprocess, task)

    @property
    def has_masks(self) -> bool:
        """Whether it finds which pixels are an object's."""
        return any(output.name == "masks" for output in self.signature.outputs)

    def to(self, device: str) -> Self:
        """Return the detector itself; there is no device but the CPU.

        Raises:
            ConfigurationError: Another device is asked for.
        """
        if str(device) not in ("auto", "cpu"):
            raise ConfigurationError(
                f"device is {str(device)!r} for a model that {self.backend} computes", expected="auto or cpu"
            )
        return self

    def settle_precision(self, choice: PrecisionChoice) -> SettledPrecision:
        """Choose the precision; by default that of the file."""
        return self.settled_precision(choice)

    def with_preprocess(self, preprocess: Preprocess) -> Self:
        """Return this detector for views that another record makes; the file takes any size."""
        other = copy.copy(self)
        other.preprocess = preprocess
        return other

    def find(self, pixels: NDArray[np.uint8], windows: Sequence[Window]) -> list[FoundInView | None]:
        """Find the objects of some views, dealt out over the cores; each alone, in its own size."""
        views = [
            view[: window.filled[0], : window.filled[1]] for view, window in zip(pixels, windows, strict=True)
        ]
        found = self.session().find(views)
        return [each if _is_finite(each) else None for each in found]

    def outcomes(
        self,
        images: Iterable[ImageLike],
        min_score: float = MIN_SCORE,
        *,
        batch_size: int = DETECT_BATCH_SIZE,
        num_workers: int = 0,
    ) -> Iterator[tuple[str, Detected | ResidualError]]:
        """Find objects as :meth:`ObjectDetector.outcomes` does: each core takes images all the way.

        Args:
            images: Paths, Pillow images or arrays; read only as far ahead as needed.
            min_score: Score from which on an object is found, 0 to 1.
            batch_size: Of no meaning: images are computed one by one.
            num_workers: Of no meaning: those that compute read and decode.
        """
        del num_workers
        require_score(min_score)
        if batch_size < 1:
            raise ConfigurationError(f"batch_size is {batch_size}", expected="1 or more")

        def judged(batch: ImageBatch) -> list[tuple[str, Detected | ResidualError]]:
            return list(self._judged(batch, min_score))

        parts = computed_parts(
            images, self.preprocess, judged, part_size=1, num_threads=self.settings.streams
        )
        return (outcome for part in parts for outcome in part)


def _is_finite(found: FoundInView) -> bool:
    arrays = (found.boxes, found.scores, *([] if found.masks is None else [found.masks]))
    return all(bool(np.isfinite(array).all()) for array in arrays)
