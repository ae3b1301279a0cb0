"""``TorchModel``: what every model has that PyTorch computes, whatever it has learned."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any, Self, cast

from deepresidual.errors import ConfigurationError
from deepresidual.runtime.device import resolve_device

if TYPE_CHECKING:
    import torch

    from deepresidual.preprocess import Preprocess
    from deepresidual.runtime.compute import Precision

__all__ = ["TorchModel"]


class TorchModel:
    """A network with class names and preprocessing; the base of dataclasses that have these fields.

    Attributes:
        network: The module, with its ``spec``.
        label_names: Name of every class.
        preprocess: How a decoded image becomes the network's input.
        precision: Precision of the forward pass; weights are float32.
    """

    if TYPE_CHECKING:
        label_names: tuple[str, ...]
        preprocess: Preprocess
        precision: Precision

    def _check(self, kind: str) -> None:
        """Refuse class names and channels that do not fit the network.

        Args:
            kind: What the network is, for messages: ``classifier``.

        Raises:
            ConfigurationError: Names are no texts, too many or too few, or occur twice; or channels differ.
        """
        spec, names = self._network.spec, self.label_names
        if len(names) != spec.num_classes:
            rows = "rows" if kind == "classifier" else "classes"
            raise ConfigurationError(
                f"there are {len(names)} label names for a {kind} of {spec.num_classes} {rows}",
                expected=f"as many names as {rows}",
            )
        if not all(isinstance(name, str) for name in names):
            raise ConfigurationError(f"the label names are {names!r}", expected="strings")
        if len(set(names)) != len(names):
            twice = sorted(name for name in set(names) if names.count(name) > 1)
            raise ConfigurationError(f"label name {twice[0]!r} occurs twice", expected="distinct names")
        if self.preprocess.num_channels != spec.in_channels:
            raise ConfigurationError(
                f"preprocessing to {self.preprocess.channels} gives {self.preprocess.num_channels} channels "
                f"and the network reads {spec.in_channels}",
                remedy="create the network with in_channels to match",
            )

    @property
    def _network(self) -> Any:
        return cast("Any", self).network

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        found: torch.device = next(iter(self._network.parameters())).device
        return found

    @property
    def device_type(self) -> str:
        """Kind of device that computes: ``cpu``, ``cuda``, ``mps``."""
        return self.device.type

    def to(self, device: torch.device | str) -> Self:
        """Move the weights to ``device``, channels last, and return the model itself."""
        import torch

        self._network.to(resolve_device(str(device))).to(memory_format=torch.channels_last)
        return self

    def in_precision(self, precision: Precision) -> Self:
        """Return a model with the same network that computes in ``precision``."""
        if precision == self.precision:
            return self
        changed: Self = dataclasses.replace(cast("Any", self), precision=precision)
        return changed

    def with_preprocess(self, preprocess: Preprocess) -> Self:
        """Return a model with the same network for views that another record makes, of any size."""
        changed: Self = dataclasses.replace(cast("Any", self), preprocess=preprocess)
        return changed

    def weights_sha256(self) -> str:
        """Return the SHA-256 of the architecture and of every tensor of the state dict, by name."""
        digest = hashlib.sha256(json.dumps(self._network.spec.to_dict(), sort_keys=True).encode())
        for name, tensor in self._network.state_dict().items():
            digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()
