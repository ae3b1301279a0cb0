"""Read a model from a checkpoint of another library, with a certificate that it is the same function."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepresidual import zoo
from deepresidual.backends.pytorch import TorchClassifier
from deepresidual.conversion.certificate import Certificate, certify
from deepresidual.conversion.detect import recognize
from deepresidual.conversion.readers import read
from deepresidual.conversion.selection import select_network
from deepresidual.conversion.translation import read_tensors
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.models.fetching import SourceFiles
from deepresidual.nn import ResNet, empty_network
from deepresidual.preprocess import Preprocess
from deepresidual.runtime.provenance import now
from deepresidual.spec import ResNetSpec
from deepresidual.zoo.released import NO_LICENCE, ReleasedWeights


def _same_implementation() -> Certificate:
    return Certificate(reason="both sides are the same implementation")


@dataclass(frozen=True)
class ForeignModel:
    """A model from elsewhere, and how it was recognized.

    Attributes:
        model: The model.
        ecosystem: Library that it comes from; ``residual`` for a model folder.
        evidence: What it was recognized by.
        assumed: Assumptions where the checkpoint says nothing, one clause each.
        state_dict: Keys and prefix of the network's tensors in the file, joined; empty if there are none.
        not_taken: Other weights of the file, by key or prefix, each with a description.
        beside: Other entries of the file beside its weights, each with a description.
        dropped: Tensors that were not needed, by reason, with their number.
        certificate: The comparison of logits with the library's own network.
    """

    model: TorchClassifier
    ecosystem: str
    evidence: str
    assumed: tuple[str, ...] = ()
    state_dict: str = ""
    not_taken: dict[str, str] = dataclasses.field(default_factory=dict)
    beside: dict[str, str] = dataclasses.field(default_factory=dict)
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)
    certificate: Certificate = dataclasses.field(default_factory=_same_implementation)


def read_foreign(
    files: SourceFiles,
    name: str | None = None,
    state_dict: str = "",
    release: ReleasedWeights | None = None,
) -> ForeignModel:
    """Read a checkpoint of another library as a model, and compare its logits with the library's.

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
    selection = select_network(whole, state_dict)
    checkpoint = selection.checkpoint
    origin, recognition = recognize(checkpoint)
    spec = recognition.spec
    if name is not None:
        spec = dataclasses.replace(
            zoo.entry(name).spec, num_classes=spec.num_classes, in_channels=spec.in_channels
        )
    elif release is not None:
        _require_released(release, spec, path)
    translation = origin.translation(spec, checkpoint)
    network = empty_network(spec)
    state = network.state_dict()
    network.load_state_dict(read_tensors(translation, checkpoint.tensors, state, str(path)))
    network.eval()
    certificate = certify(network, origin, checkpoint, recognition.preprocess.crop_px)
    evidence, assumed = recognition.evidence, recognition.assumed
    if name is not None:
        evidence, assumed = f"{evidence}; taken for {name} as asked", ()
    preprocess = recognition.preprocess
    if release is not None and name is None and "config" not in checkpoint.metadata:
        evidence, assumed = f"{evidence}; released as {release.name}", ()
        preprocess = release.preprocess
    assumed = selection.assumed + assumed
    not_weights = checkpoint.metadata.get("not_weights", {})
    dropped = _counted({**not_weights, **selection.dropped, **translation.dropped})
    keys = ".".join((*whole.metadata.get("unwrapped", ()), selection.prefix))
    not_taken = {**whole.metadata.get("alternatives", {}), **selection.alternatives}
    provenance: dict[str, Any] = {
        **(_released(release) if release is not None else {}),
        "converted from": f"{origin.name} ({checkpoint.format})",
        "source": files.origin,
        **({"commit": files.commit} if files.commit else {}),
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
        **({"fetched": now()} if files.is_fetched else {}),
    }
    labels = recognition.label_names or tuple(str(row) for row in range(spec.num_classes))
    model = _model(network, labels, preprocess, provenance, path)
    beside = dict(whole.metadata.get("ignored", {}))
    return ForeignModel(model, origin.name, evidence, assumed, keys, not_taken, beside, dropped, certificate)


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


def _released(release: ReleasedWeights) -> dict[str, Any]:
    """Return what a model folder remembers of released weights."""
    accuracy = "" if release.top1 is None else f"top-1 {release.top1:g} %"
    if release.top5 is not None:
        accuracy += f", top-5 {release.top5:g} %"
    return {
        "weights": release.name,
        "published by": release.source,
        "licence": release.licence or NO_LICENCE,
        **({"commercial use": release.commercial} if release.commercial != "yes" else {}),
        "trained on": release.data,
        **({"published accuracy": accuracy} if accuracy else {}),
        **({"paper": release.paper} if release.paper else {}),
        **({"note": release.note} if release.note else {}),
    }


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
