"""The search for an int8 network that passes its gate, whatever the network finds.

Where more is lost than may be, the first layer stays in float, then the layers with the largest errors, one
more each time. Where that is not enough, or has not helped two times in a row, there is none.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import onnx

from deepresidual.backends.engine import ENGINES, EngineName
from deepresidual.data.source.base import TRAIN
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.exporting.gate import ENOUGH_IMAGES, Limits
from deepresidual.exporting.int8_report import Attempt, EngineVerdict
from deepresidual.exporting.layer_errors import LayerError, correct_biases
from deepresidual.exporting.openvino_file import write_by_onnx
from deepresidual.exporting.quantize import Layer
from deepresidual.runtime.console import note

if TYPE_CHECKING:
    from onnx import ModelProto

Int8Target: TypeAlias = Literal["onnx", "openvino"]
"""Formats whose engines compute int8."""

_MOST_WORST = 6
"""Layers with large errors that are left in float before a network is refused."""

_MOST_VAIN = 2
"""Layers that are left in float one after the other without a gain."""

_PASS_S, _SPEED_S = 0.05, 3.0
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 15


class Bench(ABC):
    """Judges int8 files in the engines of this machine.

    Args:
        engines: The engines.
        limits: What may be lost.
    """

    def __init__(self, engines: Sequence[EngineName], limits: Limits) -> None:
        self.engines, self.limits = engines, limits

    def judged(self, model: ModelProto, *, all_engines: bool = False) -> tuple[EngineVerdict, ...]:
        """Return what the engines make of a network, by default up to the first that does not pass."""
        with tempfile.TemporaryDirectory(prefix="residual-int8-") as scratch:
            folder = Path(scratch)
            onnx.save(model, folder / "model.onnx")
            self.write_self_test(folder)
            verdicts: list[EngineVerdict] = []
            for engine in self.engines:
                verdicts.append(self.verdict(folder, engine))
                if not (verdicts[-1].passes or all_engines):
                    break
            return tuple(verdicts)

    @abstractmethod
    def write_self_test(self, folder: Path) -> None:
        """Write the self-test that every session computes before it is judged."""

    @abstractmethod
    def verdict(self, folder: Path, engine: EngineName) -> EngineVerdict:
        """Return what an engine makes of ``model.onnx`` in a folder."""


def first_that_passes(
    networks: Iterator[tuple[tuple[str, ...], ModelProto]],
    bench: Bench,
    always_in_float: tuple[str, ...],
    where: str,
    num_more: int,
) -> tuple[ModelProto, tuple[Attempt, ...]]:
    """Return the first network that passes, and all attempts, that one last.

    Args:
        networks: Int8 networks (:func:`candidates`), and the names of their layers in float.
        bench: Judges them.
        always_in_float: Names of what is in float in all of them.
        where: The images that judge, in words.
        num_more: Training images that did not calibrate.

    Raises:
        ModelFileError: None passes.
    """
    attempts: list[Attempt] = []
    best: tuple[Attempt, ModelProto] | None = None
    num_vain = 0
    for in_float, model in networks:
        attempt = Attempt((*in_float, *always_in_float), bench.judged(model))
        attempts.append(attempt)
        if attempt.passes:
            return model, tuple(attempts)
        refused = attempt.refused
        added = in_float[-1] if in_float else ", ".join(always_in_float)
        also = " as well" if in_float else ""
        note(f"int8 with {added} in float{also}, by {refused.engine}:")
        note(f"  {refused.failure}")
        is_better = best is None or attempt.rank < best[0].rank
        # A self-test that fails costs little, and layers may help only together.
        num_vain = 0 if is_better or refused.loss is None else num_vain + 1
        if is_better:
            best = attempt, model
        if num_vain == _MOST_VAIN:
            break
    assert best is not None  # noqa: S101  # there is a first candidate
    closest = Attempt(best[0].in_float, bench.judged(best[1], all_engines=True))
    raise refusal(where, closest, bench.limits, num_more)


def refuse_training_images(data: str, split: str) -> None:
    """Refuse to judge on the images that calibrate.

    Raises:
        ConfigurationError: The split is that of training.
    """
    if split == TRAIN:
        raise ConfigurationError(
            f"{data} is to be judged on its training images, which calibrate",
            expected="another split, such as test",
        )


def write_int8(model: ModelProto, folder: Path, to: Int8Target) -> Path:
    """Write a network as ``model.onnx`` or ``model.xml``, and return its path."""
    if to == "onnx":
        onnx.save(model, folder / "model.onnx")
        return folder / "model.onnx"
    write_by_onnx(folder / "model.xml", lambda path: onnx.save(model, path))
    return folder / "model.xml"


def refusal(where: str, closest: Attempt, limits: Limits, num_more: int) -> ModelFileError:
    """Return the error of a network that does not pass.

    Args:
        where: The images.
        closest: The attempt that lost least, judged by all engines.
        limits: What might be lost.
        num_more: Training images that did not calibrate.
    """
    refused = closest.refused
    losses = [loss for verdict in closest.verdicts for loss in verdict.losses]
    advice = []
    if all(verdict.losses for verdict in closest.verdicts):
        options = []
        if (lost := max(loss.loss for loss in losses)) > limits.loss + 1e-9:
            options.append(f"--max-loss {math.ceil(1000 * lost - 1e-9) / 10:g}")
        if (agreement := min(loss.agreement for loss in losses)) < limits.agreement - 1e-9:
            options.append(f"--min-agreement {math.floor(100 * agreement + 1e-9) / 100:g}")
        if options:
            advice.append(f"{' '.join(options)} accepts it")
    if num_more > 0:
        advice.append("calibrate on more images (--calibration-images)")
    if losses and losses[0].count < ENOUGH_IMAGES:
        count = losses[0].count
        advice.append(f"judge on more images, of {count:,} each is {100 / count:.2f}%")
    layers = ", ".join(closest.in_float)
    return ModelFileError(
        f"int8 does not pass on {where}, even with {layers} in float: {refused.engine}: {refused.failure}",
        remedy=f"nothing was written; {', or '.join([*advice, 'export without --int8'])}",
    )


def candidates(
    layers: Sequence[Layer],
    quantize: Callable[[Sequence[Layer]], ModelProto],
    measure: Callable[[ModelProto], dict[str, LayerError]],
) -> Iterator[tuple[tuple[str, ...], ModelProto]]:
    """Yield int8 networks, each with one more layer in float, and the names of these.

    Args:
        layers: What can be int8, in the order in which it is computed.
        quantize: Makes a network int8 but for some layers.
        measure: Measures the errors of the layers of the first network, by their nodes.
    """
    in_float: list[Layer] = []
    worst: list[Layer] = []
    errors: dict[str, LayerError] = {}
    for number in range(min(len(layers), _MOST_WORST + 2)):
        model = quantize(in_float)
        if number == 0:
            # Each is measured on the inputs that the float network gives it, whatever the others are.
            errors = measure(model)
            worst = sorted(layers[1:], key=lambda layer: -errors[layer.node].share)
        correct_biases(model, errors)
        yield tuple(layer.name for layer in in_float), model
        in_float = [*in_float, layers[0] if number == 0 else worst[number - 1]]


def speed_ratio(before: Callable[[int], object], after: Callable[[int], object]) -> float:
    """Return how many times as fast ``after`` computes as ``before``: median over rounds in which both do.

    Both compute the same number of images a round, and are timed in CPU seconds, which other programs hardly
    change: by the clock, on a busy machine, one pair of files was measured as 0.2 and as 7.9.

    Args:
        before: Computes so many images.
        after: The same.
    """
    count = 1
    while (seconds := min(_cpu_seconds(side, count) for side in (before, after))) < _PASS_S:
        # The first call prepares, so that one image alone says little.
        count = max(2 * count, min(10 * count, round(count * _PASS_S / max(seconds, 1e-9))))
    ratios: list[float] = []
    end = time.perf_counter() + _SPEED_S
    while len(ratios) < _FEWEST_ROUNDS or (len(ratios) < _MOST_ROUNDS and time.perf_counter() < end):
        ratios.append(_cpu_seconds(before, count) / _cpu_seconds(after, count))
    return statistics.median(ratios)


def _cpu_seconds(compute: Callable[[int], object], count: int) -> float:
    started = time.process_time()
    compute(count)
    return time.process_time() - started


def installed_engines(to: Int8Target) -> list[EngineName]:
    """Return the engines that run files of a format here."""
    return [engine for engine in ENGINES[to] if importlib.util.find_spec(engine) is not None]
