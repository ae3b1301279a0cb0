"""Export a detector: a folder whose file finds the same objects as PyTorch, or no folder."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from deepresidual.backends.classifier import NOT_FINITE, NOT_FINITE_REMEDY
from deepresidual.backends.detection_difference import LEAST_SAME, DetectionDifference
from deepresidual.backends.detector_engine import open_detector_engine
from deepresidual.backends.detector_self_test import ROUNDED_GAP, DetectorSelfTest
from deepresidual.backends.engine import ENGINES, EngineSettings
from deepresidual.backends.exported_detector import ExportedDetector
from deepresidual.backends.signature import (
    DETECTOR_CONTRACT,
    LABELS,
    OWN_FILES,
    SELF_TEST,
    SIGNATURE,
    Signature,
    Tensor,
    files_of,
)
from deepresidual.data.augment import center_choice, window_of
from deepresidual.errors import ModelFileError
from deepresidual.exporting.card import detector_card
from deepresidual.exporting.detector_file import write_detector_onnx
from deepresidual.models.config import ModelConfig
from deepresidual.models.folder import CARD
from deepresidual.models.source import CONFIG
from deepresidual.runtime.files import sha256_of, write_json, write_text
from deepresidual.runtime.printable import printable
from deepresidual.runtime.processes import usable_cores
from deepresidual.runtime.provenance import now, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from deepresidual.backends.detector import TorchDetector
    from deepresidual.backends.object_detector import FoundInView
    from deepresidual.backends.signature import ExportFormat, FileKind
    from deepresidual.exporting.detector_int8 import DetectorInt8Plan
    from deepresidual.exporting.detector_views import DetectorViews
    from deepresidual.exporting.int8_report import Int8Report

# Of the image of the self-test, which is made smaller for that: half a second.
_SELF_TEST_MACS = 2e10
_STEPS = (1, 2, 3, 4, 6, 8)
_CLEAR = 0.75  # share of the objects of a smaller image that are clear


@dataclass(frozen=True)
class DetectionCertificate:
    """How an exported detector was held against PyTorch.

    Attributes:
        engine: What computed the file, with its version.
        reference: What it was held against, with its version.
        images: Where the photos come from.
        names: What each is called.
        difference: How the objects differ.
        made: When, in UTC.
    """

    engine: str
    reference: str
    images: str
    names: tuple[str, ...]
    difference: DetectionDifference
    made: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; those of the difference among them."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return own | {"names": list(self.names), "difference": dataclasses.asdict(self.difference)}


@dataclass(frozen=True)
class WrittenDetector:
    """What was written of a detector.

    Attributes:
        signature: What its ``signature.json`` says.
        certificate: How what it finds was held against PyTorch's.
        num_bytes: Size of the file that computes.
        int8: How it was made int8 and judged; ``None``: it is float.
    """

    signature: Signature
    certificate: DetectionCertificate
    num_bytes: int
    int8: Int8Report | None = None


def write_detector(
    model: TorchDetector,
    folder: Path,
    given: str,
    views: DetectorViews,
    to: ExportFormat,
    plan: DetectorInt8Plan | None = None,
) -> WrittenDetector:
    """Fill the folder of an exported detector as its parts are checked, the signature last.

    Args:
        model: The detector, on the CPU in float32.
        folder: The folder.
        given: What the user calls it.
        views: Photos to check it with.
        to: Format of the file.
        plan: How it becomes int8. Default: it stays float32.

    Raises:
        ModelFileError: Nothing is found in the photos, or the file finds other objects than PyTorch, or loses
            too much as int8.
    """
    reference = [found_by_torch(model, pixels) for pixels in views.pixels]
    if not any(map(len, reference)):
        raise ModelFileError(
            f"the detector finds no object in {len(reference)} photos ({views.source}), so nothing of its "
            "file could be checked",
            remedy="name data in whose photos it finds objects: --data DATA",
        )
    test, report = None, None
    if plan is None:
        file = _write_file(model, folder, to)
    else:
        test = int8_self_test_of(model, views, reference)
        file, report = plan.write(model, folder, test)
    config = ModelConfig.of(model)
    write_json(folder / CONFIG, config.to_document())
    write_text(folder / LABELS, "".join(f"{printable(name)}\n" for name in model.label_names))
    signature = Signature(
        to,
        file.name,
        "",
        "fp32" if report is None else "int8",
        (_input(model),),
        _outputs(model),
        certificate={},
        quantization={} if report is None else report.quantization(),
        contract=DETECTOR_CONTRACT,
        exported_from={"model": given, "weights_sha256": model.weights_sha256()},
    )
    settings = EngineSettings(ENGINES[to][0], threads=usable_cores())
    engine = open_detector_engine(folder, signature, settings)
    found = [engine.find(pixels) for pixels in views.pixels]
    engine_name = f"{settings.engine} {engine.version}"
    certificate = certify(found, reference, views, engine_name, signature.precision)
    test = test or self_test_of(model, views, reference, found, engine.find)
    test.write(folder / SELF_TEST)
    gate = {} if report is None else {"gate": report.gate()}
    parts = files_of(folder, signature)
    signature = dataclasses.replace(
        signature,
        sha256=sha256_of(*parts),
        files={name: sha256_of(folder / name) for name in OWN_FILES},
        certificate=certificate.to_dict() | gate,
    )
    # Opened once more as ``load`` will, self-test included.
    ExportedDetector(folder, signature, ENGINES[to][:1], model.label_names, model.preprocess).session()
    write_json(folder / SIGNATURE, signature.to_dict())
    write_text(folder / CARD, detector_card(config, signature))
    return WrittenDetector(signature, certificate, sum(part.stat().st_size for part in parts), report)


def certify(
    found: Sequence[FoundInView],
    reference: Sequence[FoundInView],
    views: DetectorViews,
    engine: str,
    precision: FileKind = "fp32",
) -> DetectionCertificate:
    """Compare what the session finds with what PyTorch finds.

    An int8 file is judged by its gate, on images with boxes; here its difference is only recorded.

    Args:
        found: What the session finds in each photo.
        reference: What PyTorch finds.
        views: The photos.
        engine: Name and version of what computes.
        precision: Precision of the file.

    Raises:
        ModelFileError: Fewer than :data:`LEAST_SAME` are the same: the file would be another detector.
    """
    difference = DetectionDifference.between(found, reference)
    if precision != "int8" and not difference.is_within():
        raise ModelFileError(
            f"the exported file is not the same detector: computed by {engine}, {difference.summary()}",
            expected=f"at least {LEAST_SAME:.0%} the same; nothing was written",
        )
    torch = f"PyTorch {version_of('torch')}, float32"
    return DetectionCertificate(engine, torch, views.source, views.names, difference, now())


def found_by_torch(model: TorchDetector, pixels: NDArray[np.uint8]) -> FoundInView:
    """Return what PyTorch finds in ``(height, width, C)`` uint8, as it is.

    Raises:
        ModelFileError: The network gives NaN or infinity.
    """
    height, width = pixels.shape[:2]
    side = max(height, width)
    # As large as the image, which then is not resized.
    record = dataclasses.replace(model.preprocess, crop_px=side, resize_px=min(height, width))
    canvas = np.zeros((1, side, side, pixels.shape[2]), np.uint8)
    canvas[0, :height, :width] = pixels
    window = window_of(center_choice(record, height, width), height, width, record, side)
    (found,) = model.with_preprocess(record).find(canvas, [window])
    if found is None:
        raise ModelFileError(NOT_FINITE, remedy=NOT_FINITE_REMEDY)
    return found


def self_test_of(
    model: TorchDetector,
    views: DetectorViews,
    reference: Sequence[FoundInView],
    found: Sequence[FoundInView],
    find: Callable[[NDArray[np.uint8]], FoundInView],
) -> DetectorSelfTest:
    """Choose the image that a session computes before its first answer.

    It is that with the most objects of those in which both find the same: what is decided by the last digits
    would fail on other machines. It is made smaller, which the file takes, if both find the same in that.

    Args:
        model: The detector.
        views: The photos.
        reference: What PyTorch finds in them.
        found: What the session finds in them.
        find: The session.
    """
    agree = [
        DetectionDifference.between([own], [other]).share for own, other in zip(found, reference, strict=True)
    ]
    best = max(
        range(len(agree)), key=lambda place: (len(reference[place]) > 0, agree[place], len(reference[place]))
    )
    pixels = views.pixels[best]
    for step in _STEPS:
        small = np.ascontiguousarray(pixels[::step, ::step])
        if model.spec.num_macs(max(small.shape[:2])) <= _SELF_TEST_MACS:
            expected = found_by_torch(model, small)
            if len(expected) and DetectionDifference.between([find(small)], [expected]).share == 1:
                return DetectorSelfTest(small, expected)
    return DetectorSelfTest(pixels, reference[best])


def int8_self_test_of(
    model: TorchDetector, views: DetectorViews, reference: Sequence[FoundInView]
) -> DetectorSelfTest:
    """Choose the image that an int8 session computes before its first answer.

    It is that with the most objects whose score is far from where they begin to count: what is rounded does
    not change which these are, what is wrong does. It is made smaller if the surest object stays as sure.

    Args:
        model: The detector.
        views: The photos.
        reference: What PyTorch finds in them.
    """

    def clearness(found: FoundInView) -> tuple[float, int]:
        best = float(found.scores.max(initial=0))
        num_clear = int((found.scores >= best / 2 + ROUNDED_GAP).sum())
        num_doubtful = int((np.abs(found.scores - best / 2) < ROUNDED_GAP).sum())
        return num_clear / max(1, num_clear + num_doubtful), num_clear

    place = max(range(len(reference)), key=lambda each: clearness(reference[each]))
    pixels, expected = views.pixels[place], reference[place]
    for step in _STEPS:
        small = np.ascontiguousarray(pixels[::step, ::step])
        if model.spec.num_macs(max(small.shape[:2])) <= _SELF_TEST_MACS:
            found = found_by_torch(model, small)
            if clearness(found) >= (_CLEAR, 1):
                return DetectorSelfTest(small, found)
    return DetectorSelfTest(pixels, expected)


def _write_file(model: TorchDetector, folder: Path, to: ExportFormat) -> Path:
    """Write the file that computes, and return its path."""
    if to == "openvino":
        from deepresidual.exporting.openvino_file import write_by_onnx

        path = folder / "model.xml"
        write_by_onnx(path, lambda onnx: write_detector_onnx(model, onnx))
        return path
    write_detector_onnx(model, folder / "model.onnx")
    return folder / "model.onnx"


def _input(model: TorchDetector) -> Tensor:
    shape = ("height", "width", model.preprocess.num_channels)
    return Tensor("pixels", "uint8", shape, f"one whole image, {model.preprocess.channels}; see contract")


def _outputs(model: TorchDetector) -> tuple[Tensor, ...]:
    px = model.spec.mask_px
    outputs = [
        Tensor("boxes", "float32", ("objects", 4), "left, top, right, bottom in pixels of the input"),
        Tensor("labels", "int64", ("objects",), "the class of each, from 0, in the order of labels.txt"),
        Tensor("scores", "float32", ("objects",), "how sure it is, 0 to 1; the surest first"),
    ]
    if model.spec.masks is not None:
        meaning = "how likely each cell of a box is the object's, 0 to 1; from 0.5 on it is"
        outputs.append(Tensor("masks", "float32", ("objects", px, px), meaning))
    return tuple(outputs)
