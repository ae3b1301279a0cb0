"""Make a model int8 and hold it against float on held-out images, or refuse.

The classifier stays in float from the beginning. Where more is lost than may be the first convolution stays
in float, too, then the layers with the largest errors, one more each time. Where that is not enough, or has
not helped two times in a row, nothing is written.
"""

from __future__ import annotations

import importlib.util
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import numpy as np
import onnx

from deepresidual.backends.engine import ENGINES, Engine, EngineName, EngineSettings, open_engine
from deepresidual.backends.exported import ExportedClassifier
from deepresidual.backends.self_test import TOLERANCES, Difference
from deepresidual.backends.signature import SELF_TEST, Signature
from deepresidual.data.source.base import TRAIN
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.evaluation import EvaluationSetup
from deepresidual.exporting.calibration import CalibrationViews, calibration_views
from deepresidual.exporting.gate import ENOUGH_IMAGES, Gate, Limits
from deepresidual.exporting.int8_options import Int8Options, WeightBits
from deepresidual.exporting.int8_report import Attempt, EngineVerdict, Int8Report
from deepresidual.exporting.layer_errors import LayerError, correct_biases, layer_errors
from deepresidual.exporting.onnx_file import write_onnx
from deepresidual.exporting.openvino_file import convert_onnx
from deepresidual.exporting.quantize import Layer, layers_of, prepared, quantized
from deepresidual.exporting.views import NUM_VIEWS, views_of
from deepresidual.runtime.console import note
from deepresidual.runtime.files import sha256_of
from deepresidual.runtime.processes import usable_cores
from deepresidual.runtime.provenance import version_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

    from deepresidual.backends.pytorch import TorchClassifier
    from deepresidual.backends.self_test import SelfTest
    from deepresidual.exporting.views import CheckViews

Int8Target: TypeAlias = Literal["onnx", "openvino"]
"""Formats whose engines compute int8."""

CLASSIFIER = "fc"
_MOST_WORST = 6
"""Layers with large errors that are left in float before a network is refused."""

_MOST_VAIN = 2
"""Layers that are left in float one after the other without a gain."""

# Means over 64 views and all positions are exact to a hundredth of what is corrected.
_CORRECTION_VIEWS = 64
_PASS_S, _SPEED_S = 0.05, 3.0
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 15


@dataclass(frozen=True)
class Int8Plan:
    """The data that makes a model int8 and judges it.

    Attributes:
        setup: The model in PyTorch and the data, opened as ``residual evaluate`` opens them: on the sides on
            which a run had it, without the images that it was trained on.
        options: How.
        to: Format of the file that is to compute.
    """

    setup: EvaluationSetup
    options: Int8Options
    to: Int8Target

    @classmethod
    def open(cls, model: TorchClassifier | str | Path, options: Int8Options, to: Int8Target) -> Self:
        """Open the data.

        Raises:
            ConfigurationError: The data has training images only.
            DataError: The data cannot be used.
        """
        setup = EvaluationSetup.open([model], options.data, split=options.split, device="cpu")
        if setup.split == TRAIN:
            raise ConfigurationError(
                f"{setup.source.name} is to be judged on its training images, which calibrate",
                expected="another split, such as test",
            )
        return cls(setup, options, to)

    def check_views(self) -> CheckViews:
        """Return held-out views for the certificate and the self-test."""
        setup = self.setup
        # More than the self-test takes, which are then those whose best class is clear: rounding may change
        # it where two are all but equal.
        preprocess, name = setup.members[0].preprocess, setup.source.name
        return views_of(setup.source, setup.split, preprocess, name, count=2 * NUM_VIEWS)

    def write(self, model: TorchClassifier, folder: Path, test: SelfTest) -> tuple[Path, Int8Report]:
        """Write a file that passes the gate, and return its path.

        Args:
            model: The model, on the CPU.
            folder: Where to.
            test: Views and PyTorch's logits of them, which every session computes before it is judged.

        Raises:
            DataError: The data has no training images.
            ModelFileError: Too much is lost, whatever is left in float; nothing is written.
        """
        with tempfile.TemporaryDirectory(prefix="residual-int8-") as scratch:
            fp32, int8 = Path(scratch) / "fp32.onnx", Path(scratch) / "int8.onnx"
            write_onnx(model, fp32)
            passing, report = self._within_gate(fp32, test)
            if self.to == "onnx":
                onnx.save(passing, folder / "model.onnx")
                return folder / "model.onnx", report
            onnx.save(passing, int8)
            convert_onnx(int8, folder / "model.xml")
            return folder / "model.xml", report

    def _within_gate(self, fp32: Path, test: SelfTest) -> tuple[ModelProto, Int8Report]:
        setup, options = self.setup, self.options
        engines, count = installed_engines(self.to), len(setup.samples(setup.split))
        views = calibration_views(setup.source, setup.members[0].preprocess, options.calibration_images)
        note(
            f"int8: {len(views.keys):,} training images to calibrate, {count:,} held-out ones to judge, "
            f"by {' and '.join(engines)}"
        )
        limits = Limits(options.max_loss / 100, options.min_agreement)
        bench = _Bench(fp32, test, setup, engines, limits)
        attempts: list[Attempt] = []
        best: tuple[Attempt, ModelProto] | None = None
        num_vain = 0
        for in_float, model in _candidates(prepared(fp32), views, options.weight_bits):
            attempt = Attempt((*in_float, CLASSIFIER), bench.judged(model))
            attempts.append(attempt)
            if attempt.passes:
                judged_on = (views.data, setup.split, setup.num_left_out)
                made = (views.keys, options.weight_bits, limits)
                return model, Int8Report(*judged_on, *made, tuple(attempts))
            refused = attempt.refused
            added = in_float[-1] if in_float else CLASSIFIER
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
        num_more = len(setup.source.split(TRAIN)) - len(views.keys)
        raise _refusal(f"{views.data} ({setup.split})", closest, limits, num_more)


def _refusal(where: str, closest: Attempt, limits: Limits, num_more: int) -> ModelFileError:
    """Return the error of a network that does not pass.

    Args:
        where: The images.
        closest: The attempt that lost least, judged by all engines.
        limits: What might be lost.
        num_more: Training images that did not calibrate.
    """
    refused = closest.refused
    losses = [verdict.loss for verdict in closest.verdicts if verdict.loss is not None]
    advice = []
    if len(losses) == len(closest.verdicts):
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


def _candidates(
    fp32: ModelProto, views: CalibrationViews, weight_bits: WeightBits
) -> Iterator[tuple[tuple[str, ...], ModelProto]]:
    """Yield int8 networks, each with one more layer in float, and the names of these."""
    layers = layers_of(fp32.graph)
    in_float: list[Layer] = []
    worst: list[Layer] = []
    errors: dict[str, LayerError] = {}
    for number in range(min(len(layers), _MOST_WORST + 2)):
        model = quantized(fp32, views.pixels, in_float=in_float, weight_bits=weight_bits)
        if number == 0:
            # Each is measured on the inputs that the float network gives it, whatever the others are.
            errors = layer_errors(fp32, model, views.pixels[:_CORRECTION_VIEWS], usable_cores())
            worst = sorted(layers[1:], key=lambda layer: -errors[layer.node].share)
        correct_biases(model, errors)
        yield tuple(layer.name for layer in in_float), model
        in_float = [*in_float, layers[0] if number == 0 else worst[number - 1]]


class _Bench:
    """Judges int8 files in the engines of this machine."""

    def __init__(
        self, fp32: Path, test: SelfTest, setup: EvaluationSetup, engines: list[EngineName], limits: Limits
    ) -> None:
        self._fp32, self._test, self._setup, self._engines = fp32, test, setup, engines
        self._gate, self._limits = Gate(setup), limits

    def judged(self, model: ModelProto, *, all_engines: bool = False) -> tuple[EngineVerdict, ...]:
        """Return what the engines make of a network, by default up to the first that does not pass."""
        with tempfile.TemporaryDirectory(prefix="residual-int8-") as scratch:
            folder = Path(scratch)
            onnx.save(model, folder / "model.onnx")
            self._test.write(folder / SELF_TEST)
            verdicts: list[EngineVerdict] = []
            for engine in self._engines:
                verdicts.append(self._verdict(folder, engine))
                if not (verdicts[-1].passes or all_engines):
                    break
            return tuple(verdicts)

    def _verdict(self, folder: Path, engine: EngineName) -> EngineVerdict:
        name, signature = f"{engine} {version_of(engine)}", _signature(folder / "model.onnx", "int8")
        try:
            computing = open_engine(folder, signature, EngineSettings(engine))
        except ModelFileError as error:
            said = error.found.replace(f"{folder}{os.sep}", "")
            return EngineVerdict(name, None, said, excess=math.inf)
        # A file that would fail in its self-test is no candidate.
        difference = Difference.between(self._compute(computing), self._test.logits)
        if not difference.is_within("int8") or difference.agreement < 1:
            off = max(0.0, difference.share("int8") - TOLERANCES["int8"])
            return EngineVerdict(name, None, _off(difference), excess=off + 1 - difference.agreement)
        reference = self._setup.members[0]
        session = ExportedClassifier(
            folder,
            signature,
            EngineSettings(engine, streams=usable_cores()),
            reference.label_names,
            reference.preprocess,
            task=reference.task,
            thresholds=reference.thresholds,
        )
        loss = self._gate.loss(session, name)
        if failure := self._limits.failure(loss):
            return EngineVerdict(name, loss, failure, excess=self._limits.excess(loss))
        return EngineVerdict(name, loss, speed=self._speed(computing))

    def _speed(self, int8: Engine) -> float:
        """Return how many times as fast the int8 file is: one image at a time, one thread, files in turn."""
        signature = _signature(self._fp32, "fp32")
        fp32 = open_engine(self._fp32.parent, signature, EngineSettings(int8.settings.engine))
        return speed_ratio(partial(self._compute, fp32), partial(self._compute, int8))

    def _compute(self, engine: Engine, count: int | None = None) -> NDArray[np.float32]:
        """Compute ``count`` views one by one, over and over; by default each once."""
        views, num_views = self._test.pixels, len(self._test.pixels)
        places = [number % num_views for number in range(count or num_views)]
        return np.concatenate([engine.logits(views[place : place + 1]) for place in places])


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


def _signature(file: Path, kind: Any) -> Signature:
    return Signature("onnx", file.name, sha256_of(file), kind, (), (), {})


def _off(difference: Difference) -> str:
    """Return by how much logits are off that a self-test would refuse."""
    others = round((1 - difference.agreement) * difference.count)
    return (
        f"the logits of {difference.count} clear views are off by {difference.share('int8'):.2g} of their "
        f"deviation (at most {TOLERANCES['int8']:g}), and {others} get another class"
    )
