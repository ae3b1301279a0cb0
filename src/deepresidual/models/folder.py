"""The model folder: ``config.json``, ``model.safetensors`` and a model card, written whole or not at all.

Where timm has the network it opens the folder as ``local-dir:FOLDER``. A folder is never trusted: every field
of the config is checked (:mod:`deepresidual.models.config`), every tensor is, and no pickle is read.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch

from deepresidual import zoo
from deepresidual.backends.detector import TorchDetector
from deepresidual.backends.pytorch import TorchClassifier
from deepresidual.conversion.values import checked
from deepresidual.errors import ConfigurationError, ModelFileError, kind_of, listed
from deepresidual.models.card import model_card
from deepresidual.models.config import ModelConfig, read_config
from deepresidual.models.source import CONFIG, WEIGHTS, model_folder
from deepresidual.nn import ResNet, empty_network
from deepresidual.nn.state_dict import shape_differences
from deepresidual.preprocess import Preprocess
from deepresidual.runtime import safetensors_file
from deepresidual.runtime.device import resolve_device
from deepresidual.runtime.files import atomic_folder, expanded, write_json, write_tensors, write_text
from deepresidual.spec import DetectorSpec, NetworkSpec, ResNetSpec

if TYPE_CHECKING:
    from deepresidual.nn.detection import Detector

CARD = "README.md"

Model: TypeAlias = TorchClassifier | TorchDetector
"""A model that PyTorch computes."""


def save(
    model: TorchClassifier | TorchDetector | ResNet,
    path: str | Path,
    *,
    label_names: Sequence[str] | None = None,
    preprocess: Preprocess | None = None,
    half: bool = False,
) -> None:
    """Write a model folder; an existing one at ``path`` is replaced whole.

    Args:
        model: What :func:`deepresidual.load` or :func:`deepresidual.create` returned.
        path: The folder.
        label_names: Class names for a bare network. Default: ``"0"``, ``"1"``, ….
        preprocess: Preprocessing for a bare network. Default: that of its stem's usual data set.
        half: Store the weights of convolutions and classifier as float16, in half the space. The network
            computes in float32 all the same; its logits change by the rounding of the weights.

    Raises:
        RunError: The folder cannot be written.
        ModelFileError: A weight is what :func:`load` would refuse: not finite, too large for float32 (with
            ``half`` for float16), or a variance below 0.
        ConfigurationError: The names or the preprocessing do not fit the network, or ``path`` holds
            something that is not a model folder.
    """
    if isinstance(model, ResNet):
        if isinstance(label_names, str):
            raise ConfigurationError(f"label_names is {label_names!r}", expected="a list of strings")
        model = _with_own_classifier(model)
        names = label_names or [str(row) for row in range(model.spec.num_classes)]
        model = TorchClassifier(model, tuple(names), preprocess or zoo.default_preprocess(model.spec))
    elif label_names is not None or preprocess is not None:
        raise ConfigurationError(
            "label_names and preprocess belong to a bare network; set the model's own fields"
        )
    path = expanded(path)
    require_free_or_model(path)
    weights = dict(model.network.state_dict())
    for name, tensor in weights.items():
        # In the types that the network has when it is loaded, so that no value is written that is none there.
        is_counter = name.endswith("num_batches_tracked")
        # A variance below 0 is a number all the same: who reads the folder is told of it, with its name.
        checked(tensor, torch.int64 if is_counter else torch.float32, "", name, target="")
    if half:
        weights = {name: _halved(name, tensor) for name, tensor in weights.items()}
    with atomic_folder(path, num_bytes=sum(tensor.nbytes for tensor in weights.values())) as folder:
        write_tensors(folder / WEIGHTS, weights)
        write_json(folder / CONFIG, ModelConfig.of(model).to_document())
        write_text(folder / CARD, model_card(model))


def _with_own_classifier(network: ResNet) -> ResNet:
    """Return a network whose spec has as many classes as the classifier that was put into it has rows.

    Raises:
        ConfigurationError: The classifier is no linear layer with a bias, or reads other features.
    """
    classifier = network.fc
    is_linear = isinstance(classifier, torch.nn.Linear) and classifier.bias is not None
    if not is_linear and network.num_classes:
        raise ConfigurationError(
            f"the network's fc is {kind_of(classifier)}"
            + (" without a bias" if isinstance(classifier, torch.nn.Linear) else ""),
            expected=f"torch.nn.Linear({network.num_features}, num_classes)",
            remedy="a model folder holds one linear classifier; keep other layers in a file of your own",
        )
    if not is_linear or classifier.out_features == network.num_classes:
        return network
    if classifier.in_features != network.num_features:
        raise ConfigurationError(
            f"the network's fc reads {classifier.in_features} features and the network gives "
            f"{network.num_features}",
            expected="the same",
        )
    other = copy.copy(network)  # the user's own keeps its spec
    other.spec = dataclasses.replace(network.spec, num_classes=classifier.out_features)
    return other


def _halved(name: str, tensor: torch.Tensor) -> torch.Tensor:
    # Vectors (BN, biases) are a hundredth of the bytes, and variances do not bear it.
    if tensor.ndim < 2:
        return tensor
    rounded = tensor.half()
    if not rounded.isfinite().all():
        raise ModelFileError(
            f"tensor {name} has values up to {float(tensor.abs().max()):.3g}",
            expected=f"at most {torch.finfo(torch.float16).max:,.0f} in half precision",
            remedy="save it in float32",
        )
    return rounded


def require_free_or_model(path: Path) -> None:
    """Refuse a destination that holds something other than a model folder.

    Raises:
        ConfigurationError: There is something else at ``path``.
    """
    if path.exists() and not (path / CONFIG).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise ConfigurationError(f"{path} exists and is no model folder", remedy="choose another path")


def load_folder(path: str | Path, device: torch.device | str = "cpu") -> Model:
    """Load a model folder, that of a run, or that of a bundled model's name; nothing is fetched or converted.

    Args:
        path: The folder.
        device: Where to put the weights.

    Raises:
        ConfigurationError: There is no such device.
        ModelFileError: The folder is missing, damaged, or its parts contradict each other.
    """
    folder, target, config = model_folder(path), resolve_device(str(device)), read_config(path)
    try:
        network = _empty(config.spec)
        _fill(network, folder / WEIGHTS, config.spec.num_classes)
        model = model_of(network, config)
    except ConfigurationError as error:
        raise ModelFileError(
            f"{folder / CONFIG}: {error.found}", expected=error.expected, remedy=error.remedy
        ) from error
    model.network.eval()
    return model.to(target)


def model_of(network: torch.nn.Module, config: ModelConfig) -> Model:
    """Return a network with all that its ``config.json`` is to say.

    Raises:
        ConfigurationError: Names or preprocessing do not fit the network.
    """
    known = (config.label_names, config.preprocess, config.metrics, config.provenance)
    if isinstance(config.spec, DetectorSpec):
        return TorchDetector(cast("Detector", network), *known, task=config.task)
    return TorchClassifier(
        cast("ResNet", network),
        *known,
        task=config.task,
        thresholds=config.thresholds,
        abstention=config.abstention,
    )


def _empty(spec: NetworkSpec) -> torch.nn.Module:
    if isinstance(spec, ResNetSpec):
        return empty_network(spec)
    from deepresidual.nn.detection import empty_detector

    return empty_detector(spec)


# -- model.safetensors -------------------------------------------------------------------------------


def _fill(network: torch.nn.Module, path: Path, num_classes: int) -> None:
    """Fill ``network`` from a safetensors file; every tensor on both sides exactly once."""
    target = network.state_dict()
    with safetensors_file.opened(path) as file:
        _check_names(file, target, path, num_classes)
        for name, tensor in target.items():
            tensor.copy_(checked(file.get_tensor(name), tensor.dtype, str(path), name, name))


def _check_names(file: Any, target: Mapping[str, torch.Tensor], path: Path, num_classes: int) -> None:
    found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118  # not a dict
    expected = {name: tuple(tensor.shape) for name, tensor in target.items()}
    rows = found.get("fc.weight", (num_classes,))[0]
    if rows != num_classes:
        raise ModelFileError(
            f"{path}: the classifier has {rows} rows and the config says {num_classes} classes",
            expected="the same",
        )
    if differences := shape_differences(found, expected):
        raise ModelFileError(
            f"{path} does not fit the network (missing −, extra +, other shape ±): {listed(differences)}"
        )
