"""Measure an exported detector against torchvision's of the same weights, an image at a time.

``NETWORK-fpn`` with random weights, scaled so that objects are found, is exported; torchvision's Faster R-CNN
gets the same weights. Each side finds the objects of one photo of 800 × 1,066 px, in memory, decoded and
resized: torchvision from float32, ours from uint8. Rows of int8 and bf16 say how fast these are; what is lost
is told by ``residual export --int8`` and ``evaluate`` of a detector that has learned something::

    python benchmarks/detector_inference.py resnet50 --threads 1 --out benchmarks/results/FILE.json
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torchvision import models
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from deepresidual.backends.detector import TorchDetector
from deepresidual.backends.detector_engine import DetectorEngine, open_detector_engine
from deepresidual.backends.engine import EngineName, EngineSettings
from deepresidual.backends.signature import DETECTOR_CONTRACT, Signature
from deepresidual.benchmarks.measurement import (
    Row,
    in_turn,
    make_result,
    ratio,
    require_alike,
    seconds_of,
)
from deepresidual.cli.output import print_line
from deepresidual.data.bundled_photos import bundled_photos
from deepresidual.errors import MachineError
from deepresidual.exporting.detector import found_by_torch
from deepresidual.exporting.detector_file import write_detector_onnx
from deepresidual.exporting.detector_quantize import QuantizableDetector
from deepresidual.exporting.quantize import prepared
from deepresidual.models import create
from deepresidual.preprocess import Preprocess
from deepresidual.runtime.compute import Precision
from deepresidual.spec import DetectorSpec
from deepresidual.zoo import entry

_SHORTER, _LONGER, _NUM_CLASSES = 800, 1333, 90
_TARGET = 1.5  # of torchvision on AVX-512; the aim is 2
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ENGINES: tuple[EngineName, ...] = ("onnxruntime", "openvino")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("network", nargs="?", default="resnet50")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    rows = measured(given.network, given.threads, given.repetitions)
    for row in rows:
        print_line(f"{row.name}: {row.ours:.3f} images/s, {row.ratio} of torchvision")
    packages = ("torchvision", "onnx", "onnxruntime", "openvino")
    result = make_result("detector inference", rows, given.repetitions, torch.device("cpu"), packages)
    if given.out is not None:
        result.save(given.out)


def measured(network: str, threads: int, repetitions: int) -> list[Row]:
    """Return a row for PyTorch and for each engine, all held against torchvision."""
    model = lively_detector(network)
    photo = next(bundled_photos())[1]
    record = model.preprocess
    rows, columns = record.whole_size(*photo.shape[:2])
    pixels = np.ascontiguousarray(record.center_view(photo)[:rows, :columns])
    theirs = torchvision_side(network, model, pixels)
    expected = found_by_torch(model, pixels)
    require_alike("the number of objects", len(expected), theirs(), 0.02)
    sides: dict[str, Callable[[], object]] = {
        "torchvision": theirs,
        "torch": lambda: found_by_torch(model, pixels),
    }
    with tempfile.TemporaryDirectory(prefix="residual-detector-") as place:
        file = Path(place, "model.onnx")
        write_detector_onnx(model, file)
        write_int8(file, file.with_name("int8.onnx"), pixels, threads)
        for name in _ENGINES:
            engine = _opened(file, name, threads)
            require_alike("the number of objects", len(engine.find(pixels)), len(expected), 0.02)
            sides[name] = partial(engine.find, pixels)
            sides[f"{name}-int8"] = partial(_opened(file.with_name("int8.onnx"), name, threads).find, pixels)
        with contextlib.suppress(MachineError):  # bf16 is not everywhere
            sides["openvino-bf16"] = partial(_opened(file, "openvino", threads, "bf16").find, pixels)
        seconds = in_turn({name: seconds_of(side) for name, side in sides.items()}, repetitions)
    return [_row(network, name, seconds, threads, pixels.shape) for name in sides if name != "torchvision"]


def write_int8(fp32: Path, int8: Path, pixels: NDArray[np.uint8], threads: int) -> None:
    """Write the int8 file of a detector, whose ranges are those of one image."""
    network = QuantizableDetector(prepared(fp32), [pixels], threads)
    onnx.save(network.quantized(), int8)


def _opened(file: Path, name: EngineName, threads: int, precision: Precision = "fp32") -> DetectorEngine:
    signature = Signature("onnx", file.name, "", "fp32", (), (), {}, contract=DETECTOR_CONTRACT)
    settings = EngineSettings(name, threads=threads, precision=precision)
    return open_detector_engine(file.parent, signature, settings)


def _row(
    network: str, name: str, seconds: dict[str, list[float]], threads: int, shape: tuple[int, ...]
) -> Row:
    against = "torchvision eager, float32, the same weights and threads"
    engine, _, kind = name.partition("-")
    row = Row(
        f"{network}-fpn-{name}", f"objects of a photo, {network}-fpn, {engine}, {kind or 'float32'}", against
    )
    return replace(
        row,
        target=None if name == "torch" else _TARGET,
        ratio=ratio(seconds["torchvision"], seconds[name]),
        unit="images/s",
        ours=1 / statistics.median(seconds[name]),
        theirs=1 / statistics.median(seconds["torchvision"]),
        details={"threads": threads, "pixels": list(shape), "seconds": seconds[name]},
    )


def lively_detector(network: str) -> TorchDetector:
    """Return a detector of random weights that finds objects."""
    backbone = replace(entry(network).spec, num_classes=0)
    module = create(DetectorSpec(backbone, num_classes=_NUM_CLASSES), seed=0)
    with torch.no_grad():
        module.roi_heads.box_predictor.cls_score.weight.mul_(100)
    names = tuple(map(str, range(_NUM_CLASSES)))
    record = Preprocess(_LONGER, _SHORTER, _MEAN, _STD, fit="whole")
    return TorchDetector(module.eval(), names, record)


def torchvision_side(network: str, model: TorchDetector, pixels: NDArray[np.uint8]) -> Callable[[], int]:
    """Return what finds the objects with torchvision's detector of the same weights, and counts them."""
    body = models.get_model(network)
    widths = [width * model.spec.backbone.expansion for width in model.spec.backbone.widths]
    stages = {f"layer{number}": str(number - 1) for number in range(1, 5)}
    detector: Any = FasterRCNN(
        BackboneWithFPN(body, stages, widths, model.spec.fpn_channels),
        model.spec.num_classes + 1,
        min_size=_SHORTER,
        max_size=_LONGER,
    )
    detector.load_state_dict(model.network.state_dict())
    detector.eval()
    image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().div(255)

    def find() -> int:
        with torch.inference_mode():
            return len(detector([image])[0]["scores"])

    return find


if __name__ == "__main__":
    main()
