"""Make a model int8 and hold it against float on held-out images, or refuse.

The classifier stays in float from the beginning, and more layers where too much is lost
(:mod:`.int8_search`). Where that is not enough nothing is written.
"""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from deepresidual.backends.engine import Engine, EngineName, EngineSettings, open_engine
from deepresidual.backends.exported import ExportedClassifier
from deepresidual.backends.self_test import TOLERANCES, Difference
from deepresidual.backends.signature import SELF_TEST, Signature
from deepresidual.data.source.base import TRAIN
from deepresidual.errors import ModelFileError
from deepresidual.evaluation import EvaluationSetup
from deepresidual.exporting.calibration import calibration_views
from deepresidual.exporting.gate import Gate, Limits
from deepresidual.exporting.int8_options import Int8Options
from deepresidual.exporting.int8_report import EngineVerdict, Int8Report
from deepresidual.exporting.int8_search import (
    Bench,
    Int8Target,
    candidates,
    first_that_passes,
    installed_engines,
    refuse_training_images,
    speed_ratio,
    write_int8,
)
from deepresidual.exporting.layer_errors import layer_errors
from deepresidual.exporting.onnx_file import write_onnx
from deepresidual.exporting.quantize import layers_of, prepared, quantized
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

CLASSIFIER = "fc"
# Means over 64 views and all positions are exact to a hundredth of what is corrected.
_CORRECTION_VIEWS = 64


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
        refuse_training_images(setup.source.name, setup.split)
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
            fp32 = Path(scratch) / "fp32.onnx"
            write_onnx(model, fp32)
            passing, report = self._within_gate(fp32, test)
            return write_int8(passing, folder, self.to), report

    def _within_gate(self, fp32: Path, test: SelfTest) -> tuple[ModelProto, Int8Report]:
        setup, options = self.setup, self.options
        engines, count = installed_engines(self.to), len(setup.samples(setup.split))
        views = calibration_views(setup.source, setup.members[0].preprocess, options.calibration_images)
        note(
            f"int8: {len(views.keys):,} training images to calibrate, {count:,} held-out ones to judge, "
            f"by {' and '.join(engines)}"
        )
        limits = Limits(options.max_loss / 100, options.min_agreement)
        network, bits = prepared(fp32), options.weight_bits
        networks = candidates(
            layers_of(network.graph),
            lambda in_float: quantized(network, views.pixels, in_float=in_float, weight_bits=bits),
            lambda model: layer_errors(network, model, views.pixels[:_CORRECTION_VIEWS], usable_cores()),
        )
        num_more = len(setup.source.split(TRAIN)) - len(views.keys)
        model, attempts = first_that_passes(
            networks,
            _Bench(fp32, test, setup, engines, limits),
            (CLASSIFIER,),
            f"{views.data} ({setup.split})",
            num_more,
        )
        judged_on = (views.data, setup.split, setup.num_left_out)
        return model, Int8Report(*judged_on, views.keys, bits, limits, attempts)


class _Bench(Bench):
    """Judges int8 files of a classifier."""

    def __init__(
        self, fp32: Path, test: SelfTest, setup: EvaluationSetup, engines: list[EngineName], limits: Limits
    ) -> None:
        super().__init__(engines, limits)
        self._fp32, self._test, self._setup, self._gate = fp32, test, setup, Gate(setup)

    def write_self_test(self, folder: Path) -> None:
        """Write the views that every session computes before it is judged."""
        self._test.write(folder / SELF_TEST)

    def verdict(self, folder: Path, engine: EngineName) -> EngineVerdict:
        """Return what an engine makes of a file."""
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
        if failure := self.limits.failure(loss):
            return EngineVerdict(name, loss, failure, excess=self.limits.excess(loss))
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


def _signature(file: Path, kind: Any) -> Signature:
    return Signature("onnx", file.name, sha256_of(file), kind, (), (), {})


def _off(difference: Difference) -> str:
    """Return by how much logits are off that a self-test would refuse."""
    others = round((1 - difference.agreement) * difference.count)
    return (
        f"the logits of {difference.count} clear views are off by {difference.share('int8'):.2g} of their "
        f"deviation (at most {TOLERANCES['int8']:g}), and {others} get another class"
    )
