"""Convert a checkpoint of another library into a model folder, or the other way.

Both ways end with a certificate: the two implementations see the same images, and their logits are compared.
"""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deepresidual import zoo
from deepresidual.backends.detector import TorchDetector
from deepresidual.backends.pytorch import TorchClassifier
from deepresidual.backends.thresholds import MULTILABEL
from deepresidual.conversion.certificate import Certificate, certify
from deepresidual.conversion.detect import detector_ecosystem, ecosystem
from deepresidual.conversion.detections_certificate import DetectionsCertificate
from deepresidual.conversion.ecosystem import Ecosystem, Exported
from deepresidual.conversion.readers import read
from deepresidual.conversion.translation import read_tensors
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.models.change import changed
from deepresidual.models.fetching import fetch_source
from deepresidual.models.folder import Model, load_folder, require_free_or_model, save
from deepresidual.models.foreign import read_foreign
from deepresidual.models.foreign_detector import write_detector
from deepresidual.models.foreign_record import ForeignModel
from deepresidual.models.source import find_source, is_model_folder
from deepresidual.runtime.files import expanded, make_folder
from deepresidual.zoo.detectors import name_of as detector_name


@dataclass(frozen=True)
class Conversion:
    """Result of a conversion.

    Attributes:
        source: Path or name that was read.
        destination: Path that was written.
        from_ecosystem: Library that the source comes from; ``residual`` for a model folder.
        to_ecosystem: Library that the destination is for; ``residual`` for a model folder.
        network: Name of the network in the zoo; ``custom`` where it has none.
        evidence: What the source was recognized by.
        assumed: Assumptions where the source says nothing.
        num_classes: Rows of the written classifier; 0 if there is none.
        state_dict: Keys and prefix of the network's tensors in the source, joined; empty if there are none.
        not_taken: Other weights of the source, by key or prefix, each with a description.
        beside: Other entries of the source beside its weights, each with a description.
        dropped: Tensors of the source that were not needed, by reason, with their number.
        changed: Requested changes of the network: a new head, another number of input channels.
        certificate: The comparison of logits, or of what detectors find.
    """

    source: str
    destination: str
    from_ecosystem: str
    to_ecosystem: str
    network: str
    evidence: str
    assumed: tuple[str, ...]
    num_classes: int
    state_dict: str
    not_taken: dict[str, str]
    beside: dict[str, str]
    dropped: dict[str, int]
    changed: tuple[str, ...]
    certificate: Certificate | DetectionsCertificate

    def summary(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return {**dataclasses.asdict(self), "certificate": self.certificate.to_dict()}


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    model: str | None = None,
    state_dict: str | None = None,
    to: str | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    half: bool = False,
) -> Conversion:
    """Convert a checkpoint into a model folder, or a model into a checkpoint of another library.

    Args:
        source: A file or folder of torchvision, timm, transformers, Keras, the article's TensorFlow code,
            Caffe or fb.resnet.torch; a model or run folder; the name of released weights; ``owner/name`` or
            ``owner/name@revision`` on the Hugging Face Hub (``hf:owner/name`` where a folder of the owner's
            name is here); or a URL.
        destination: Where to write: a model folder, or with ``to`` what that library reads.
        model: Name of the network, if the checkpoint does not determine it (``resnet50.v1``).
        state_dict: Which weights to take where a PyTorch file holds several: a key (``state_dict_ema``) or a
            prefix (``module.encoder_k.``). Default: those that were trained, not their average.
        to: ``torchvision``, ``timm``, ``transformers`` or ``keras``. Default: a model folder.
        num_classes: Rows of a new, randomly initialized classifier, for fine-tuning, where the source has
            another number or none; 0 takes the classifier off.
        in_channels: 1 for gray images: the first convolution's weights are summed over the colours; 3 the
            other way.
        half: Store the weights of convolutions and classifier as float16; for a model folder only.

    Returns:
        The recognized network, assumptions, dropped tensors and the comparison.

    Raises:
        ConfigurationError: An argument is not allowed, or the other library has no such network.
        ModelFileError: The source is damaged, hostile, or of no known network.
        MissingDependencyError: A library that the format needs is not installed.
        RunError: The destination cannot be written.
    """
    target = expanded(destination)
    if to is not None:
        ecosystem(to)
        if target.exists():
            raise ConfigurationError(f"{target} exists", remedy="choose another path")
    else:
        require_free_or_model(target)
    if half and to is not None:
        raise ConfigurationError("half and to are given together", expected="half for a model folder only")
    origin = find_source(source)
    files = fetch_source(origin)
    if is_model_folder(files.path):
        given = "--model" if model is not None else "--state-dict" if state_dict is not None else ""
        if given:
            raise ConfigurationError(
                f"{source} is a model folder and says itself what it is", remedy=f"leave out {given}"
            )
        converted = ForeignModel(load_folder(files.path), "residual", "config.json of Residual")
    else:
        converted = read_foreign(files, model, state_dict or "", origin.release)
    whole, changes = _changed(converted.model, source, num_classes, in_channels)
    certificate = converted.certificate
    if half:
        changes += ("weights of convolutions and classifier rounded to float16",)
    if to is None:
        save(whole, target, half=half)
    elif isinstance(whole, TorchDetector):
        certificate, call = write_detector(detector_ecosystem(to), whole, target)
        changes += (f"to load it: {call}",)
    else:
        certificate = _write(ecosystem(to), whole, source, target)
    name = zoo.name_of(whole.spec) if isinstance(whole, TorchClassifier) else detector_name(whole.spec)
    return Conversion(
        str(source),
        str(destination),
        converted.ecosystem,
        to or "residual",
        name or "custom",
        converted.evidence,
        converted.assumed,
        whole.spec.num_classes,
        converted.state_dict,
        converted.not_taken,
        converted.beside,
        converted.dropped,
        changes,
        certificate,
    )


def _changed(
    model: Model, source: str | Path, num_classes: int | None, in_channels: int | None
) -> tuple[Model, tuple[str, ...]]:
    """Return a model with the changes that are asked for, in words as well."""
    if isinstance(model, TorchClassifier):
        return changed(model, num_classes, in_channels)
    given = "--num-classes" if num_classes is not None else "--in-channels" if in_channels is not None else ""
    if given:
        raise ConfigurationError(
            f"{source} detects objects, and {given} is given",
            expected="a model that tells the class of an image",
            remedy="'residual train DATA --weights' gives a detector the classes of its data",
        )
    return model, ()


# -- out ---------------------------------------------------------------------------------------------


def _write(exporter: Ecosystem, model: TorchClassifier, source: str | Path, path: Path) -> Certificate:
    """Write for another library, read it back to the bit, and compare that library's logits with ours.

    All of that beside the destination, which comes to be only when it has ended well.
    """
    if model.task == MULTILABEL:
        raise ConfigurationError(
            f"{source} gives an image several labels, and a folder of {exporter.name} does not say so: its "
            "probabilities would be read as those of one class",
            expected="a model of one class an image",
            remedy="load the model folder, or export model.network with a sigmoid behind it",
        )
    if not model.spec.has_usual_head:
        raise ConfigurationError(
            f"{exporter.name} has no network whose classifier reads {model.spec.pooling}",
            expected="one that reads the mean of the last map",
        )
    state = model.network.state_dict()
    make_folder(path.parent)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        written = Path(folder) / path.name
        exporter.write(Exported(model.spec, state, model.preprocess, model.label_names), written)
        checkpoint = read(written)
        translation = exporter.translation(model.spec, checkpoint)
        back = read_tensors(translation, checkpoint.tensors, state, str(path))
        lost = [
            name for name in set(back) - set(translation.filled) if not torch.equal(back[name], state[name])
        ]
        if lost:
            raise ModelFileError(f"{path}: {lost[0]} came back changed, which is a defect of Residual")
        certificate = certify(model.network, exporter, checkpoint, model.preprocess.crop_px)
        written.rename(path)
    return certificate
