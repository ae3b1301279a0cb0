"""``Session``: an engine that has opened and tested an exported file, and its streams; without torch."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from deepresidual.backends.engine import Engine, EngineSettings, open_engine
from deepresidual.backends.self_test import SelfTest
from deepresidual.backends.signature import SELF_TEST

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from deepresidual.backends.signature import Signature

_PARTS_OF_STREAM = 4


class Session:
    """An engine that is open and has passed the self-test of the exported model.

    Args:
        folder: The exported model.
        signature: What its ``signature.json`` says.
        settings: How to compute.
        engine: Opens the engine. Default: from the file.

    Raises:
        ModelFileError: The engine refuses the file, or fails in its self-test.
        MissingDependencyError: The engine is not installed.
    """

    def __init__(
        self,
        folder: Path,
        signature: Signature,
        settings: EngineSettings,
        engine: Callable[[], Engine] | None = None,
    ) -> None:
        self._folder, self._signature, self.settings = folder, signature, settings
        self.engine = engine() if engine is not None else open_engine(folder, signature, settings)
        precision = settings.precision
        SelfTest.read(folder / SELF_TEST).require_passed(
            self.logits_here,
            signature.precision if precision == "fp32" else precision,
            f"{settings.engine} {self.engine.version} on {folder / signature.file}",
        )
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None

    def with_batch(self, batch: int) -> Session:
        """Return a session of the engine for another number of images a request, tested as well."""
        settings = replace(self.settings, batch=batch)
        return Session(self._folder, self._signature, settings, partial(self.engine.with_batch, batch))

    def with_settings(self, settings: EngineSettings) -> Session:
        """Return another session of the file."""
        return Session(self._folder, self._signature, settings)

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

    def pool(self) -> ThreadPoolExecutor:
        """Return the threads of the streams, which start when they are needed."""
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.settings.streams, "residual-stream")
            return self._pool
