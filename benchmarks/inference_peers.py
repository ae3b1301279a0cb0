"""Compute the network of an exported model as others do: torchvision and the engines' own interfaces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deepresidual.backends.open_vino import shared_core
from deepresidual.benchmarks.inference_sides import InferenceSide, Precision
from deepresidual.models import TorchClassifier

BATCH_SIZE = 16
"""Images of a batch, where torchvision is measured with one, too."""


@dataclass(frozen=True)
class TorchWay:
    """A way to run torchvision's network.

    Attributes:
        name: Its name, for rows.
        channels_last: Whether weights and images are channels last.
        precision: fp32, or bf16 by autocast.
        batch: Images of a call.
        compiled: Whether it is compiled by torch's inductor, with frozen weights.
        threads: Threads that a call computes on.
        callers: Threads that call.
    """

    name: str
    channels_last: bool = False
    precision: Precision = "fp32"
    batch: int = 1
    compiled: bool = False
    threads: int = 1
    callers: int = 1

    @property
    def is_usual(self) -> bool:
        """Whether most people run it so: eager float32, NCHW, one caller."""
        return not (self.channels_last or self.compiled) and self.precision == "fp32" and self.callers == 1

    @property
    def in_words(self) -> str:
        """Its name as a phrase."""
        layout = "channels last" if self.channels_last else "NCHW"
        how = "compiled, frozen" if self.compiled else "eager"
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        cores = f"{self.callers} callers of one thread" if self.callers > 1 else threads
        return f"torchvision, {how} {self.precision}, {layout}, batch {self.batch}, {cores}"


class CannotCompileError(Exception):
    """torch's compiler does not work here; the message says why."""


def torch_ways(cores: int) -> tuple[TorchWay, ...]:
    """Return the ways to use ``cores`` cores; with one that is one thread."""
    usual = (
        TorchWay("torchvision", threads=cores),
        TorchWay(f"torchvision-batch-{BATCH_SIZE}", batch=BATCH_SIZE, threads=cores),
        TorchWay("torchvision-channels-last", channels_last=True, threads=cores),
        TorchWay("torchvision-channels-last-bf16", channels_last=True, precision="bf16", threads=cores),
        TorchWay("torchvision-compiled", channels_last=True, compiled=True, threads=cores),
    )
    if cores == 1:
        return usual
    return (
        *usual,
        TorchWay("torchvision-callers", callers=cores),
        TorchWay("torchvision-channels-last-callers", channels_last=True, callers=cores),
    )


class TorchvisionSides:
    """torchvision's network with the weights of ours, on images that were normalized beforehand.

    Args:
        model: Our network.
        name: The network's name in torchvision.
        views: ``(N, S, S, 3)`` uint8.
    """

    def __init__(self, model: TorchClassifier, name: str, views: NDArray[np.uint8]) -> None:
        self._weights = model.network.state_dict()
        self._name, self._num_classes = name, model.spec.num_classes
        self._images = model.preprocess.normalize(torch.from_numpy(views)).contiguous()
        self._compiled: dict[int, Any] = {}

    def side(self, way: TorchWay) -> InferenceSide:
        """Return one of :func:`torch_ways`."""
        order = torch.channels_last if way.channels_last else torch.contiguous_format
        images = self._images.to(memory_format=order)
        network: Any = self._network().to(memory_format=order)
        if way.compiled:
            network = _compiled(network, images[: way.batch])

        def compute(first: int) -> NDArray[np.float32]:
            place = first % len(images)
            batch = images[place : place + way.batch]
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, way.precision == "bf16"):
                logits: NDArray[np.float32] = network(batch).float().numpy()
            return logits

        return InferenceSide(
            way.name,
            way.precision,
            way.callers,
            compute,
            batch=way.batch,
            setup={
                "layout": "channels-last" if way.channels_last else "NCHW",
                "threads": way.threads,
                "callers": way.callers,
                "batch": way.batch,
                "compiled": "frozen" if way.compiled else False,
            },
            before=lambda: torch.set_num_threads(way.threads),
        )

    def _network(self) -> nn.Module:
        from torchvision import models

        network: nn.Module = models.get_model(self._name, num_classes=self._num_classes)
        network.load_state_dict(self._weights)
        return network.eval()


def _compiled(network: nn.Module, batch: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """Compile a network for batches like ``batch``, with its weights frozen.

    Raises:
        CannotCompileError: There is no C++ compiler, or it fails.
    """
    from torch._inductor import config

    compiled: Any = torch.compile(network)
    try:
        with config.patch(freezing=True), torch.inference_mode():
            compiled(batch)
    except Exception as error:  # torch's, its compiler's, or that of the C++ compiler
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise CannotCompileError(f"torch cannot compile here ({lines[0]})") from error
    return compiled  # type: ignore[no-any-return]


# -- engines by their own interfaces -------------------------------------------------------------------------


def raw_side(
    engine: str, file: Path, precision: Precision, callers: int, views: NDArray[np.uint8]
) -> InferenceSide:
    """Return ONNX Runtime or OpenVINO, used as their documentation says.

    Args:
        engine: ``onnxruntime`` or ``openvino``.
        file: The exported ONNX file.
        precision: What it computes in.
        callers: Requests at the same time.
        views: ``(N, S, S, 3)`` uint8.
    """
    if engine == "onnxruntime":
        return _raw_onnxruntime(file, precision, callers, views)
    return _RawOpenVino(file, precision, callers, views)


def _raw_onnxruntime(
    file: Path, precision: Precision, callers: int, views: NDArray[np.uint8]
) -> InferenceSide:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session: Any = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def compute(number: int) -> NDArray[np.float32]:
        place = number % len(views)
        logits: NDArray[np.float32] = session.run(["logits"], {"pixels": views[place : place + 1]})[0]
        return logits

    return InferenceSide(
        f"raw-onnxruntime-{precision}", precision, callers, compute, setup={"intra_op_num_threads": 1}
    )


class _RawOpenVino(InferenceSide):
    """OpenVINO's queue of asynchronous requests; alone, a request that is waited for."""

    def __init__(self, file: Path, precision: Precision, callers: int, views: NDArray[np.uint8]) -> None:
        import openvino

        core = shared_core(file)
        network = core.read_model(file)
        network.reshape({"pixels": [1, *views.shape[1:]]})
        setup = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "NUM_STREAMS": callers,
            "INFERENCE_NUM_THREADS": callers,
        }
        compiled = core.compile_model(network, "CPU", setup)
        request = compiled.create_infer_request()
        self._views = views
        self._queue = openvino.AsyncInferQueue(compiled, callers)

        def compute(number: int) -> NDArray[np.float32]:
            place = number % len(views)
            found = request.infer({"pixels": views[place : place + 1]})
            logits: NDArray[np.float32] = np.array(found["logits"])
            return logits

        super().__init__(f"raw-openvino-{precision}", precision, callers, compute, setup=setup)

    def _run(self, calls: int) -> None:
        if self.callers == 1:
            super()._run(calls)
            return
        for number in range(calls * self.callers):
            place = number % len(self._views)
            self._queue.start_async({"pixels": self._views[place : place + 1]})
        self._queue.wait_all()
