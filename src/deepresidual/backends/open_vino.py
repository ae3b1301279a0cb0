"""``OpenVinoEngine``: a file of ONNX or OpenVINO, computed by OpenVINO on the CPU.

Batches are static: where the number of images is left open OpenVINO 2026.4 computes some int8 networks
wrongly (top-1 of 0.56 instead of 0.84 on CIFAR-10, without a word), on every processor that was tried. It
takes the nodes by which PyTorch's exporter flattens features, which ``residual export`` does not write and
others do. The precision is always named, since the default on processors with bf16 is bf16. Every thread that
computes has an infer request to itself for as long as it computes, and leaves it to the next one; there is no
``AsyncInferQueue``, which deadlocks when several threads feed it. ``CACHE_DIR`` is not used: of a ResNet-50
it keeps 98 MB on the disk, and opening takes as long as before. What takes long is to read ONNX;
``model.xml`` is opened in two thirds of the time.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from deepresidual.backends.engine import Engine, EngineSettings, imported
from deepresidual.errors import MachineError, ModelFileError
from deepresidual.runtime.provenance import version_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from deepresidual.runtime.compute import Precision

_HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
_CAPABILITIES: dict[Precision, str] = {"fp32": "FP32", "bf16": "BF16", "fp16": "FP16"}

_CORES: list[Any] = []
_CORES_LOCK = threading.Lock()


def shared_core(path: Path) -> Any:
    """Return the ``openvino.Core`` of this process, which stays to its end.

    A core of its own for each engine ends processes by SIGSEGV: the CPU plugin of each gives the thread that
    makes it a stack for signals, and takes it away again when it goes (OpenVINO 2026.4). Where an older one
    goes before a newer one, the thread is left with a stack that is none, and the next signal ends the
    process, such as that of a child that has ended.

    Args:
        path: What is to be computed, for the message.

    Raises:
        MissingDependencyError: OpenVINO is not installed, or broken.
    """
    openvino = imported("openvino", path, "openvino")
    with _CORES_LOCK:
        if not _CORES:
            _CORES.append(openvino.Core())
    return _CORES[0]


def compiled(core: Any, model: Any, path: Path, settings: EngineSettings) -> Any:
    """Return a model, compiled for the CPU.

    Args:
        core: That of :func:`shared_core`.
        model: Returns the ``openvino.Model``.
        path: Its file, for messages.
        settings: How to compute.

    Raises:
        MachineError: The processor does not compute in the precision.
        ModelFileError: OpenVINO refuses the file.
    """
    able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if _CAPABILITIES[settings.precision] not in able:
        raise MachineError(
            f"precision is {settings.precision!r} and OpenVINO has no such operations on this processor",
            expected="fp32",
        )
    options = {
        "NUM_STREAMS": settings.streams,
        "INFERENCE_NUM_THREADS": settings.streams * settings.threads,
        "INFERENCE_PRECISION_HINT": _HINTS[settings.precision],
        # Threads that are tied to cores wait for programs that run there, and for those that decode.
        "ENABLE_CPU_PINNING": False,
    }
    try:
        return core.compile_model(model(), "CPU", options)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(
            f"OpenVINO {version_of('openvino')} cannot open {path}: {reason}",
            remedy="choose another --backend, or export the model again",
        ) from error


class Requests:
    """The requests of a compiled model: each thread that computes has one to itself for as long."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def infer(self, pixels: NDArray[np.uint8], outputs: Sequence[Any]) -> list[NDArray[Any]]:
        """Compute outputs, in memory of their own."""
        try:
            request = self._idle.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        try:
            found = request.infer({0: np.ascontiguousarray(pixels)}, share_inputs=True, share_outputs=True)
            return [np.array(found[output]) for output in outputs]
        finally:
            self._idle.put(request)


class OpenVinoEngine(Engine):
    """Compute ``model.onnx`` or ``model.xml`` by OpenVINO.

    Args:
        path: The file; ``model.bin`` lies beside ``model.xml``.
        settings: How to compute.

    Raises:
        ModelFileError: OpenVINO refuses the file.
        MachineError: The processor does not compute in the precision.
        MissingDependencyError: OpenVINO is not installed, or broken.
    """

    def __init__(self, path: Path, settings: EngineSettings) -> None:
        self._core = shared_core(path)
        self._path, self.settings, self.version = path, settings, version_of("openvino") or ""
        self._whole = self._compiled(settings.batch)
        self._single = self._whole if settings.batch == 1 else None

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute logits ``(N, K)`` of views ``(N, S, S, C)`` uint8.

        A rest is filled up to a whole batch; an image alone is taken by a request for one.
        """
        count, batch = len(pixels), self.settings.batch
        if count == 1:
            self._single = self._single or self._compiled(1)
            return self._single.logits(pixels)
        return np.concatenate(
            [self._whole.logits(pixels[first : first + batch]) for first in range(0, count, batch)]
        )

    def with_batch(self, batch: int) -> Self:
        """Return an engine for another number of images a request, compiled again for that."""
        return type(self)(self._path, replace(self.settings, batch=batch))

    def _compiled(self, batch: int) -> _StaticBatch:
        def model() -> Any:
            read = self._core.read_model(self._path)
            pixels = read.inputs[0]
            read.reshape({pixels: [batch, *(axis.get_length() for axis in list(pixels.partial_shape)[1:])]})
            return read

        return _StaticBatch(compiled(self._core, model, self._path, self.settings), batch)


class _StaticBatch:
    """A model that is compiled for batches of one size, and the requests for it."""

    def __init__(self, compiled: Any, batch: int) -> None:
        self._requests, self._batch = Requests(compiled), batch
        self._output = compiled.output("logits")

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the logits of at most a batch, in memory of their own."""
        count = len(pixels)
        if count < self._batch:
            rest = np.broadcast_to(pixels[-1:], (self._batch - count, *pixels.shape[1:]))
            pixels = np.concatenate([pixels, rest])
        (logits,) = self._requests.infer(pixels, [self._output])
        return logits[:count].astype(np.float32, copy=False)
