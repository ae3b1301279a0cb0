"""``DetectorSession``: an engine that has opened and tested an exported detector; without torch."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from deepresidual.backends.detector_engine import open_detector_engine
from deepresidual.backends.detector_self_test import DetectorSelfTest
from deepresidual.backends.session import Session
from deepresidual.backends.signature import SELF_TEST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from deepresidual.backends.engine import EngineSettings
    from deepresidual.backends.object_detector import FoundInView
    from deepresidual.backends.signature import Signature


class DetectorSession(Session):
    """A session that finds the objects of images.

    Args:
        folder: The exported detector.
        signature: What its ``signature.json`` says.
        settings: How to compute.

    Raises:
        ModelFileError: The engine refuses the file, or fails in its self-test.
        MissingDependencyError: The engine is not installed.
    """

    takes_batches = False  # each image has a size of its own

    def __init__(self, folder: Path, signature: Signature, settings: EngineSettings) -> None:
        super().__init__(folder, signature, settings)
        self.engine = open_detector_engine(folder, signature, settings)
        test = DetectorSelfTest.read(folder / SELF_TEST)
        self._tested(partial(test.require_passed, self.engine.find), self.engine.version, 1)
        self._stored = test.pixels

    @staticmethod
    def require_self_test(folder: Path) -> None:
        """Refuse a folder whose self-test is damaged.

        Raises:
            ModelFileError: It is.
        """
        DetectorSelfTest.read(folder / SELF_TEST)

    @staticmethod
    def are_few(num_images: int, most_at_once: int) -> bool:
        """Return whether images come one at a time."""
        del num_images
        return most_at_once == 1

    @staticmethod
    def for_few(settings: EngineSettings) -> EngineSettings:
        """Return settings that compute one image on all cores."""
        return replace(settings, streams=1, threads=settings.streams * settings.threads)

    def compute_stored(self) -> None:
        """Find the objects of the image of the self-test and forget them."""
        self.engine.find(self._stored)

    def find(self, views: Sequence[NDArray[np.uint8]]) -> list[FoundInView]:
        """Find the objects of images ``(height, width, C)`` uint8, dealt out over the streams."""
        if self.settings.streams == 1 or len(views) == 1:
            return [self.engine.find(view) for view in views]
        return list(self.pool().map(self.engine.find, views))
