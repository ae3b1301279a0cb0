"""``Session``: an exported file that has been tested and is ready to compute. No torch is imported here."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from deepresidual.backends.engine import Engine, EngineSettings, open_engine
from deepresidual.backends.self_test import SelfTest
from deepresidual.backends.signature import SELF_TEST, Signature, require_unchanged

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_PARTS_OF_STREAM = 4


class Session:
    """An engine, opened and tested by the first who asks for it, and the threads of its streams.

    Args:
        folder: The exported model.
        signature: What its ``signature.json`` says.
        settings: How to compute.
    """

    def __init__(self, folder: Path, signature: Signature, settings: EngineSettings) -> None:
        self._folder, self._signature, self.settings = folder, signature, settings
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._pool: ThreadPoolExecutor | None = None

    def engine(self) -> Engine:
        """Return the engine; its file has not changed, and it has passed the self-test.

        Raises:
            ModelFileError: The file has changed, the engine refuses it, or fails in its self-test.
            MissingDependencyError: The engine is not installed.
        """
        with self._lock:
            if self._engine is None:
                require_unchanged(self._folder, self._signature)
                engine = open_engine(self._folder, self._signature, self.settings)
                precision = self.settings.precision
                SelfTest.read(self._folder / SELF_TEST).require_passed(
                    lambda pixels: _in_requests(engine, pixels),
                    self._signature.precision if precision == "fp32" else precision,
                    f"{self.settings.engine} {engine.version} on {self._folder / self._signature.file}",
                )
                self._engine = engine
            return self._engine

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits ``(N, K)`` of views ``(N, S, S, C)`` uint8, dealt out over the streams."""
        engine, batch = self.engine(), self.settings.batch
        if self.settings.streams == 1 or len(pixels) <= batch:
            return _in_requests(engine, pixels)
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self.settings.streams, "residual-stream")
        # Several parts a stream, so that none waits long for the last; handing one over costs 20 µs.
        size = batch * max(1, len(pixels) // (_PARTS_OF_STREAM * self.settings.streams * batch))
        parts = [pixels[first : first + size] for first in range(0, len(pixels), size)]
        return np.concatenate(list(self._pool.map(partial(_in_requests, engine), parts)))

    def logits_here(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits as :meth:`logits` does, in the calling thread alone."""
        return _in_requests(self.engine(), pixels)


def _in_requests(engine: Engine, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Compute a batch in this thread, as many images at a time as the engine takes."""
    batch = engine.settings.batch
    return np.concatenate(
        [engine.logits(pixels[first : first + batch]) for first in range(0, len(pixels), batch)]
    )
