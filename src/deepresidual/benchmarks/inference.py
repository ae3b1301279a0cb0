"""Measure how fast exported models compute: engine by precision, one thread or two streams, view by view.

The rows of ``residual benchmark inference``. A network of random weights is exported, and each engine
computes views that lie in memory already (photos are for ``residual benchmark folder``). In a checkout of the
repository, ``benchmarks/inference.py`` measures torchvision and the engines' own interfaces beside it.

``NETWORK-ENGINE-PRECISION-thread``     one request at a time, on one thread
``NETWORK-ENGINE-PRECISION-streams``    two requests at a time, each on one thread
``NETWORK-ENGINE-PRECISION-threads``    one request at a time, on two threads
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from deepresidual.backends.engine import EngineName, EngineSettings, open_engine
from deepresidual.backends.signature import read_signature
from deepresidual.benchmarks.exports import Exports, ModelKind
from deepresidual.benchmarks.finetune import own_cache
from deepresidual.benchmarks.inference_sides import InferenceSide, Precision, measure_sides
from deepresidual.benchmarks.measurement import (
    MIN_REPETITIONS,
    Result,
    Row,
    check_repetitions,
    chosen_rows,
    make_result,
    unmeasured,
)
from deepresidual.benchmarks.photos import write_photos
from deepresidual.errors import MissingDependencyError
from deepresidual.models.exported import load_exported
from deepresidual.runtime.console import note
from deepresidual.zoo import default_preprocess, entry

Use: TypeAlias = Literal["thread", "streams", "threads"]
"""How cores are used: one; two, each by a request of its own; two by one request."""

CORES: dict[Use, int] = {"thread": 1, "streams": 2, "threads": 2}

USES: dict[Use, str] = {
    "thread": "one thread",
    "streams": "two streams",
    "threads": "one stream of two threads",
}

PACKAGES = ("onnx", "onnxruntime", "openvino")
"""Packages that write and compute exported models, beside torch."""


# From so many on a session may measure which of its settings is the fastest.
_MANY_VIEWS = 64


@dataclass(frozen=True)
class InferenceSizes:
    """Sizes of the benchmark; other values are for tests.

    Attributes:
        image_px: Side of the input; 0: the network's usual one.
        num_views: Views that are computed in turn.
        turn_seconds: About how long a turn is.
    """

    image_px: int = 0
    num_views: int = 32
    turn_seconds: float = 1.0


@dataclass(frozen=True)
class Way:
    """One way to compute an exported model.

    Attributes:
        engine: What computes.
        precision: In what.
        kind: The export that it computes.
    """

    engine: EngineName
    precision: Precision
    kind: ModelKind

    def name(self, use: Use) -> str:
        """Return the name of its side."""
        return f"{self.engine}-{self.precision}-{use}"


WAYS = (
    Way("onnxruntime", "fp32", "fp32"),
    Way("openvino", "fp32", "fp32"),
    Way("torch", "fp32", "pt2"),
    Way("openvino", "bf16", "fp32"),
    Way("onnxruntime", "int8", "int8"),
    Way("openvino", "int8", "int8"),
)
"""The ways to compute."""


@dataclass(frozen=True)
class Network:
    """A network of a benchmark of inference.

    Attributes:
        name: Its name in the zoo.
        exports: What is exported from it.
        views: ``(N, S, S, 3)`` uint8, what is computed.
        expected: PyTorch's logits of them in float32, ``(N, K)``.
    """

    name: str
    exports: Exports
    views: NDArray[np.uint8]
    expected: NDArray[np.float32]

    def side(self, way: Way, use: Use) -> InferenceSide:
        """Open the exported model for one way.

        Raises:
            ModelFileError: The engine refuses the file.
            MissingDependencyError: It is not installed.
        """
        folder = self.exports.folder(self.name, way.kind)
        streams, threads = (1, CORES[use]) if use == "threads" else (CORES[use], 1)
        settings = EngineSettings(
            way.engine,
            streams=streams,
            threads=threads,
            precision="bf16" if way.precision == "bf16" else "fp32",
        )
        engine = open_engine(folder, read_signature(folder), settings)

        def compute(number: int) -> NDArray[np.float32]:
            place = number % len(self.views)
            return engine.logits(self.views[place : place + 1])

        return InferenceSide(
            way.name(use),
            way.precision,
            streams,
            compute,
            setup={"settings": str(settings), "version": engine.version},
        )

    def auto_side(self, precision: Literal["fp32", "int8"]) -> InferenceSide:
        """Load the exported model and leave engine, streams and batch to it."""
        model = load_exported(self.exports.folder(self.name, precision), backend="auto")
        many = np.resize(self.views, (_MANY_VIEWS, *self.views.shape[1:]))
        model.expect(len(many))  # what it measures to choose is no part of a turn
        return InferenceSide(
            f"auto-{precision}",
            precision,
            1,
            lambda _: model.logits(many),
            batch=len(many),
            setup={"settings": str(model.settings)},
        )


def benchmark_inference(
    models: Sequence[str] = ("resnet50",),
    *,
    rows: Sequence[str] = (),
    repetitions: int = MIN_REPETITIONS,
    sizes: InferenceSizes | None = None,
) -> Result:
    """Measure our engines alone.

    Args:
        models: Networks of the zoo.
        rows: Names of rows. Default: all.
        repetitions: Turns of each side, 1 to 1,000.
        sizes: Sizes of the benchmark.

    Raises:
        ConfigurationError: ``repetitions`` is out of range, or a row or a network is unknown.
        RunError: A side computes other logits than PyTorch.
    """
    check_repetitions(repetitions)
    sizes = sizes or InferenceSizes()
    by_name = {row.name: row for model in models for row in our_rows(model)}
    names = chosen_rows(list(by_name), rows)
    measured: list[Row] = []
    for model in models:
        wanted = {(way, use) for way in WAYS for use in CORES if f"{model}-{way.name(use)}" in names}
        if wanted:
            with opened_network(model, sizes) as network:
                measured += _alone(network, wanted, repetitions, sizes)
    return make_result("inference", measured, repetitions, torch.device("cpu"), PACKAGES)


def our_rows(model: str) -> list[Row]:
    """Return the rows of our sides for a network."""
    return [
        Row(
            f"{model}-{way.name(use)}",
            f"inference, {model}, {way.engine}, {way.precision}, {USES[use]}",
            unit="images/s",
        )
        for use in CORES
        for way in WAYS
    ]


@contextlib.contextmanager
def opened_network(model: str, sizes: InferenceSizes) -> Iterator[Network]:
    """Yield a network with views of photos that are made, in a folder that is removed at the end."""
    image_px = sizes.image_px or default_preprocess(entry(model).spec).crop_px
    with tempfile.TemporaryDirectory(prefix="residual-inference-") as place:
        photos = write_photos(Path(place, "photos"), sizes.num_views)
        exports = Exports(Path(place), [path.read_bytes() for path in photos], image_px)
        views = exports.views(model)
        # A cache of its own: what was chosen at an earlier time may have been chosen beside other programs.
        with own_cache(Path(place, "cache")):
            yield Network(model, exports, views, exports.classifier(model).logits(views))


def opened_sides(
    network: Network, wanted: set[tuple[Way, Use]]
) -> tuple[list[InferenceSide], dict[str, str]]:
    """Open our sides, and say by the name of each why it cannot be opened here."""
    sides, reasons = [], {}
    for way, use in sorted(wanted, key=lambda pair: (WAYS.index(pair[0]), pair[1])):
        try:
            sides.append(network.side(way, use))
        except MissingDependencyError as error:
            reasons[way.name(use)] = error.found
    return sides, reasons


def _alone(
    network: Network, wanted: set[tuple[Way, Use]], repetitions: int, sizes: InferenceSizes
) -> list[Row]:
    sides, reasons = opened_sides(network, wanted)
    note(f"measuring {len(sides)} sides of {network.name}")
    measured = measure_sides(sides, network.expected, repetitions, sizes.turn_seconds)
    names = {f"{network.name}-{way.name(use)}": way.name(use) for way, use in wanted}
    reasons |= measured.left_out
    return [
        replace(
            row,
            ours=measured.speed(side),
            reason="measured alone",
            details={"ours": measured.details_of(side)},
        )
        if side in measured.seconds
        else unmeasured(row, reasons[side])
        for row in our_rows(network.name)
        if (side := names.get(row.name))
    ]
