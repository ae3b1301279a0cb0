"""Make a detector int8 and hold its AP against float on held-out images, or refuse.

The predictors stay in float from the beginning, and more layers where too much is lost
(:mod:`.int8_search`). Where that is not enough nothing is written.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from deepresidual.backends.detector_engine import DetectorEngine, open_detector_engine
from deepresidual.backends.detector_self_test import LEAST_SAME_HERE, DetectorSelfTest
from deepresidual.backends.engine import EngineName, EngineSettings
from deepresidual.backends.exported_detector import ExportedDetector
from deepresidual.backends.signature import DETECTOR_CONTRACT, SELF_TEST, Signature
from deepresidual.data.source.base import TRAIN
from deepresidual.errors import ModelFileError
from deepresidual.evaluation.objects import DetectionSetup
from deepresidual.exporting.calibration import calibration_photos
from deepresidual.exporting.detector_file import write_detector_onnx
from deepresidual.exporting.detector_gate import DetectorGate
from deepresidual.exporting.detector_quantize import PREDICTORS, QuantizableDetector
from deepresidual.exporting.detector_views import DetectorViews, views_of_split, whole_view
from deepresidual.exporting.gate import Limits
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
from deepresidual.exporting.quantize import prepared
from deepresidual.runtime.console import note
from deepresidual.runtime.files import sha256_of
from deepresidual.runtime.processes import usable_cores
from deepresidual.runtime.provenance import version_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from onnx import ModelProto

    from deepresidual.backends.detector import TorchDetector
    from deepresidual.exporting.int8_options import Int8Options


@dataclass(frozen=True)
class DetectorInt8Plan:
    """The data that makes a detector int8 and judges it.

    Attributes:
        setup: The detector in PyTorch and the data, opened as ``residual evaluate`` opens them: on the sides
            on which a run had it, without the images that it was trained on.
        options: How.
        to: Format of the file that is to compute.
    """

    setup: DetectionSetup
    options: Int8Options
    to: Int8Target

    @classmethod
    def open(cls, model: TorchDetector | str, options: Int8Options, to: Int8Target) -> Self:
        """Open the data.

        Args:
            model: The detector, or what the user calls it.
            options: How it is made int8.
            to: Format of the file.

        Raises:
            ConfigurationError: The data has training images only.
            DataError: The data cannot be used.
        """
        setup = DetectionSetup.open(model, options.data, split=options.split, device="cpu")
        refuse_training_images(setup.source.name, setup.split)
        return cls(setup, options, to)

    def check_views(self, model: TorchDetector) -> DetectorViews:
        """Return held-out photos for the certificate and the self-test."""
        return views_of_split(model, self.setup)

    def write(self, model: TorchDetector, folder: Path, test: DetectorSelfTest) -> tuple[Path, Int8Report]:
        """Write a file that passes the gate, and return its path.

        Args:
            model: The detector, on the CPU.
            folder: Where to.
            test: An image and what PyTorch finds in it, which every session computes before it is judged.

        Raises:
            DataError: The data has no training images.
            ModelFileError: Too much is lost, whatever is left in float; nothing is written.
        """
        with tempfile.TemporaryDirectory(prefix="residual-int8-") as scratch:
            fp32 = Path(scratch) / "fp32.onnx"
            write_detector_onnx(model, fp32)
            passing, report = self._within_gate(model, fp32, test)
            return write_int8(passing, folder, self.to), report

    def _within_gate(
        self, model: TorchDetector, fp32: Path, test: DetectorSelfTest
    ) -> tuple[ModelProto, Int8Report]:
        setup, options = self.setup, self.options
        engines, count = installed_engines(self.to), len(setup.source.split(setup.split))
        keys: list[str] = []

        def calibrating() -> Iterator[NDArray[np.uint8]]:
            for key, photo in calibration_photos(setup.source, options.calibration_images):
                keys.append(key)
                yield whole_view(photo, model.preprocess)

        num_training = len(setup.source.split(TRAIN)) if TRAIN in setup.source.splits else 0
        note(
            f"int8: {min(options.calibration_images, num_training):,} training images to calibrate, "
            f"{count:,} held-out ones to judge, by {' and '.join(engines)}"
        )
        network = QuantizableDetector(prepared(fp32), calibrating(), usable_cores())
        if not network.examples:
            raise ModelFileError(
                f"the detector finds no object in {len(keys):,} training images of {setup.source.name}",
                remedy="nothing was written; calibrate on images in which it finds objects",
            )
        bits, limits = options.weight_bits, Limits(options.max_loss / 100, options.min_agreement)
        passing, attempts = first_that_passes(
            candidates(
                network.layers,
                lambda in_float: network.quantized(in_float, weight_bits=bits),
                lambda int8: network.errors(int8, usable_cores()),
            ),
            _DetectorBench(fp32, test, setup, engines, limits),
            PREDICTORS if model.spec.masks is not None else PREDICTORS[:-1],
            f"{setup.source.name} ({setup.split})",
            num_training - len(keys),
        )
        judged_on = (setup.source.name, setup.split, setup.num_left_out)
        return passing, Int8Report(*judged_on, tuple(keys), bits, limits, attempts)


class _DetectorBench(Bench):
    """Judges int8 files of a detector."""

    def __init__(
        self,
        fp32: Path,
        test: DetectorSelfTest,
        setup: DetectionSetup,
        engines: list[EngineName],
        limits: Limits,
    ) -> None:
        super().__init__(engines, limits)
        self._fp32, self._test, self._setup, self._gate = fp32, test, setup, DetectorGate(setup)

    def write_self_test(self, folder: Path) -> None:
        """Write the image that every session computes before it is judged."""
        self._test.write(folder / SELF_TEST)

    def verdict(self, folder: Path, engine: EngineName) -> EngineVerdict:
        """Return what an engine makes of a file."""
        name, signature = f"{engine} {version_of(engine)}", _signature(folder / "model.onnx", "int8")
        try:
            computing = open_detector_engine(folder, signature, EngineSettings(engine))
        except ModelFileError as error:
            said = error.found.replace(f"{folder}{os.sep}", "")
            return EngineVerdict(name, None, said, excess=math.inf)
        # A file that would fail in its self-test is no candidate.
        share = self._test.rounded_share(computing.find(self._test.pixels))
        if share < LEAST_SAME_HERE:
            failure = (
                f"{share:.0%} of the sure objects of the self-test are found, at least {LEAST_SAME_HERE:.0%}"
            )
            return EngineVerdict(name, None, failure, excess=1 - share)
        reference = self._setup.model
        session = ExportedDetector(
            folder, signature, (engine,), reference.label_names, reference.preprocess, task=reference.task
        )
        loss, *others = self._gate.losses(session)
        mask_loss = others[0] if others else None
        losses = (loss, *others)
        if failures := [said for each in losses if (said := self.limits.failure(each))]:
            excess = sum(self.limits.excess(each) for each in losses)
            return EngineVerdict(name, loss, "; ".join(failures), excess=excess, mask_loss=mask_loss)
        return EngineVerdict(name, loss, speed=self._speed(computing), mask_loss=mask_loss)

    def _speed(self, int8: DetectorEngine) -> float:
        """Return how many times as fast the int8 file is: one image at a time, one thread, files in turn."""
        signature = _signature(self._fp32, "fp32")
        settings = EngineSettings(int8.settings.engine)
        fp32 = open_detector_engine(self._fp32.parent, signature, settings)
        return speed_ratio(self._computing(fp32), self._computing(int8))

    def _computing(self, engine: DetectorEngine) -> Callable[[int], None]:
        def compute(count: int) -> None:
            for _ in range(count):
                engine.find(self._test.pixels)

        return compute


def _signature(file: Path, kind: Any) -> Signature:
    return Signature("onnx", file.name, sha256_of(file), kind, (), (), {}, contract=DETECTOR_CONTRACT)
