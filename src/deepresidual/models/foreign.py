"""Read a model from a checkpoint of another library, with a certificate that it is the same function."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from deepresidual import zoo
from deepresidual.backends.pytorch import TorchClassifier
from deepresidual.conversion.certificate import certify
from deepresidual.conversion.detect import find_detector, recognize
from deepresidual.conversion.readers import read
from deepresidual.conversion.selection import select_network
from deepresidual.conversion.translation import read_tensors
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.models.fetching import SourceFiles
from deepresidual.models.foreign_detector import read_detector
from deepresidual.models.foreign_record import ForeignModel, Origin
from deepresidual.nn import ResNet, empty_network
from deepresidual.preprocess import Preprocess
from deepresidual.spec import ResNetSpec
from deepresidual.zoo.released import ReleasedWeights


def read_foreign(
    files: SourceFiles,
    name: str | None = None,
    state_dict: str = "",
    release: ReleasedWeights | None = None,
) -> ForeignModel:
    """Read a checkpoint of another library as a model, and compare it with the library's own.

    Args:
        files: The checkpoint.
        name: Name of the network, if the checkpoint does not determine it.
        state_dict: Which weights to take where a PyTorch file holds several.
        release: The released weights that it is, which say network and preprocessing where it does not.

    Raises:
        ModelFileError: It is damaged, hostile, of no known network, or of another one than ``release``.
        MissingDependencyError: A library that the format needs is not installed.
    """
    path = files.path
    whole = read(path, state_dict)
    detector = find_detector(whole, state_dict)
    if detector is not None:
        return read_detector(detector[0], Origin(files, whole, detector[1], release), name)
    selection = select_network(whole, state_dict)
    origin = Origin(files, whole, selection, release)
    checkpoint = selection.checkpoint
    source, recognition = recognize(checkpoint)
    spec = recognition.spec
    if name is not None:
        spec = dataclasses.replace(
            zoo.entry(name).spec, num_classes=spec.num_classes, in_channels=spec.in_channels
        )
    elif release is not None:
        _require_released(release, spec, path)
    translation = source.translation(spec, checkpoint)
    network = empty_network(spec)
    state = network.state_dict()
    network.load_state_dict(read_tensors(translation, checkpoint.tensors, state, str(path)))
    network.eval()
    certificate = certify(network, source, checkpoint, recognition.preprocess.crop_px)
    evidence, assumed = recognition.evidence, recognition.assumed
    if name is not None:
        evidence, assumed = f"{evidence}; taken for {name} as asked", ()
    preprocess = recognition.preprocess
    if release is not None and name is None and "config" not in checkpoint.metadata:
        evidence, assumed = f"{evidence}; released as {release.name}", ()
        preprocess = release.preprocess
    assumed = selection.assumed + assumed
    dropped = origin.dropped(translation.dropped)
    provenance = origin.provenance(source.name, evidence, assumed, dropped, certificate.in_words())
    labels = recognition.label_names or tuple(str(row) for row in range(spec.num_classes))
    return ForeignModel(
        _model(network, labels, preprocess, provenance, path),
        source.name,
        evidence,
        assumed,
        origin.state_dict,
        origin.not_taken,
        origin.beside,
        dropped,
        certificate,
    )


def _model(
    network: ResNet, labels: tuple[str, ...], preprocess: Preprocess, provenance: dict[str, Any], path: Path
) -> TorchClassifier:
    try:
        return TorchClassifier(network, labels, preprocess, provenance=provenance)
    except ConfigurationError as error:
        raise ModelFileError(f"{path}: {error}") from error


def _require_released(release: ReleasedWeights, spec: ResNetSpec, path: Path) -> None:
    """Refuse a file that is not of the network of these released weights."""
    known = release.network in zoo.list_models()
    if (known and zoo.name_of(spec) != release.network) or spec.num_classes != release.num_classes:
        found = f"{zoo.name_of(spec) or 'another network'} with {spec.num_classes:,} classes"
        raise ModelFileError(
            f"{path} is {found}", expected=f"{release.network} with {release.num_classes:,} as {release.name}"
        )
