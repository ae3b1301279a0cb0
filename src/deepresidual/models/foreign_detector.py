"""Read and write detectors of other libraries, with a certificate that both find the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from deepresidual.backends.detector import TorchDetector
from deepresidual.conversion.batch_norm_eps import with_eps
from deepresidual.conversion.detections_certificate import DetectionsCertificate, certify_detections
from deepresidual.conversion.detector_ecosystem import (
    DetectorEcosystem,
    ExportedDetector,
    RecognizedDetector,
)
from deepresidual.conversion.readers import read
from deepresidual.conversion.translation import read_tensors
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.models.foreign_record import ForeignModel, Origin
from deepresidual.runtime.files import make_folder
from deepresidual.zoo.released import find_release, list_released


def read_detector(source: DetectorEcosystem, origin: Origin, name: str | None) -> ForeignModel:
    """Read a detector as a model, and compare what it finds with the library's own.

    Args:
        source: The library.
        origin: The checkpoint, and which part of it is the detector.
        name: Released weights that these are, or were trained from, where the user says so.

    Raises:
        ModelFileError: It is damaged, or of no detector that Residual has, or of another one than the
            released weights that it should be.
        ConfigurationError: There are no released weights of a detector with this name.
    """
    from deepresidual.nn.detection import empty_detector

    path, checkpoint = origin.files.path, origin.selection.checkpoint
    release = origin.release
    recognized = source.recognize(
        checkpoint, _released_name(source, name) or (release.name if release else "")
    )
    if recognized is None:
        raise ModelFileError(f"{path} holds a part of a detector of {source.name}", expected="all of it")
    spec = recognized.spec
    if release is not None and (spec.num_parameters, spec.num_classes) != (
        release.num_parameters,
        release.num_classes,
    ):
        raise ModelFileError(
            f"{path} is a detector of {spec.num_classes} classes with {spec.num_parameters:,} parameters",
            expected=f"{release.num_classes} and {release.num_parameters:,} as {release.name}",
        )
    network = empty_detector(spec)
    translation = source.translation(spec, checkpoint)
    state = read_tensors(translation, checkpoint.tensors, network.state_dict(), str(path))
    network.load_state_dict(with_eps(state, recognized.bn_eps, spec.backbone.bn_eps, str(path)))
    network.eval()
    certificate = certify_detections(network, source, checkpoint, recognized)
    evidence, assumed = recognized.evidence, (*origin.selection.assumed, *recognized.assumed)
    if name is not None:
        evidence = f"{evidence}; trained from {name}, as said"
    elif release is not None:
        evidence, assumed = f"{evidence}; released as {release.name}", origin.selection.assumed
    dropped = origin.dropped(translation.dropped)
    provenance = origin.provenance(source.name, evidence, assumed, dropped, certificate.in_words())
    labels = recognized.label_names or tuple(str(row) for row in range(spec.num_classes))
    try:
        model = TorchDetector(network, labels, recognized.preprocess, provenance=provenance)
    except ConfigurationError as error:
        raise ModelFileError(f"{path}: {error}") from error
    return ForeignModel(
        model,
        source.name,
        evidence,
        assumed,
        origin.state_dict,
        origin.not_taken,
        origin.beside,
        dropped,
        certificate,
    )


def _released_name(source: DetectorEcosystem, name: str | None) -> str:
    """Return the full name of the weights of a detector that a user names.

    Raises:
        ConfigurationError: There are none of this name.
    """
    if name is None or not source.has_releases:
        return name or ""
    release = find_release(name)
    if release is None or not release.detects:
        raise ConfigurationError(
            f"the file is a detector, and --model is {name}",
            expected=f"released weights that it was trained from: {', '.join(list_released('*rcnn*'))}",
            remedy="leave out --model",
        )
    return release.name


def write_detector(
    target: DetectorEcosystem, model: TorchDetector, path: Path
) -> tuple[DetectionsCertificate, str]:
    """Write a detector for another library, read it back to the bit, and compare what it finds there.

    All of that beside the destination, which comes to be only when it has ended well.

    Returns:
        The certificate, and the call that builds the library's network.

    Raises:
        ConfigurationError: The library has no such detector.
        ModelFileError: It finds other objects there.
        RunError: The path cannot be written.
    """
    state = model.network.state_dict()
    make_folder(path.parent)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        written = Path(folder) / path.name
        target.write(ExportedDetector(model.spec, state, model.preprocess, model.label_names), written)
        checkpoint = read(written)
        translation = target.translation(model.spec, checkpoint)
        back = read_tensors(translation, checkpoint.tensors, state, str(path))
        lost = [name for name in back if not torch.equal(back[name], state[name])]
        if lost:
            raise ModelFileError(f"{path}: {lost[0]} came back changed, which is a defect of Residual")
        here = RecognizedDetector(
            model.spec, "", model.preprocess, model.label_names, bn_eps=model.spec.backbone.bn_eps
        )
        certificate = certify_detections(model.network, target, checkpoint, here)
        written.rename(path)
    return certificate, target.to_load(model.spec)
