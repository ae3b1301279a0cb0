"""``Session``: an engine that has opened and tested an exported file, and its streams; without torch.

What the file computes is told by a subclass: :class:`LogitsSession` here, and ``DetectorSession`` in
:mod:`deepresidual.backends.detector_session`.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from deepresidual.backends.engine import Engine, EngineSettings, open_engine
from deepresidual.backends.self_test import SelfTest
from deepresidual.backends.signature import SELF_TEST

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from deepresidual.backends.signature import FileKind, Signature
    from deepresidual.runtime.compute import Precision

_PARTS_OF_STREAM = 4
_REPAY_OPTIMIZING = 5
"""Images that repay what rearranging the graph for this processor takes, about 5 of any network."""


class Session(ABC):
    """An engine that is open and has passed the self-test of the exported model.

    A subclass opens its engine in ``__init__`` and lets it compute the self-test by :meth:`_tested`.

    Args:
        folder: The exported model.
        signature: What its ``signature.json`` says.
        settings: How to compute.

    Raises:
        ModelFileError: The engine refuses the file, or fails in its self-test.
        MissingDependencyError: The engine is not installed.
    """

    takes_batches: ClassVar[bool]
    """Whether a request may hold several images."""

    first_s: float
    """Seconds of the first image, that of the self-test."""

    def __init__(self, folder: Path, signature: Signature, settings: EngineSettings) -> None:
        self._folder, self._signature, self.settings = folder, signature, settings
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    @staticmethod
    @abstractmethod
    def require_self_test(folder: Path) -> None:
        """Refuse a folder whose self-test is damaged.

        Raises:
            ModelFileError: It is.
        """

    @staticmethod
    @abstractmethod
    def are_few(num_images: int, most_at_once: int) -> bool:
        """Return whether images are too few for what is the rule.

        Args:
            num_images: All that were expected until now; 0: nobody has said.
            most_at_once: The most that were expected at once.
        """

    @staticmethod
    @abstractmethod
    def for_few(settings: EngineSettings) -> EngineSettings:
        """Return how few images are computed."""

    @abstractmethod
    def compute_stored(self) -> None:
        """Compute a request, ``settings.batch`` images of the self-test, and forget the result."""

    def with_batch(self, batch: int) -> Self:
        """Return a session for another number of images a request, tested as well."""
        return self.with_settings(replace(self.settings, batch=batch))

    def with_settings(self, settings: EngineSettings) -> Self:
        """Return another session of the file."""
        return type(self)(self._folder, self._signature, settings)

    def pool(self) -> ThreadPoolExecutor:
        """Return the threads of the streams, which start when they are needed."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.settings.streams, "residual-stream")
            return self._pool

    def _tested(
        self, test: Callable[[FileKind | Precision, str], None], version: str, num_images: int
    ) -> None:
        """Let an engine compute the self-test, and keep how long an image took."""
        precision = self.settings.precision
        started = time.perf_counter()
        test(
            self._signature.precision if precision == "fp32" else precision,
            f"{self.settings.engine} {version} on {self._folder / self._signature.file}",
        )
        self.first_s = (time.perf_counter() - started) / num_images


class LogitsSession(Session):
    """A session that computes the logits of views.

    Args:
        folder: The exported model.
        signature: What its ``signature.json`` says.
        settings: How to compute.
        engine: Opens the engine. Default: from the file.

    Raises:
        ModelFileError: The engine refuses the file, or fails in its self-test.
        MissingDependencyError: The engine is not installed.
    """

    takes_batches = True

    def __init__(
        self,
        folder: Path,
        signature: Signature,
        settings: EngineSettings,
        engine: Callable[[], Engine] | None = None,
    ) -> None:
        super().__init__(folder, signature, settings)
        self.engine = engine() if engine is not None else open_engine(folder, signature, settings)
        test = SelfTest.read(folder / SELF_TEST)
        self._tested(partial(test.require_passed, self.logits_here), self.engine.version, len(test.pixels))
        self._stored = np.resize(test.pixels, (settings.batch, *test.pixels.shape[1:]))

    @staticmethod
    def require_self_test(folder: Path) -> None:
        """Refuse a folder whose self-test is damaged.

        Raises:
            ModelFileError: It is.
        """
        SelfTest.read(folder / SELF_TEST)

    @staticmethod
    def are_few(num_images: int, most_at_once: int) -> bool:
        """Return whether rearranging the graph for this processor does not pay."""
        del most_at_once
        return 0 < num_images < _REPAY_OPTIMIZING

    @staticmethod
    def for_few(settings: EngineSettings) -> EngineSettings:
        """Return settings that open soonest."""
        return replace(settings, optimize=False)

    def with_batch(self, batch: int) -> Self:
        """Return a session of the engine for another number of images a request, tested as well."""
        settings = replace(self.settings, batch=batch)
        return type(self)(self._folder, self._signature, settings, partial(self.engine.with_batch, batch))

    def compute_stored(self) -> None:
        """Compute one request of views of the self-test and forget the logits."""
        self.engine.logits(self._stored)

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits ``(N, K)`` of views ``(N, S, S, C)`` uint8, dealt out over the streams."""
        streams, batch = self.settings.streams, self.settings.batch
        if streams == 1 or len(pixels) <= batch:
            return self.logits_here(pixels)
        # Several parts a stream, so that none waits long for the last; handing one over costs 20 µs.
        size = batch * max(1, len(pixels) // (_PARTS_OF_STREAM * streams * batch))
        parts = [pixels[first : first + size] for first in range(0, len(pixels), size)]
        return np.concatenate(list(self.pool().map(self.logits_here, parts)))

    def logits_here(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits as :meth:`logits` does, in the calling thread alone."""
        batch = self.settings.batch
        return np.concatenate(
            [self.engine.logits(pixels[first : first + batch]) for first in range(0, len(pixels), batch)]
        )
