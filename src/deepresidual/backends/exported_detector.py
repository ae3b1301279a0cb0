"""``ExportedDetector``: an exported file that finds objects. No torch is imported here."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Self

import numpy as np

from deepresidual.backends.classifier import ASKED_FOR, SettledPrecision
from deepresidual.backends.detected import DETECT_BATCH_SIZE, MIN_SCORE, Detected, require_score
from deepresidual.backends.detector_engine import DetectorEngine, open_detector_engine
from deepresidual.backends.detector_self_test import DetectorSelfTest
from deepresidual.backends.engine_choice import candidates_of
from deepresidual.backends.images import computed_parts
from deepresidual.backends.object_detector import FoundInView, ObjectDetector
from deepresidual.backends.signature import SELF_TEST, require_unchanged
from deepresidual.errors import ConfigurationError, ModelFileError, ResidualError
from deepresidual.runtime.console import warn

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from deepresidual.backends.engine import EngineName, EngineSettings
    from deepresidual.backends.images import ImageBatch, ImageLike
    from deepresidual.backends.signature import Signature
    from deepresidual.data.augment import Window
    from deepresidual.preprocess import Preprocess
    from deepresidual.runtime.compute import Precision, PrecisionChoice


class ExportedDetector(ObjectDetector):
    """An exported detector, computed by the first engine that runs it here; ``load`` returns it.

    The engine is opened, and computes its self-test, before the first image. A single image is computed on
    all cores; of several each core takes its own.

    Args:
        folder: The exported detector.
        signature: What its ``signature.json`` says.
        engines: What may compute it, the preferred one first.
        label_names: Name of every class.
        preprocess: How a decoded image becomes the input.
        task: What it has learned.
    """

    def __init__(
        self,
        folder: Path,
        signature: Signature,
        engines: Sequence[EngineName],
        label_names: tuple[str, ...],
        preprocess: Preprocess,
        *,
        task: str = "detection",
    ) -> None:
        self.folder, self.signature = folder, signature
        self.label_names, self.preprocess, self.task = label_names, preprocess, task
        self.precision: Precision = "fp32"
        self._engines = tuple(engines)
        self._opened: DetectorEngine | None = None
        self._num_expected = 0
        self._lock = threading.RLock()
        self._pool: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.folder}/{self.signature.file}, {self.signature.precision}, "
            f"{len(self.label_names):,} classes, {self.preprocess.crop_px} px, {self.settings})"
        )

    # -- how it is computed ----------------------------------------------------------------------------------

    @property
    def settings(self) -> EngineSettings:
        """How it is computed, or is going to be."""
        return self._candidates()[0] if self._opened is None else self._opened.settings

    @property
    def backend(self) -> str:
        """Name of the engine."""
        return self.settings.engine

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages whose versions may change what is found."""
        return (self.settings.engine,)

    @property
    def has_masks(self) -> bool:
        """Whether it finds which pixels are an object's."""
        return any(output.name == "masks" for output in self.signature.outputs)

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the exported file, as its signature states it."""
        return self.signature.sha256

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

    def computed_by(self, backend: str) -> Self:
        """Return this detector, computed by an engine, where that is one to choose from."""
        engines = tuple(name for name in self._engines if name == backend)
        if backend == self.backend or not engines:
            return self
        other = self._copy()
        other._engines, other._opened = engines, None  # noqa: SLF001  # a copy of this object
        return other

    def with_preprocess(self, preprocess: Preprocess) -> Self:
        """Return this detector for views that another record makes; the file takes any size."""
        other = self._copy()
        other.preprocess = preprocess
        return other

    def settle_precision(self, choice: PrecisionChoice) -> SettledPrecision:
        """Choose the precision: float32, in which detectors were checked."""
        if choice == "auto":
            return SettledPrecision("fp32", f"{self.signature.file} holds {self.signature.precision}")
        self.in_precision(choice)
        return SettledPrecision(choice, ASKED_FOR)

    def in_precision(self, precision: Precision) -> Self:
        """Return this detector.

        Raises:
            ConfigurationError: The precision is not that of the file.
        """
        if precision != "fp32":
            raise ConfigurationError(
                f"precision is {precision!r} for an exported detector", expected="fp32, as in its file"
            )
        return self

    def expect(self, num_images: int) -> Self:
        """Open an engine for so many images, all that were expected before included, and return the detector.

        Raises:
            ModelFileError: The file has changed, or no engine passes the self-test.
            MissingDependencyError: No engine is installed.
        """
        if num_images > 0:
            with self._lock:
                self._num_expected += num_images
                if self._opened is not None and self._opened.settings != self._shared_out(self.settings):
                    self._opened = None
                self.engine()
        return self

    def engine(self) -> DetectorEngine:
        """Return the engine, which has passed the self-test.

        Raises:
            ModelFileError: The file has changed, or no engine passes the self-test.
            MissingDependencyError: No engine is installed.
        """
        with self._lock:
            if self._opened is None:
                require_unchanged(self.folder, self.signature)
                self._opened = self._first_that_passes()
            return self._opened

    def _copy(self) -> Self:
        other = copy.copy(self)
        other._lock, other._pool = threading.RLock(), None  # noqa: SLF001  # a copy of this object
        return other

    def _candidates(self) -> list[EngineSettings]:
        return [self._shared_out(one) for one in candidates_of(self._engines, "fp32")]

    def _shared_out(self, settings: EngineSettings) -> EngineSettings:
        """Return settings that use the cores for as many images as are expected."""
        cores = settings.streams * settings.threads
        if self._num_expected == 1:
            return replace(settings, streams=1, threads=cores)
        return replace(settings, streams=cores, threads=1)

    def _first_that_passes(self) -> DetectorEngine:
        test, candidates = DetectorSelfTest.read(self.folder / SELF_TEST), self._candidates()
        errors: list[ResidualError] = []
        for settings in candidates:
            try:
                engine = open_detector_engine(self.folder, self.signature, settings)
                who = f"{settings.engine} {engine.version} on {self.folder / self.signature.file}"
                test.require_passed(engine.find, who, self.signature.precision)
            except ModelFileError as error:
                errors.append(error)
                if len(candidates) > 1:
                    warn(f"{settings.engine} is left out: {error.found}")
            else:
                return engine
        raise errors[0]

    # -- what is found ---------------------------------------------------------------------------------------

    def find(self, pixels: NDArray[np.uint8], windows: Sequence[Window]) -> list[FoundInView | None]:
        """Find the objects of some views, dealt out over the cores; each alone, in its own size."""
        engine = self.engine()
        views = [
            view[: window.filled[0], : window.filled[1]] for view, window in zip(pixels, windows, strict=True)
        ]
        if engine.settings.streams == 1 or len(views) == 1:
            found = [engine.find(view) for view in views]
        else:
            found = list(self._threads().map(engine.find, views))
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

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.settings.streams, "residual-stream")
            return self._pool


def _is_finite(found: FoundInView) -> bool:
    arrays = (found.boxes, found.scores, *([] if found.masks is None else [found.masks]))
    return all(bool(np.isfinite(array).all()) for array in arrays)
