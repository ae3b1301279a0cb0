"""Read an architecture off the names and shapes of a state dict with torchvision's names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.conversion.translation import Rule, Translation, num_batches_tracked
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.spec import ResNetSpec, Shortcut

_UNIT = re.compile(r"layer(\d{1,2})\.(\d{1,5})\.(.+)")
_STEM = re.compile(r"(conv1\.weight|bn1\.(weight|bias|running_mean|running_var|num_batches_tracked))")
_PART = re.compile(
    r"(conv[123]\.weight|(bn[123]|downsample\.1)\.(weight|bias|running_mean|running_var|num_batches_tracked)"
    r"|downsample\.0\.weight)"
)


def read_architecture(tensors: Mapping[str, Tensor], path: Path, classifier: str = "fc") -> ResNetSpec | None:
    """Return the spec of a network with torchvision's names, or ``None`` where the names are others.

    Args:
        tensors: State dict, without prefix.
        path: The file, for messages.
        classifier: Name of the linear layer; where it is absent the network is a backbone of 0 classes.

    Raises:
        ModelFileError: The names are torchvision's, and the network is not one that Residual has.
    """
    if "conv1.weight" not in tensors or "layer1.0.conv1.weight" not in tensors:
        return None
    units: dict[int, set[int]] = {}
    for name in tensors:
        match = _UNIT.fullmatch(name)
        known = _PART.fullmatch(match[3]) if match else _STEM.fullmatch(name)
        if not known and name not in (f"{classifier}.weight", f"{classifier}.bias"):
            raise ModelFileError(
                f"{path} has torchvision's names and a tensor that its networks do not have ({name[:100]})",
                expected="ResNet, ResNeXt or Wide ResNet",
            )
        if match:
            units.setdefault(int(match[1]), set()).add(int(match[2]))
    stages = sorted(units)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if stages != list(range(1, len(stages) + 1)) or any(
        units[stage] != set(range(len(units[stage]))) for stage in stages
    ):
        raise ModelFileError(f"{path} has units with gaps between their numbers")
    try:
        bottleneck = "layer1.0.conv3.weight" in shapes
        firsts = [f"layer{stage}.0" for stage in stages]
        expansion = 4 if bottleneck else 1
        last = "conv3" if bottleneck else "conv2"
        widths = tuple(shapes[f"{first}.{last}.weight"][0] // expansion for first in firsts)
        inner = shapes["layer1.0.conv1.weight"][0]
        groups = inner // shapes["layer1.0.conv2.weight"][1]
        stem = shapes["conv1.weight"]
        return ResNetSpec(
            unit="bottleneck" if bottleneck else "basic",
            depths=tuple(len(units[stage]) for stage in stages),
            widths=widths,
            stem="imagenet" if stem[2] == 7 else "cifar",
            shortcut=_shortcut(set(shapes), bottleneck),
            groups=groups if bottleneck else 1,
            inner_multiplier=inner // widths[0] if bottleneck else 1,
            num_classes=num_rows(shapes, classifier),
            in_channels=stem[1],
        )
    except (KeyError, IndexError, ZeroDivisionError, ConfigurationError) as error:
        raise ModelFileError(f"{path} is no network that Residual has ({error})") from error


def num_rows(shapes: Mapping[str, tuple[int, ...]], classifier: str) -> int:
    """Return the number of classes; 0 where there is no classifier."""
    if f"{classifier}.weight" not in shapes and f"{classifier}.bias" not in shapes:
        return 0
    rows = shapes[f"{classifier}.weight"][0]
    if rows == 0:
        raise ConfigurationError(f"{classifier}.weight has 0 rows", expected="1 or more")
    return rows


def _shortcut(names: set[str], bottleneck: bool) -> Shortcut:
    """Tell B from C by the second unit, which has a projection only in C; A has none at all."""
    if "layer1.1.downsample.0.weight" in names or (
        not bottleneck and "layer1.0.downsample.0.weight" in names
    ):
        return "C"
    return "B" if "layer2.0.downsample.0.weight" in names else "A"


def state_names(spec: ResNetSpec) -> list[str]:
    """Return the names of our state dict for a network of ``spec``."""
    names = []
    for layer in spec.layers(input_px=32):
        parts = ["weight"]
        if layer.kind == "bn":
            parts += ["bias", "running_mean", "running_var", "num_batches_tracked"]
        elif layer.bias:
            parts.append("bias")
        names += [f"{layer.name}.{part}" for part in parts]
    return names


def torchvision_translation(
    spec: ResNetSpec, classifier: str, checkpoint: ForeignCheckpoint | None
) -> Translation:
    """Return the translation to torchvision's names, which are ours except the classifier's."""
    return counted(
        [
            Rule(name, f"{classifier}.{name.removeprefix('fc.')}" if name.startswith("fc.") else name)
            for name in state_names(spec)
        ],
        checkpoint,
    )


def counted(rules: Iterable[Rule], checkpoint: ForeignCheckpoint | None) -> Translation:
    """Return the translation by ``rules`` without the counters of batches that an old file does not have.

    torch counts since 0.4.1, and frozen batch normalization does not; these counters become zero.
    """
    kept, missing = [], []
    for rule in rules:
        is_counter = rule.target.endswith(".num_batches_tracked")
        if is_counter and checkpoint is not None and rule.source not in checkpoint.tensors:
            missing.append(rule.target)
        else:
            kept.append(rule)
    return Translation(tuple(kept), filled=num_batches_tracked(missing))
