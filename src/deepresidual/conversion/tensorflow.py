"""The article's TensorFlow code: checkpoints of its ResNet-50, recognized by the names of their variables.

Variables are ``resnet50/conv1/kernel``, ``resnet50/bn1/gamma``, ``resnet50/block2/bottlencek1/conv_1/kernel``
(spelled so there), ``conv_4`` and ``bn_4`` for the shortcut, and ``resnet50/fc6/weight``; the scope may be
another one, or none. The code ends in a 7×7 average pooling without padding, and so has one value a channel
only where the last map is 7 px; there the network here is the same function.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor

from deepresidual.conversion.ecosystem import Ecosystem, ForeignCheckpoint, Recognition
from deepresidual.conversion.readers.tensorflow_checkpoint import reason_left_out
from deepresidual.conversion.translation import Rule, Translation, num_batches_tracked
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.spec import ResNetSpec
from deepresidual.zoo import entry

_ROW = "resnet50.tf"
_UNIT = re.compile(r"((?:.+/)?)block([2-9])/(bottlen(?:ce|ec)k)([1-9]\d{0,3})/conv_1/kernel")
_BN = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


class _Names(NamedTuple):
    """Names that vary between checkpoints of the code."""

    scope: str = "resnet50/"
    unit: str = "bottlencek"
    fc_weight: str = "weight"
    fc_bias: str = "bias"


class TensorFlow(Ecosystem):
    """The ResNet-50 of the article, in TensorFlow 1."""

    name = "tensorflow"

    def recognize(self, checkpoint: ForeignCheckpoint) -> Recognition | None:
        """Return the article's network, with as many units and classes as the variables say."""
        if checkpoint.format != "tensorflow":
            return None
        names = _names(checkpoint.tensors)
        if names is None:
            return None
        row = entry(_ROW)
        kernel = _shape(checkpoint, f"{names.scope}conv1/kernel", 4)
        weight = _shape(checkpoint, f"{names.scope}fc6/{names.fc_weight}", 2)
        depths = _depths(checkpoint.tensors, names)
        if len(depths) != len(row.spec.widths) or not all(depths):
            raise ModelFileError(
                f"{checkpoint.path}: block2, block3 and so on have {list(depths)} units",
                expected="block2 to block5 with at least one unit each",
            )
        try:
            spec = dataclasses.replace(row.spec, depths=depths, num_classes=weight[1], in_channels=kernel[2])
        except ConfigurationError as error:
            raise ModelFileError(f"{checkpoint.path}: {error}") from error
        return Recognition(
            spec,
            f"variable names such as {names.scope}block2/{names.unit}1/conv_1/kernel",
            row.preprocess.in_gray() if spec.in_channels == 1 else row.preprocess,
            assumed=(
                "images are prepared with ImageNet's mean and standard deviation; the article does not say",
                *_averages_assumed(checkpoint),
            ),
        )

    def translation(self, spec: ResNetSpec, checkpoint: ForeignCheckpoint | None = None) -> Translation:
        """Return the article's names, in the scope that the checkpoint has."""
        _check(spec)
        names = (None if checkpoint is None else _names(checkpoint.tensors)) or _Names()
        rules: list[Rule] = []
        for layer in spec.layers(input_px=224):
            source = names.scope + _source(layer.name, names.unit)
            match layer.kind:
                case "conv":
                    rules.append(Rule(f"{layer.name}.weight", f"{source}/kernel", "conv-hwio"))
                case "bn":
                    rules += [
                        Rule(f"{layer.name}.{ours}", f"{source}/{theirs}") for theirs, ours in _BN.items()
                    ]
                case "linear":
                    rules.append(Rule(f"{layer.name}.weight", f"{source}/{names.fc_weight}", "linear-io"))
                    rules.append(Rule(f"{layer.name}.bias", f"{source}/{names.fc_bias}"))
        used = {rule.source for rule in rules}
        present = {} if checkpoint is None else checkpoint.tensors
        dropped = {
            name: reason
            for name, tensor in present.items()
            if name not in used and (reason := _reason(name, tensor))
        }
        counters = (
            f"{layer.name}.num_batches_tracked" for layer in spec.layers(input_px=224) if layer.kind == "bn"
        )
        return Translation(tuple(rules), dropped=dropped, filled=num_batches_tracked(counters))


def _names(variables: Iterable[str]) -> _Names | None:
    variables = set(variables)
    found = [match for match in map(_UNIT.fullmatch, sorted(variables)) if match]
    if not found:
        return None
    scope, unit = found[0][1], found[0][3]
    weight, bias = (
        plural if f"{scope}fc6/{plural}" in variables else single
        for single, plural in (("weight", "weights"), ("bias", "biases"))
    )
    return _Names(scope, unit, weight, bias)


def _averages_assumed(checkpoint: ForeignCheckpoint) -> tuple[str, ...]:
    """Return the assumption where each weight is there twice."""
    names = (*checkpoint.tensors, *checkpoint.metadata.get("not_weights", {}))
    if not any(name.endswith("/ExponentialMovingAverage") for name in names):
        return ()
    return ("the weights are read as the last step left them, not their exponential moving averages",)


def _shape(checkpoint: ForeignCheckpoint, variable: str, axes: int) -> tuple[int, ...]:
    tensor = checkpoint.tensors.get(variable)
    if tensor is None or tensor.ndim != axes:
        found = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
        raise ModelFileError(f"{checkpoint.path}: {variable} {found}", expected=f"{axes} axes")
    return tuple(tensor.shape)


def _depths(variables: Iterable[str], names: _Names) -> tuple[int, ...]:
    """Return the number of units in each block; one that leaves a gap shows as missing tensors later."""
    units = [match for match in map(_UNIT.fullmatch, variables) if match and match[1] == names.scope]
    depths = [0] * (max(int(match[2]) for match in units) - 1)
    for match in units:
        depths[int(match[2]) - 2] += 1
    return tuple(depths)


def _source(module: str, unit: str) -> str:
    """Return the scope of a layer there: ``layer1.0.conv2`` → ``block2/bottlencek1/conv_2``."""
    if "." not in module:
        return "fc6" if module == "fc" else module
    stage, index, layer = module.split(".", maxsplit=2)
    inner = {"downsample.0": "conv_4", "downsample.1": "bn_4"}.get(layer, f"{layer[:-1]}_{layer[-1]}")
    return f"block{int(stage.removeprefix('layer')) + 1}/{unit}{int(index) + 1}/{inner}"


def _reason(variable: str, tensor: Tensor) -> str:
    """Return why a variable is not needed; nothing where it is not known."""
    if tensor.ndim == 0:
        return reason_left_out(variable) or "single numbers, which are no weights of the network"
    return reason_left_out(variable)


def _check(spec: ResNetSpec) -> None:
    free = ("depths", "num_classes", "in_channels", "initialization", "bn_momentum")
    differing = spec.differences(entry(_ROW).spec, ignoring=free)
    if differing:
        raise ConfigurationError(
            f"the article's code has no such network: {', '.join(differing)}", expected=_ROW
        )
