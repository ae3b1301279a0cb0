"""Name the layers of a network that give a heat map, and capture the map of one.

A layer is named as its parameters are (``layer4.1``, ``layer3.0.conv2``), so a name means the same here, in
the weights and in other libraries. One more name, ``last``, is the map that the classifier averages. It is
the output of the last stage where that ends with an activation, and of a pre-activation network the output
of its last BN and ReLU (He et al. 2016, appendix), which no module of its own gives.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from deepresidual.errors import ConfigurationError, nearest
from deepresidual.nn import ResNet

LAST_MAP = "last"
"""The map that the average pooling in front of the classifier reads."""


def layer_names(network: ResNet) -> tuple[str, ...]:
    """Return the names of all layers that give a map, in the order of the network, and :data:`LAST_MAP`.

    These are convolutions, batch normalizations, the max pooling, units, and stages. Modules that a network
    does not use, or that return their input, are not among them.
    """
    return (
        *(name for name, module in network.named_modules() if _gives_map(network, name, module)),
        LAST_MAP,
    )


def _gives_map(network: ResNet, name: str, module: nn.Module) -> bool:
    if name == "maxpool":
        return not isinstance(module, nn.Identity)  # the networks for CIFAR have none
    parent, _, _ = name.rpartition(".")
    is_stage_or_unit = name in network.spec.stage_names or parent in network.spec.stage_names
    return is_stage_or_unit or isinstance(module, nn.Conv2d | nn.BatchNorm2d)


class CapturedMap:
    """The map of one layer in one forward pass, cut off from what came before it.

    The network goes on with a copy, because what follows may write into it: additions and ReLUs work in
    place. Derivatives with respect to :attr:`values` are those with respect to the layer's output.
    """

    def __init__(self, layer: str) -> None:
        self.layer = layer
        self._values: Tensor | None = None

    @property
    def values(self) -> Tensor:
        """``(N, K, h, w)`` float32, a leaf that requires a gradient; there is none before a forward pass."""
        if self._values is None:
            raise AssertionError(f"no map has passed through {self.layer}")
        return self._values

    def _take(self, output: Tensor) -> Tensor:
        self._values = output.detach().requires_grad_()
        return self._values.clone()

    def after(self, _module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        """Take the output of a layer (a forward hook)."""
        return self._take(output)

    def before(self, _module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        """Take the input of a layer (a hook before its forward pass)."""
        return (self._take(*inputs),)


@contextlib.contextmanager
def captured_map(network: ResNet, layer: str) -> Iterator[CapturedMap]:
    """Capture the map of ``layer`` in the forward pass inside the block; leave no hook behind.

    Raises:
        ConfigurationError: The network has no such layer; the message names some that it has.
    """
    names = layer_names(network)
    if layer not in names:
        raise ConfigurationError(
            f"unknown layer {layer!r}" + _hint(layer, names), expected=f"one of {_outline(network)}"
        )
    captured = CapturedMap(layer)
    if layer == LAST_MAP:
        hook = network.avgpool.register_forward_pre_hook(captured.before)
    else:
        hook = network.get_submodule(layer).register_forward_hook(captured.after)
    with hook:
        yield captured


def _hint(layer: str, names: tuple[str, ...]) -> str:
    close = nearest(layer, names)
    return f" (nearest: {', '.join(close)})" if close else ""


def _outline(network: ResNet) -> str:
    """Return the layers in one line, however deep the network is."""
    stages = network.spec.stage_names
    units = [
        f"{stage}.0 to {stage}.{depth - 1}" for stage, depth in zip(stages, network.spec.depths, strict=True)
    ]
    return f"{', '.join((*stages, *units))}, a convolution or BN such as {stages[-1]}.0.conv1, or {LAST_MAP}"


@contextlib.contextmanager
def undisturbed(network: ResNet) -> Iterator[None]:
    """Put a network into evaluation mode with constant weights, and afterwards into the state it was in.

    With constant weights a forward pass remembers nothing before the captured map, and no gradient can end
    up in a parameter. So there is no memory to save by running units twice, which would pass the map twice.
    """
    spec = network.spec
    network.spec = spec.architecture
    try:
        with constant(network):
            yield
    finally:
        network.spec = spec


@contextlib.contextmanager
def constant(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode with constant weights, and afterwards into the state it was in."""
    training = [(each, each.training) for each in module.modules()]
    learning = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    module.eval().requires_grad_(requires_grad=False)
    try:
        yield
    finally:
        for each, was_training in training:
            each.training = was_training
        for parameter, was_learning in learning:
            parameter.requires_grad_(was_learning)
