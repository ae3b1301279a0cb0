"""A network stage by stage, as the papers' tables of architectures show it (2015, Table 1).

The rows are sums over :meth:`deepresidual.spec.ResNetSpec.layers`, so their parameters and multiply-adds add
up to the network's.

Example:
    >>> from deepresidual.zoo import entry
    >>> [(row.name, row.output_px, row.num_units) for row in stages(entry("resnet50").spec, 224)][:3]
    [('conv1', 112, 1), ('pool', 56, 1), ('layer1', 56, 3)]
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepresidual.errors import ConfigurationError
from deepresidual.spec import shortcut_form

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deepresidual.spec import Convolution, Layer, ResNetSpec

__all__ = ["Stage", "stages"]

_MAX_PX = 65_536


@dataclass(frozen=True)
class Stage:
    """One row of the table.

    Attributes:
        name: Name of the module: ``conv1``, ``pool``, ``layer1`` and so on, ``fc``.
        paper_name: What the paper's Table 1 calls a stage of units, ``conv2_x``; empty for the others and
            in CIFAR networks, which the paper tells apart by the size of the map.
        output_px: Side of the square map that it writes.
        output_channels: Channels that it writes.
        layers: Layers of one unit, in order: ``1×1, 64``, ``3×3, 64``, ``1×1, 256``.
        num_units: How many units like this follow each other; 1 for what is no stage of units.
        stride: Pixels that it reads for one that it writes.
        shortcuts: Form of the shortcut → number of units that have it.
        num_parameters: Learned numbers.
        num_macs: Multiply-adds for one image.
    """

    name: str
    paper_name: str
    output_px: int
    output_channels: int
    layers: tuple[str, ...]
    num_units: int
    stride: int
    shortcuts: Mapping[str, int]
    num_parameters: int
    num_macs: int


def stages(spec: ResNetSpec, input_px: int) -> tuple[Stage, ...]:
    """Return the table of ``spec`` for a square image of side ``input_px``, in pixels.

    Raises:
        ConfigurationError: ``input_px`` is not a size of an image.
    """
    if not 1 <= input_px <= _MAX_PX:
        raise ConfigurationError(f"the image size is {input_px} px", expected=f"1 to {_MAX_PX:,} px")
    by_stage: dict[str, list[Layer]] = {}
    for layer in spec.layers(input_px):
        stage = layer.name.split(".")[0]
        # Of a pre-activated net the last BN comes before the average; the classifier's row has both.
        by_stage.setdefault({"bn1": "conv1", "bn": "fc"}.get(stage, stage), []).append(layer)
    return (
        *_stem(spec, by_stage["conv1"]),
        *(_stage(spec, number, by_stage[name]) for number, name in enumerate(spec.stage_names)),
        _classifier(spec, by_stage["fc"]),
    )


def _stem(spec: ResNetSpec, layers: list[Layer]) -> list[Stage]:
    conv = layers[0]
    channels, px = conv.out_channels, conv.out_px
    text = f"{conv.kernel_px}×{conv.kernel_px}, {channels}"
    stride = 2 if spec.stem == "imagenet" else 1
    rows = [Stage("conv1", "", px, channels, (text,), 1, stride, {}, *_counts(layers))]
    if spec.stem == "imagenet":
        rows.append(Stage("pool", "", spec.pooled_px(px), channels, ("3×3 max-pooling",), 1, 2, {}, 0, 0))
    return rows


def _stage(spec: ResNetSpec, number: int, layers: list[Layer]) -> Stage:
    name = spec.stage_names[number]
    units = [unit for unit in spec.units() if unit.stage == name]
    forms = (shortcut_form(spec.shortcut, unit.in_channels, unit.out_channels, unit.stride) for unit in units)
    stride = 1
    for unit in units:
        stride *= unit.stride
    return Stage(
        name=name,
        paper_name=f"conv{number + 2}_x" if spec.stem == "imagenet" else "",
        output_px=layers[-1].out_px,
        output_channels=units[-1].out_channels,
        # The last unit, whose input is as wide as the stage.
        layers=tuple(_text(conv) for conv in spec.convolutions(units[-1])),
        num_units=len(units),
        stride=stride,
        shortcuts=dict(Counter(forms)) if spec.shortcut != "none" else {},
        num_parameters=_counts(layers)[0],
        num_macs=_counts(layers)[1],
    )


def _text(conv: Convolution) -> str:
    text = f"{conv.kernel_px}×{conv.kernel_px}, {conv.out_channels}"
    if conv.groups > 1:
        text += f", {conv.groups} groups"
    return text if conv.dilation == 1 else f"{text}, dilation {conv.dilation}"


def _classifier(spec: ResNetSpec, layers: list[Layer]) -> Stage:
    texts = (spec.pooling, f"fc, {spec.num_classes}")
    return Stage("fc", "", 1, spec.num_classes, texts, 1, 1, {}, *_counts(layers))


def _counts(layers: list[Layer]) -> tuple[int, int]:
    return sum(layer.num_parameters for layer in layers), sum(layer.num_macs for layer in layers)
