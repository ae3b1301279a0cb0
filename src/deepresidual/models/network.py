"""Create networks by name or spec, with first weights from a seed."""

from __future__ import annotations

import dataclasses

from deepresidual import zoo
from deepresidual.fields import check_seed
from deepresidual.nn import ResNet, empty_network, initialize
from deepresidual.spec import ResNetSpec


def create(
    name_or_spec: str | ResNetSpec,
    num_classes: int | None = None,
    in_channels: int | None = None,
    seed: int = 0,
) -> ResNet:
    """Create a network with He-initialized float32 weights on the CPU.

    Args:
        name_or_spec: A name of the zoo (``deepresidual.list_models()``) or a spec of one's own.
        num_classes: Rows of the classifier; 0 for none. Default: the spec's.
        in_channels: Channels of the input. Default: the spec's.
        seed: The weights are a pure function of it; torch's global random state is not touched.

    Returns:
        A module ``(N, in_channels, H, W)`` float32 → ``(N, num_classes)`` logits, in training mode; for 0
        classes → ``(N, num_features)``, the average of the last map.

    Raises:
        UnknownNameError: There is no network of that name.
        ConfigurationError: A number is out of range.
    """
    check_seed(seed)
    spec = name_or_spec if isinstance(name_or_spec, ResNetSpec) else zoo.entry(name_or_spec).spec
    spec = dataclasses.replace(
        spec,
        num_classes=spec.num_classes if num_classes is None else num_classes,
        in_channels=spec.in_channels if in_channels is None else in_channels,
    )
    network = empty_network(spec)
    initialize(network, seed)
    return network
