"""Look into a network while it computes: named activations and their gradients, by hooks that leave nothing.

A probe names modules as the state dict does (``layer1.0.bn2``, ``layer3.4``) and notes what each puts out,
and how the loss changes with it. It notes the output as the module leaves it: units activate and add in place
behind their BN, which a mere reference to the output would show as well.

Example:
    >>> network = deepresidual.create("resnet20")
    >>> with Probe(network, unit_names(network.spec), reduce=torch.linalg.vector_norm) as probe:
    ...     functional.cross_entropy(network(images), labels).backward()
    >>> probe.gradients["layer1.0"]  # the norm of the gradient of what the first unit puts out
    tensor(0.0123)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from deepresidual.errors import UnknownNameError
from deepresidual.spec import ResNetSpec


class Probe:
    """While active, note the outputs of some modules in every forward pass, and their gradients backward.

    Of several passes the last one stays. Outside the ``with`` block the network is as it was; what has been
    noted stays with the probe.

    Args:
        network: Any module; the weights, the mode and the graph stay as they are.
        names: Names of its modules, as in :meth:`torch.nn.Module.named_modules`.
        reduce: What to keep of an output and of a gradient, each ``(N, C, H, W)`` and without a graph; must
            not return the tensor itself, which may change in place. Default: a copy of it.

    Raises:
        UnknownNameError: The network has no such module; the message names the nearest.
    """

    def __init__(
        self, network: nn.Module, names: Iterable[str], *, reduce: Callable[[Tensor], Tensor] = torch.clone
    ) -> None:
        modules = dict(network.named_modules())
        self._modules: dict[str, nn.Module] = {}
        for name in names:
            if name not in modules or not name:
                raise UnknownNameError("layer", name, [known for known in modules if known])
            self._modules[name] = modules[name]
        self._reduce = reduce
        self._handles: list[Any] = []
        self.activations: dict[str, Tensor] = {}
        """Name → what ``reduce`` kept of the output, in the order in which the modules ran."""
        self.gradients: dict[str, Tensor] = {}
        """Name → what ``reduce`` kept of the loss's gradient with respect to that output."""

    def __enter__(self) -> Self:
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(self._noting(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _noting(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def note(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            with torch.no_grad():
                # Put in anew, so that the order is that of the last pass.
                self.activations.pop(name, None)
                self.activations[name] = self._reduce(output.detach())
            if output.requires_grad:
                # Of a tensor that is changed in place later on, the hook still gets the gradient of the
                # value that it has now.
                handle = output.register_hook(self._noting_gradient(name))  # type: ignore[no-untyped-call]
                self._handles.append(handle)

        return note

    def _noting_gradient(self, name: str) -> Callable[[Tensor], None]:
        def note(gradient: Tensor) -> None:
            with torch.no_grad():
                self.gradients[name] = self._reduce(gradient.detach())

        return note


def unit_names(spec: ResNetSpec) -> list[str]:
    """Return the names of the units, in order: the x of He et al. 2016, equation 1, are what they put out."""
    return [unit.name for unit in spec.units()]


def convolution_names(spec: ResNetSpec) -> list[str]:
    """Return the names of the main path's convolutions, in order, conv1 first; no projections, no gates."""
    return [
        layer.name
        for layer in spec.layers(32)
        if layer.kind == "conv" and layer.name.rsplit(".", 1)[-1].startswith("conv")
    ]


def response_names(spec: ResNetSpec) -> list[str]:
    """Return the names of the BNs behind the convolutions of the main path, in order.

    What they put out is the response of a layer in the sense of He et al. 2015, figure 7: after BN and before
    ReLU and addition. Pre-activation nets have no BN there; theirs are the convolutions themselves.
    """
    if spec.is_preactivated:
        return convolution_names(spec)
    return [
        layer.name
        for layer in spec.layers(32)
        if layer.kind == "bn" and layer.name.rsplit(".", 1)[-1].startswith("bn")
    ]
