"""Create networks by name or spec, with first weights from a seed or with released ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, overload

from deepresidual import zoo
from deepresidual.errors import ConfigurationError
from deepresidual.fields import check_seed
from deepresidual.models import bundled
from deepresidual.nn import ResNet, empty_network, initialize
from deepresidual.runtime.console import note
from deepresidual.spec import DetectorSpec, NetworkSpec, ResNetSpec
from deepresidual.zoo.released import find_release, released

if TYPE_CHECKING:
    from deepresidual.nn.detection import Detector


@overload
def create(
    name_or_spec: str | ResNetSpec,
    num_classes: int | None = None,
    in_channels: int | None = None,
    seed: int = 0,
    *,
    weights: str | Path | None = None,
    pretrained: bool | None = None,
) -> ResNet: ...


@overload
def create(
    name_or_spec: DetectorSpec, num_classes: None = None, in_channels: None = None, seed: int = 0
) -> Detector: ...


@overload
def create(
    name_or_spec: NetworkSpec, num_classes: None = None, in_channels: None = None, seed: int = 0
) -> ResNet | Detector: ...


def create(
    name_or_spec: str | NetworkSpec,
    num_classes: int | None = None,
    in_channels: int | None = None,
    seed: int = 0,
    *,
    weights: str | Path | None = None,
    pretrained: bool | None = None,
) -> ResNet | Detector:
    """Create a network on the CPU, in float32: He-initialized, or with learned weights.

    The name of released weights (``resnet50.a1_in1k``) or of a bundled model (``resnet56-cifar10``) is a
    network with these weights, unless ``pretrained`` is ``False``.

    Args:
        name_or_spec: A name of the zoo (``deepresidual.list_models()``), a spec of one's own, or the name of
            weights. Of a :class:`DetectorSpec` only ``seed`` is to be said beside it.
        num_classes: Rows of the classifier; 0 for none. Default: the spec's, or those of the weights. With
            weights of another number the classifier is new, drawn from ``seed``.
        in_channels: Channels of the input. Default: the spec's. With weights 1 or 3: the first convolution is
            adapted.
        seed: The weights are a pure function of it; torch's global random state is not touched.
        weights: What :func:`load` takes: a name of released weights, a model folder, a URL and so on.
        pretrained: ``True`` for the network's default release.

    Returns:
        A module ``(N, in_channels, H, W)`` float32 → ``(N, num_classes)`` logits, in training mode; for 0
        classes → ``(N, num_features)``, the average of the last map. Or a
        :class:`deepresidual.nn.detection.Detector`.

    Raises:
        UnknownNameError: There is no network of that name.
        ConfigurationError: A number is out of range, or the weights are of another network.
        ModelFileError: There are no such weights, or they are damaged.
        RunError: They cannot be fetched.
    """
    check_seed(seed)
    if isinstance(name_or_spec, DetectorSpec):
        from deepresidual.nn.detection import Detector, initialize_detector

        detector = Detector(name_or_spec)
        initialize_detector(detector, seed)
        return detector
    if isinstance(name_or_spec, str) and _names_weights(name_or_spec):
        if pretrained is not False and weights is None:
            return _with_weights(None, name_or_spec, num_classes, in_channels, seed)
        name_or_spec = _network_of(name_or_spec)
    spec = name_or_spec if isinstance(name_or_spec, ResNetSpec) else zoo.entry(str(name_or_spec)).spec
    if weights is None and pretrained:
        weights = released(zoo.name_of(spec) or "custom").name
    if weights is not None:
        return _with_weights(spec, weights, num_classes, in_channels, seed)
    return first_network(
        dataclasses.replace(
            spec,
            num_classes=spec.num_classes if num_classes is None else num_classes,
            in_channels=spec.in_channels if in_channels is None else in_channels,
        ),
        seed,
    )


def first_network(spec: ResNetSpec, seed: int) -> ResNet:
    """Return the network of ``spec`` with first weights from ``seed``."""
    network = empty_network(spec)
    initialize(network, seed)
    return network


def _names_weights(name: str) -> bool:
    return name not in zoo.list_models() and (
        find_release(name) is not None or bundled.folder_of(name) is not None
    )


def _network_of(name: str) -> NetworkSpec | str:
    """Return the network of released or bundled weights."""
    if (release := find_release(name)) is not None:
        return release.network
    from deepresidual.models.folder import load_folder

    return load_folder(name).spec


def _with_weights(
    spec: ResNetSpec | None,
    weights: str | Path,
    num_classes: int | None,
    in_channels: int | None,
    seed: int,
) -> ResNet:
    from deepresidual.models.change import changed
    from deepresidual.models.weights import load_torch

    model = load_torch(weights)
    if spec is not None and zoo.same_architecture(spec, model.spec):
        # What only training sees is as asked for, such as stochastic depth.
        same = dataclasses.replace(
            spec, num_classes=model.spec.num_classes, in_channels=model.spec.in_channels
        )
        network = empty_network(same)
        network.load_state_dict(model.network.state_dict())
        model = dataclasses.replace(model, network=network)
    elif spec is not None:
        raise ConfigurationError(
            f"the weights {weights} are of {zoo.name_of(model.spec) or 'another network'}, "
            f"and the network is {zoo.name_of(spec) or 'another'}",
            expected="weights of the same network",
        )
    model, changes = changed(model, num_classes, in_channels, seed)
    if changes:
        note(f"{weights}: {'; '.join(changes)}")
    return model.network.train()
