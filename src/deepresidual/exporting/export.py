"""``export``: from a model to a folder that other engines run, checked before it is there."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, assert_never, cast, get_args

from deepresidual import zoo
from deepresidual.backends.detector import TorchDetector
from deepresidual.backends.engine import ENGINES, EngineSettings
from deepresidual.backends.exported import ExportedClassifier
from deepresidual.backends.pytorch import TorchClassifier
from deepresidual.backends.signature import (
    LABELS,
    OWN_FILES,
    SELF_TEST,
    SIGNATURE,
    Signature,
    Tensor,
    files_of,
)
from deepresidual.backends.thresholds import MULTILABEL
from deepresidual.errors import ConfigurationError, MissingDependencyError, ModelFileError, listed, quoted
from deepresidual.exporting.card import export_card
from deepresidual.exporting.certificate import ExportCertificate, certify, reference_logits, self_test_of
from deepresidual.exporting.onnx_file import write_onnx
from deepresidual.exporting.openvino_file import write_openvino
from deepresidual.exporting.program_file import program_logits, write_program
from deepresidual.exporting.repository import FORMATS, lay_out, served_name, server_of
from deepresidual.exporting.views import bundled_views, held_out_views, own_views
from deepresidual.models import load_network, require_classes
from deepresidual.models.config import ModelConfig
from deepresidual.models.folder import CARD
from deepresidual.models.source import CONFIG, is_exported, served_models
from deepresidual.runtime.files import atomic_folder, expanded, sha256_of, write_json, write_text
from deepresidual.runtime.printable import printable
from deepresidual.runtime.processes import usable_cores

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from deepresidual.backends.signature import ExportFormat
    from deepresidual.data.source import SampleSource
    from deepresidual.data.source.dataset import Dataset
    from deepresidual.exporting.detector import DetectionCertificate
    from deepresidual.exporting.detector_int8 import DetectorInt8Plan
    from deepresidual.exporting.int8 import Int8Plan
    from deepresidual.exporting.int8_options import Int8Options
    from deepresidual.exporting.int8_report import Int8Report
    from deepresidual.exporting.views import CheckViews

Target: TypeAlias = Literal["onnx", "openvino", "pt2", "triton", "ovms"]
Resize: TypeAlias = Literal["exact", "fast", "none"]

_SUFFIXES_OF_FILES = frozenset(
    f".{name}"
    for name in (
        "onnx", "ort", "xml", "bin", "pt2", "pt", "pth", "ts", "torchscript", "engine", "plan", "trt",
        "tflite", "pb", "mlmodel", "mlpackage", "pte", "npz", "json", "zip", "safetensors", "h5", "keras",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes:
        path: The folder.
        signature: What its ``signature.json`` says.
        certificate: How its logits, or the objects that it finds, were held against PyTorch's.
        num_bytes: Size of the file that computes.
        int8: How it was made int8 and judged; ``None``: it is float.
    """

    path: Path
    signature: Signature
    certificate: ExportCertificate | DetectionCertificate
    num_bytes: int
    int8: Int8Report | None = None


def export(
    model: TorchClassifier | TorchDetector | str | Path,
    out: str | Path,
    *,
    to: Target = "onnx",
    resize: Resize = "exact",
    int8: Int8Options | None = None,
    data: SampleSource | Dataset | str | Path | None = None,
    split: str | None = None,
) -> Export:
    """Write a model as a folder that another engine runs, whole or not at all; one at ``out`` is replaced.

    Args:
        model: A model, a detector too, or what :func:`deepresidual.load` takes, but what is exported already.
        out: The folder.
        to: Format of the file that computes; ``triton`` and ``ovms`` for a repository with an exported model
            that Triton Inference Server or OpenVINO Model Server reads.
        resize: Resize of ``model-image.onnx``, a second file, which takes a whole image: Pillow's to the
            bit, one node that is within two levels of it, or no such file.
        int8: Make it int8, calibrated and judged on this data. Default: float32.
        data: Data on whose images the file is compared with PyTorch. Default: that of ``int8``, or of a run
            its own; else two photos that come with scikit-learn.
        split: The split of it. Default: ``test`` if there is one, else ``val``.

    Returns:
        What was written, with its certificate.

    Raises:
        ConfigurationError: There is something else at ``out``, or it is called like a file, or there is no
            such format.
        DataError: The data cannot be used.
        ModelFileError: The model cannot be loaded, has no classifier, or the exported file computes other
            logits than PyTorch, or loses too much as int8: nothing is written then.
        MissingDependencyError: A library that writes or runs the format is not installed.
        RunError: The folder cannot be written.
    """
    for name, value, allowed in (("to", to, Target), ("resize", resize, Resize)):
        if value not in get_args(allowed):
            raise ConfigurationError(
                f"{name} is {value!r}", expected=f"one of {', '.join(get_args(allowed))}"
            )
    if int8 is not None and data is not None:
        raise ConfigurationError("data is given beside int8, which has its own", expected="one of them")
    if split is not None and data is None:
        raise ConfigurationError("split is given without data", expected="both, or neither")
    path, server = expanded(out), server_of(to)
    if path.suffix.lower() in _SUFFIXES_OF_FILES:
        raise ConfigurationError(
            f"{printable(str(out))} is called like a file, and what is exported is a folder",
            expected=f"a name such as {quoted(f'{path.stem}-{to}')}",
        )
    require_free_or_exported(path)
    loaded = load_network(model) if isinstance(model, str | Path) else model
    given = str(model) if isinstance(model, str | Path) else ""
    if isinstance(loaded, TorchDetector):
        return _detector(loaded, path, given, to, resize, int8, data, split)
    model = model if isinstance(model, str | Path) else loaded
    require_classes(loaded, given or "the model")
    loaded = loaded.to("cpu").in_precision("fp32")
    form = cast("ExportFormat", to) if server is None else FORMATS[server]
    plan = None if int8 is None else _int8_plan(model, int8, form)
    if plan is not None:
        views = plan.check_views()
    elif data is not None:
        views = held_out_views(model, data, split)
    else:
        views = own_views(given) or bundled_views(loaded.preprocess)
    if to != "onnx":
        resize = "none"  # only an ONNX file has one beside it that takes a whole image
    num_files = 1 if resize == "none" else 2
    with atomic_folder(path, num_bytes=num_files * 4 * loaded.spec.num_parameters) as folder:
        if server is None:
            return _written(loaded, folder, given, path, views, form, resize, plan)
        served = folder / served_name(model, zoo.name_of(loaded.spec) or "classifier")
        served.mkdir()
        done = _written(loaded, served, given, path, views, form, resize, plan)
        return dataclasses.replace(done, signature=lay_out(server, served, done.signature))


def _detector(
    model: TorchDetector,
    path: Path,
    given: str,
    to: Target,
    resize: Resize,
    int8: Int8Options | None,
    data: SampleSource | Dataset | str | Path | None,
    split: str | None,
) -> Export:
    """Export a detector."""
    from deepresidual.exporting.detector import write_detector
    from deepresidual.exporting.detector_views import check_views

    server = server_of(to)
    form = cast("ExportFormat", to) if server is None else FORMATS[server]
    if form == "pt2":
        raise ConfigurationError(
            "a detector is to be exported to pt2", expected="onnx, openvino, triton or ovms"
        )
    if resize == "fast":
        raise ConfigurationError(
            "resize is 'fast' for a detector, whose file takes images of any size", remedy="leave it out"
        )
    multiple, stride = model.spec.size_divisor, max(model.spec.backbone.stage_strides)
    if model.spec.neck == "fpn" and multiple is not None and multiple % stride:
        raise ModelFileError(
            f"the detector pads images to multiples of {multiple} px, and its largest stride is {stride}",
            expected=f"a multiple of {stride}: maps of whole pixels, of which exported pyramids are made",
        )
    model = model.to("cpu").in_precision("fp32")
    plan = None if int8 is None else _detector_plan(given or model, int8, form)
    views = check_views(model, given, data, split) if plan is None else plan.check_views(model)
    with atomic_folder(path, num_bytes=4 * model.spec.num_parameters) as folder:
        within = folder
        if server is not None:
            within = folder / served_name(given or model, zoo.name_of(model.spec) or "detector")
            within.mkdir()
        done = write_detector(model, within, given, views, form, plan)
        signature = done.signature if server is None else lay_out(server, within, done.signature)
        return Export(path, signature, done.certificate, done.num_bytes, done.int8)


def require_free_or_exported(path: Path) -> None:
    """Refuse a destination that holds something other than an exported model, or a repository of one.

    Raises:
        ConfigurationError: There is something else at ``path``.
    """
    if not path.exists() or (path.is_dir() and (is_exported(path) or not any(path.iterdir()))):
        return
    served = served_models(path) if path.is_dir() else []
    if not served:
        raise ConfigurationError(f"{path} exists and is no exported model", remedy="choose another path")
    others = {entry.name for entry in path.iterdir()} - {CARD, CONFIG, served[0].name}
    if others:
        raise ConfigurationError(
            f"{path} is a repository that holds {listed(sorted(others))} as well",
            expected="one exported model, which would be replaced",
            remedy="export to another path, and move the folder of the model into the repository",
        )


def _int8_plan(model: TorchClassifier | str | Path, options: Int8Options, to: ExportFormat) -> Int8Plan:
    if to == "pt2":
        raise ConfigurationError(
            "int8 is asked for in the format pt2", expected="onnx, openvino, triton or ovms"
        )
    with _needing_onnx():
        from deepresidual.exporting.int8 import Int8Plan
    return Int8Plan.open(model, options, to)


def _detector_plan(
    model: TorchDetector | str, options: Int8Options, to: Literal["onnx", "openvino"]
) -> DetectorInt8Plan:
    with _needing_onnx():
        from deepresidual.exporting.detector_int8 import DetectorInt8Plan
    return DetectorInt8Plan.open(model, options, to)


@contextlib.contextmanager
def _needing_onnx() -> Iterator[None]:
    """Name the extra where an import fails."""
    try:
        yield
    except ImportError as error:
        raise MissingDependencyError.of_extra(
            f"int8 needs {error.name}, which is not installed", "onnx"
        ) from error


def _written(
    model: TorchClassifier,
    folder: Path,
    given: str,
    path: Path,
    views: CheckViews,
    to: ExportFormat,
    resize: Resize,
    plan: Int8Plan | None,
) -> Export:
    """Fill the folder in the order in which the parts are checked, the signature last."""
    reference = reference_logits(model, views)
    test = self_test_of(views, reference, model.num_macs(model.preprocess.crop_px))
    if plan is None:
        file, report = _write_file(model, folder, to), None
    else:
        file, report = plan.write(model, folder, test)
    write_json(folder / CONFIG, ModelConfig.of(model).to_document())
    write_text(folder / LABELS, "".join(f"{printable(name)}\n" for name in model.label_names))
    test.write(folder / SELF_TEST)
    signature = Signature(
        to,
        file.name,
        "",
        "fp32" if report is None else "int8",
        inputs_of(model),
        outputs_of(model),
        certificate={},
        quantization={} if report is None else report.quantization(),
        files={name: sha256_of(folder / name) for name in OWN_FILES},
        exported_from={"model": given, "weights_sha256": model.weights_sha256()},
    )
    parts = files_of(folder, signature)
    signature = dataclasses.replace(signature, sha256=sha256_of(*parts))
    certificate = _certified(model, folder, signature, views, reference)
    gate = {} if report is None else {"gate": report.gate()}
    signature = dataclasses.replace(signature, certificate=certificate.to_dict() | gate)
    if resize != "none":
        from deepresidual.exporting.image_file import write_image_file

        image_input = write_image_file(file, model.preprocess, resize)
        files = signature.files | {image_input["file"]: sha256_of(folder / image_input["file"])}
        signature = dataclasses.replace(signature, files=files, image_input=image_input)
    write_json(folder / SIGNATURE, signature.to_dict())
    write_text(folder / CARD, export_card(ModelConfig.of(model), signature))
    return Export(path, signature, certificate, sum(part.stat().st_size for part in parts), report)


def _write_file(model: TorchClassifier, folder: Path, to: ExportFormat) -> Path:
    """Write the float file that computes, and return its path."""
    match to:
        case "onnx":
            write_onnx(model, folder / "model.onnx")
            return folder / "model.onnx"
        case "openvino":
            write_openvino(model, folder / "model.xml")
            return folder / "model.xml"
        case "pt2":
            write_program(model, folder / "model.pt2")
            return folder / "model.pt2"
        case _:
            assert_never(to)


def _certified(
    model: TorchClassifier,
    folder: Path,
    signature: Signature,
    views: CheckViews,
    reference: NDArray[np.float32],
) -> ExportCertificate:
    """Open the file as ``load`` will, self-test included, and hold its logits against PyTorch's."""
    settings = EngineSettings(ENGINES[signature.format][0], streams=usable_cores())
    session = ExportedClassifier(
        folder, signature, settings, model.label_names, model.preprocess, task=model.task
    )
    engine = f"{settings.engine} {session.engine_version()}"
    if signature.format == "pt2":
        # The session computes with the weights in the file; its graph is what others run.
        program = folder / signature.file
        certify(lambda pixels: program_logits(program, pixels), views, reference, f"{engine}, the program")
    return certify(session.logits, views, reference, engine, signature.precision)


def inputs_of(model: TorchClassifier) -> tuple[Tensor, ...]:
    """Return what goes into the file."""
    side = model.preprocess.crop_px
    shape = ("batch", side, side, model.preprocess.num_channels)
    return (Tensor("pixels", "uint8", shape, f"views of images, {model.preprocess.channels}; see contract"),)


def outputs_of(model: TorchClassifier) -> tuple[Tensor, ...]:
    """Return what comes out of the file."""
    shape = ("batch", len(model.label_names))
    several = model.task == MULTILABEL
    meaning = "sigmoid of the logits, each label for itself" if several else "softmax of the logits"
    return (
        Tensor("probabilities", "float32", shape, f"{meaning}; in the order of labels.txt"),
        Tensor("logits", "float32", shape, "outputs of the last layer"),
    )
