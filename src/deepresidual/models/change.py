"""Give a model another classifier or another number of input channels."""

from __future__ import annotations

import dataclasses

import torch

from deepresidual.backends.pytorch import TorchClassifier
from deepresidual.errors import ConfigurationError
from deepresidual.models.network import first_network
from deepresidual.nn import empty_network
from deepresidual.preprocess import Preprocess


def changed(
    model: TorchClassifier, num_classes: int | None, in_channels: int | None, seed: int = 0
) -> tuple[TorchClassifier, tuple[str, ...]]:
    """Return the model with the requested head or input, and what changed, one clause each.

    Args:
        model: The model; it is returned itself where nothing changes.
        num_classes: Rows of the classifier; another number than it has gives a new one, drawn from ``seed``;
            0 takes it off. ``None``: as it is.
        in_channels: 1 for gray images: the weights of the first convolution are summed over the colours; 3
            the other way. ``None``: as it is.
        seed: Of a new classifier.

    Raises:
        ConfigurationError: ``in_channels`` is neither 1 nor 3.
    """
    changes = []
    spec, state, labels, preprocess = (
        model.spec,
        dict(model.network.state_dict()),
        model.label_names,
        model.preprocess,
    )
    if num_classes is not None and num_classes != spec.num_classes:
        wanted = dataclasses.replace(spec, num_classes=num_classes)
        fresh = first_network(wanted, seed).fc.state_dict()
        state = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
        state |= {f"fc.{name}": tensor for name, tensor in fresh.items()}
        if num_classes:
            before = f"for {spec.num_classes}" if spec.num_classes else "where there was none"
            changes.append(f"a new classifier of {num_classes} rows, randomly initialized, {before}")
        else:
            changes.append(f"the classifier of {spec.num_classes} rows taken off")
        labels = tuple(str(row) for row in range(num_classes))
    if in_channels is not None and in_channels != spec.in_channels:
        if in_channels not in (1, 3):
            raise ConfigurationError(f"in_channels is {in_channels}", expected="1 or 3")
        state["conv1.weight"] = _adapted(state["conv1.weight"], in_channels)
        preprocess = _adapted_preprocess(preprocess, in_channels)
        changes.append(f"conv1 adapted from {spec.in_channels} input channels to {in_channels}")
    if not changes:
        return model, ()
    new = dataclasses.replace(
        spec,
        num_classes=spec.num_classes if num_classes is None else num_classes,
        in_channels=in_channels or spec.in_channels,
    )
    network = empty_network(new)
    network.load_state_dict(state)
    provenance = {**model.provenance, "changed after the comparison": "; ".join(changes)}
    # What was measured was another network.
    return TorchClassifier(network.eval(), labels, preprocess, provenance=provenance), tuple(changes)


def _adapted(weight: torch.Tensor, in_channels: int) -> torch.Tensor:
    """Return conv1's weight for other channels: gray gives what three equal colours gave."""
    total = weight.sum(dim=1, keepdim=True)
    return total if in_channels == 1 else total.repeat(1, in_channels, 1, 1) / in_channels


def _adapted_preprocess(preprocess: Preprocess, in_channels: int) -> Preprocess:
    gray = preprocess.in_gray()
    if in_channels == 1:
        return gray
    return dataclasses.replace(gray, channels="rgb", mean=gray.mean * 3, std=gray.std * 3)
