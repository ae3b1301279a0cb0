"""Convert a checkpoint of another library into a model folder, or the other way.

Both ways end with a certificate: the two implementations see the same images, and their logits are compared.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from deepresidual import zoo
from deepresidual.backends.pytorch import TorchClassifier
from deepresidual.conversion.certificate import Certificate, certify
from deepresidual.conversion.detect import ecosystem, recognize
from deepresidual.conversion.ecosystem import Ecosystem, Exported
from deepresidual.conversion.hub import fetch, hub_id, require_source
from deepresidual.conversion.readers import read
from deepresidual.conversion.selection import select_network
from deepresidual.conversion.translation import read_tensors
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.models.folder import is_model_folder, load, require_free_or_model, save
from deepresidual.models.network import create
from deepresidual.nn import ResNet, empty_network
from deepresidual.preprocess import Preprocess
from deepresidual.runtime.files import expanded, make_folder


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
        certificate: The comparison of logits.
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
    certificate: Certificate

    def summary(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return dataclasses.asdict(self)


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
            Caffe or fb.resnet.torch; a model or run folder; or ``owner/name`` on the Hugging Face Hub
            (``hf-hub:owner/name`` where a folder of the owner's name is here).
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
    exporter = None if to is None else ecosystem(to)
    if exporter is None:
        require_free_or_model(target)
    elif target.exists():
        raise ConfigurationError(f"{target} exists", remedy="choose another path")
    if half and to is not None:
        raise ConfigurationError("half and to are given together", expected="half for a model folder only")
    require_source(str(source))
    if is_model_folder(source):
        given = "--model" if model is not None else "--state-dict" if state_dict is not None else ""
        if given:
            raise ConfigurationError(
                f"{source} is a model folder and says itself what it is", remedy=f"leave out {given}"
            )
        converted = _Read(load(source), "residual", "config.json of Residual")
    else:
        converted = _read(str(source), model, state_dict or "")
    changed = _change(converted, num_classes, in_channels)
    certificate = converted.certificate
    if half:
        changed += ("weights of convolutions and classifier rounded to float16",)
    if exporter is None:
        save(converted.model, target, half=half)
    else:
        certificate = _write(exporter, converted.model, target)
    return Conversion(
        str(source),
        str(destination),
        converted.ecosystem,
        to or "residual",
        zoo.name_of(converted.model.spec) or "custom",
        converted.evidence,
        converted.assumed,
        converted.model.spec.num_classes,
        converted.state_dict,
        converted.not_taken,
        converted.beside,
        converted.dropped,
        changed,
        certificate,
    )


def _same_implementation() -> Certificate:
    return Certificate(reason="both sides are the same implementation")


@dataclass
class _Read:
    """A model from elsewhere, and how it was recognized."""

    model: TorchClassifier
    ecosystem: str
    evidence: str
    assumed: tuple[str, ...] = ()
    state_dict: str = ""
    not_taken: dict[str, str] = dataclasses.field(default_factory=dict)
    beside: dict[str, str] = dataclasses.field(default_factory=dict)
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)
    certificate: Certificate = dataclasses.field(default_factory=_same_implementation)


def _read(source: str, name: str | None, state_dict: str) -> _Read:
    repository = hub_id(source)
    path = fetch(repository).folder if repository else expanded(source)
    whole = read(path, state_dict)
    selection = select_network(whole, state_dict)
    checkpoint = selection.checkpoint
    origin, recognition = recognize(checkpoint)
    spec = recognition.spec
    if name is not None:
        spec = dataclasses.replace(
            zoo.entry(name).spec, num_classes=spec.num_classes, in_channels=spec.in_channels
        )
    translation = origin.translation(spec, checkpoint)
    network = empty_network(spec)
    state = network.state_dict()
    network.load_state_dict(read_tensors(translation, checkpoint.tensors, state, str(path)))
    network.eval()
    certificate = certify(network, origin, checkpoint, recognition.preprocess.crop_px)
    evidence, assumed = recognition.evidence, recognition.assumed
    if name is not None:
        evidence, assumed = f"{evidence}; taken for {name} as asked", ()
    assumed = selection.assumed + assumed
    not_weights = checkpoint.metadata.get("not_weights", {})
    dropped = _counted({**not_weights, **selection.dropped, **translation.dropped})
    keys = ".".join((*whole.metadata.get("unwrapped", ()), selection.prefix))
    not_taken = {**whole.metadata.get("alternatives", {}), **selection.alternatives}
    provenance: dict[str, Any] = {
        "converted from": f"{origin.name} ({checkpoint.format})",
        "source": Path(source).name,
        "sha256": checkpoint.sha256,
        "recognized by": evidence,
        **({"state dict": keys} if keys else {}),
        **(
            {"not taken": "; ".join(f"{key} ({what})" for key, what in not_taken.items())}
            if not_taken
            else {}
        ),
        **({"assumed": "; ".join(assumed)} if assumed else {}),
        **({"dropped": "; ".join(f"{n} × {why}" for why, n in dropped.items())} if dropped else {}),
        "certificate": _in_words(certificate),
    }
    labels = recognition.label_names or tuple(str(row) for row in range(spec.num_classes))
    model = _model(network, labels, recognition.preprocess, provenance, path)
    beside = dict(whole.metadata.get("ignored", {}))
    return _Read(model, origin.name, evidence, assumed, keys, not_taken, beside, dropped, certificate)


def _model(
    network: ResNet, labels: tuple[str, ...], preprocess: Preprocess, provenance: dict[str, Any], path: Path
) -> TorchClassifier:
    try:
        return TorchClassifier(network, labels, preprocess, provenance=provenance)
    except ConfigurationError as error:
        raise ModelFileError(f"{path}: {error}") from error


def _counted(dropped: Mapping[str, str]) -> dict[str, int]:
    reasons = list(dropped.values())
    return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}


def _in_words(certificate: Certificate) -> str:
    if certificate.largest_difference is None:
        return f"not compared: {certificate.reason}"
    return (
        f"largest difference of {'logits' if certificate.is_of_logits else 'features'} "
        f"{certificate.largest_difference:.2g} against {certificate.reference}, whose largest is "
        f"{certificate.largest_logit:.3g} ({certificate.input})"
    )


# -- another head or another input -------------------------------------------------------------------


def _change(converted: _Read, num_classes: int | None, in_channels: int | None) -> tuple[str, ...]:
    """Give the model the requested head or input, and return what changed."""
    model, changed = converted.model, []
    spec, state, labels, preprocess = (
        model.spec,
        dict(model.network.state_dict()),
        model.label_names,
        model.preprocess,
    )
    if num_classes is not None and num_classes != spec.num_classes:
        fresh = create(spec, num_classes=num_classes).fc.state_dict()
        state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
        state |= {f"fc.{name}": tensor for name, tensor in fresh.items()}
        if num_classes:
            before = f"for {spec.num_classes}" if spec.num_classes else "where there was none"
            changed.append(f"a new classifier of {num_classes} rows, randomly initialized, {before}")
        else:
            changed.append(f"the classifier of {spec.num_classes} rows taken off")
        labels = tuple(str(row) for row in range(num_classes))
    if in_channels is not None and in_channels != spec.in_channels:
        if in_channels not in (1, 3):
            raise ConfigurationError(f"in_channels is {in_channels}", expected="1 or 3")
        state["conv1.weight"] = _adapted(state["conv1.weight"], in_channels)
        preprocess = _adapted_preprocess(preprocess, in_channels)
        changed.append(f"conv1 adapted from {spec.in_channels} input channels to {in_channels}")
    if not changed:
        return ()
    new = dataclasses.replace(
        spec,
        num_classes=spec.num_classes if num_classes is None else num_classes,
        in_channels=in_channels or spec.in_channels,
    )
    network = empty_network(new)
    network.load_state_dict(state)
    provenance = {**model.provenance, "changed after the comparison": "; ".join(changed)}
    # What was measured was another network.
    converted.model = TorchClassifier(network.eval(), labels, preprocess, provenance=provenance)
    return tuple(changed)


def _adapted(weight: torch.Tensor, in_channels: int) -> torch.Tensor:
    """Return conv1's weight for other channels: gray gives what three equal colours gave."""
    total = weight.sum(dim=1, keepdim=True)
    return total if in_channels == 1 else total.repeat(1, in_channels, 1, 1) / in_channels


def _adapted_preprocess(preprocess: Preprocess, in_channels: int) -> Preprocess:
    gray = preprocess.in_gray()
    if in_channels == 1:
        return gray
    return dataclasses.replace(gray, channels="rgb", mean=gray.mean * 3, std=gray.std * 3)


# -- out ---------------------------------------------------------------------------------------------


def _write(exporter: Ecosystem, model: TorchClassifier, path: Path) -> Certificate:
    """Write for another library, read it back to the bit, and compare that library's logits with ours.

    All of that beside the destination, which comes to be only when it has ended well.
    """
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
