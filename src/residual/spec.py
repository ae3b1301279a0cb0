"""An architecture as a value: ``ResNetSpec`` says everything about a network, without torch.

A spec knows its own layers, so depth, parameters and multiply-adds (MACs) are sums over
:meth:`ResNetSpec.layers`, and :class:`residual.nn.ResNet` is built from the same
:meth:`ResNetSpec.units`. It holds no weights and says nothing about training or preprocessing.

Source: He et al. 2015, "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), section 3.3,
Table 1 (ImageNet) and section 4.2 (CIFAR-10); He et al. 2016, "Identity Mappings in Deep Residual
Networks" (arXiv 1603.05027), figure 4 and Table 2 (arrangements).

Example:
    >>> spec = ResNetSpec(unit="basic", depths=(2, 2, 2, 2))
    >>> spec.num_layers, spec.num_parameters, spec.num_macs(input_px=224)
    (18, 11689512, 1814073344)
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, assert_never, get_args

from residual.errors import ConfigurationError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "Arrangement",
    "Convolution",
    "Layer",
    "ResNetSpec",
    "Shortcut",
    "ShortcutForm",
    "Stem",
    "StrideOn",
    "Unit",
    "UnitShape",
    "shortcut_form",
]

Unit: TypeAlias = Literal["basic", "bottleneck"]
"""Two 3×3 convolutions, or 1×1 – 3×3 – 1×1 (2015, figure 5)."""

Stem: TypeAlias = Literal["imagenet", "cifar"]
"""7×7/2 convolution and 3×3/2 max-pooling, or one 3×3 convolution (2015, sections 3.3 and 4.2)."""

Shortcut: TypeAlias = Literal["none", "A", "A-both-sides", "B", "C"]
"""none: a plain net. A: zero-padded identity, zeros after the channels as in fb.resnet.torch; A-both-sides:
half of the zeros before them, as in the CIFAR networks of akamaster/pytorch_resnet_cifar10. B: projection
where the shape changes; C: everywhere."""

ShortcutForm: TypeAlias = Literal["none", "identity", "pad", "pad-both-sides", "projection"]
"""What a shortcut kind amounts to at one unit."""

StrideOn: TypeAlias = Literal["1x1", "3x3"]
"""Which convolution of a bottleneck halves the map: the first 1×1 (the paper, "v1") or the 3×3 ("v1.5")."""

Arrangement: TypeAlias = Literal[
    "original", "bn-after-addition", "relu-before-addition", "relu-only-preactivation", "full-preactivation"
]
"""Where BN and ReLU stand in a unit (2016, figure 4 a to e and Table 2)."""

_MAX_CLASSES = 1_000_000
_MAX_CHANNELS = 65_536
_MAX_UNITS = 10_000
_MAX_PARAMETERS = 4_000_000_000  # 16 GB of float32; the largest network of the papers has 0.1 G (R152 C)


@dataclass(frozen=True)
class UnitShape:
    """Where one residual unit sits and what it maps: ``(N, in, H, W)`` → ``(N, out, H/stride, W/stride)``."""

    name: str
    in_channels: int
    width: int
    out_channels: int
    stride: int

    @property
    def is_first(self) -> bool:
        """Whether this is the first unit of the network."""
        return self.name == "layer1.0"


@dataclass(frozen=True)
class Convolution:
    """One convolution of a unit's main path, without bias, padded to keep the map but for its stride."""

    in_channels: int
    out_channels: int
    kernel_px: int
    stride: int
    groups: int


@dataclass(frozen=True)
class Layer:
    """One layer with parameters, in order of execution.

    Attributes:
        name: Name of the module in the state dict.
        kind: ``conv`` (without bias), ``bn`` or ``linear`` (with bias).
        in_channels: Channels or features read.
        out_channels: Channels or features written.
        kernel_px: Side of the square kernel; 1 for ``bn`` and ``linear``.
        out_px: Side of the square output map; 1 for ``linear``.
        groups: Groups of a convolution.
    """

    name: str
    kind: Literal["conv", "bn", "linear"]
    in_channels: int
    out_channels: int
    kernel_px: int
    out_px: int
    groups: int = 1

    @property
    def num_parameters(self) -> int:
        """Learned numbers: weights, and scale and shift of a BN; running statistics are not counted."""
        match self.kind:
            case "conv":
                return self.in_channels // self.groups * self.out_channels * self.kernel_px**2
            case "bn":
                return 2 * self.out_channels
            case "linear":
                return (self.in_channels + 1) * self.out_channels
            case _:
                assert_never(self.kind)

    @property
    def num_macs(self) -> int:
        """Multiply-adds for one image, of convolutions and the classifier only (as the papers count)."""
        match self.kind:
            case "conv":
                return self.num_parameters * self.out_px**2
            case "bn":
                return 0
            case "linear":
                return self.in_channels * self.out_channels
            case _:
                assert_never(self.kind)


def shortcut_form(kind: Shortcut, in_channels: int, out_channels: int, stride: int) -> ShortcutForm:
    """Return what shortcut ``kind`` amounts to at a unit of this shape (2015, section 3.3 and Table 3)."""
    same_shape = in_channels == out_channels and stride == 1
    match kind:
        case "none":
            return "none"
        case "A":
            return "identity" if same_shape else "pad"
        case "A-both-sides":
            return "identity" if same_shape else "pad-both-sides"
        case "B":
            return "identity" if same_shape else "projection"
        case "C":
            return "projection"
        case _:
            assert_never(kind)


@dataclass(frozen=True)
class ResNetSpec:
    """Everything that defines a network of the family, and nothing else.

    Attributes:
        unit: Kind of residual unit.
        depths: Number of units in each stage; every stage but the first halves the map.
        widths: Channels inside the units of each stage; a bottleneck puts out four times as many.
        stem: Layers before the first stage.
        shortcut: Kind of shortcut; ``none`` makes the plain twin with the same parameters as option A.
        stride_on: Convolution of a bottleneck that strides. Basic units stride on their first 3×3.
        arrangement: Where BN and ReLU stand in a unit.
        groups: Groups of the 3×3 of a bottleneck (ResNeXt: Xie et al. 2017, arXiv 1611.05431).
        inner_multiplier: Channels inside a bottleneck over the stage's width: 2 in Wide ResNet-50-2
            (Zagoruyko and Komodakis 2016, arXiv 1605.07146) and in ResNeXt-50 32×4d.
        num_classes: Number of rows of the classifier.
        in_channels: Channels of the input image.

    Raises:
        ConfigurationError: A field is out of range, naming the field.
    """

    unit: Unit
    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    stem: Stem = "imagenet"
    shortcut: Shortcut = "B"
    stride_on: StrideOn = "3x3"
    arrangement: Arrangement = "original"
    groups: int = 1
    inner_multiplier: int = 1
    num_classes: int = 1000
    in_channels: int = 3

    def __post_init__(self) -> None:
        for field, allowed in (
            ("unit", Unit),
            ("stem", Stem),
            ("shortcut", Shortcut),
            ("stride_on", StrideOn),
            ("arrangement", Arrangement),
        ):
            value = getattr(self, field)
            if value not in get_args(allowed):
                raise ConfigurationError(
                    f"{field} is {value!r}", expected=f"one of {', '.join(get_args(allowed))}"
                )
        if len(self.depths) != len(self.widths) or not 1 <= len(self.depths) <= 8:
            raise ConfigurationError(
                f"depths has {len(self.depths)} stages and widths has {len(self.widths)}",
                expected="the same number of stages in both, from 1 to 8",
            )
        for depth in self.depths:
            _check_range("depths", depth, 1, _MAX_UNITS)
        for width in self.widths:
            _check_range("widths", width, 1, _MAX_CHANNELS)
        _check_range("groups", self.groups, 1, _MAX_CHANNELS)
        _check_range("inner_multiplier", self.inner_multiplier, 1, 64)
        if self.unit == "basic" and (self.groups, self.inner_multiplier) != (1, 1):
            raise ConfigurationError(
                f"groups is {self.groups} and inner_multiplier is {self.inner_multiplier} in basic units",
                expected="1 and 1",
                remedy="use bottleneck units",
            )
        if any(width * self.inner_multiplier % self.groups for width in self.widths):
            raise ConfigurationError(
                f"widths {list(self.widths)} times inner_multiplier {self.inner_multiplier} do not divide "
                f"into {self.groups} groups",
                expected="whole numbers of channels a group",
            )
        _check_range("num_classes", self.num_classes, 1, _MAX_CLASSES)
        _check_range("in_channels", self.in_channels, 1, _MAX_CHANNELS)
        if sum(self.depths) > _MAX_UNITS or self.num_parameters > _MAX_PARAMETERS:
            raise ConfigurationError(
                f"the network would have {sum(self.depths):,} units",
                expected=f"at most {_MAX_UNITS:,} units and {_MAX_PARAMETERS:,} parameters",
            )

    # -- shape ---------------------------------------------------------------------------------------

    @property
    def expansion(self) -> int:
        """Output channels of a unit over its width: 1 for basic, 4 for bottleneck (2015, Table 1)."""
        return 4 if self.unit == "bottleneck" else 1

    @property
    def num_features(self) -> int:
        """Channels of the last map, which is what the classifier reads."""
        return self.widths[-1] * self.expansion

    @property
    def num_layers(self) -> int:
        """Depth as the papers count it: the weighted layers of the main path, without projections."""
        return 2 + sum(self.depths) * (3 if self.unit == "bottleneck" else 2)

    @property
    def is_preactivated(self) -> bool:
        """Whether units begin with BN and ReLU, which moves BN from the stem to the end of the network."""
        return self.arrangement == "full-preactivation"

    @property
    def has_stem_bn(self) -> bool:
        """Whether BN and ReLU follow the first convolution.

        In pre-activated CIFAR networks the first unit begins with them (2016, appendix); in those for
        ImageNet they stay, because the max-pooling lies between.
        """
        return self.stem == "imagenet" or not self.is_preactivated

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages, as in the state dict: ``layer1``, ``layer2`` and so on."""
        return tuple(f"layer{stage}" for stage in range(1, len(self.depths) + 1))

    def units(self) -> Iterator[UnitShape]:
        """Yield the shape of every unit, from the stem to the classifier."""
        channels = self.widths[0]
        for stage, (name, depth, width) in enumerate(
            zip(self.stage_names, self.depths, self.widths, strict=True)
        ):
            for index in range(depth):
                stride = 2 if stage > 0 and index == 0 else 1
                out_channels = width * self.expansion
                inner = width * self.inner_multiplier
                yield UnitShape(f"{name}.{index}", channels, inner, out_channels, stride)
                channels = out_channels

    def convolutions(self, unit: UnitShape) -> list[Convolution]:
        """Return the convolutions of a unit's main path, in order."""
        match self.unit:
            case "basic":
                return [
                    Convolution(unit.in_channels, unit.width, 3, unit.stride, 1),
                    Convolution(unit.width, unit.out_channels, 3, 1, 1),
                ]
            case "bottleneck":
                first, second = (unit.stride, 1) if self.stride_on == "1x1" else (1, unit.stride)
                return [
                    Convolution(unit.in_channels, unit.width, 1, first, 1),
                    Convolution(unit.width, unit.width, 3, second, self.groups),
                    Convolution(unit.width, unit.out_channels, 1, 1, 1),
                ]
            case _:
                assert_never(self.unit)

    # -- size ----------------------------------------------------------------------------------------

    def layers(self, input_px: int) -> Iterator[Layer]:
        """Yield every layer with parameters for a square input of side ``input_px``, in pixels."""
        width = self.widths[0]
        kernel_px, px = (7, _halved(input_px)) if self.stem == "imagenet" else (3, input_px)
        yield Layer("conv1", "conv", self.in_channels, width, kernel_px, px)
        if self.has_stem_bn:
            yield Layer("bn1", "bn", width, width, 1, px)
        px = _halved(px) if self.stem == "imagenet" else px
        for unit in self.units():
            yield from self._unit_layers(unit, px)
            px = px if unit.stride == 1 else _halved(px)
        if self.is_preactivated:
            yield Layer("bn", "bn", self.num_features, self.num_features, 1, px)
        yield Layer("fc", "linear", self.num_features, self.num_classes, 1, 1)

    def _unit_layers(self, unit: UnitShape, px: int) -> Iterator[Layer]:
        for number, conv in enumerate(self.convolutions(unit), start=1):
            before_px, px = px, px if conv.stride == 1 else _halved(px)
            bn_channels, bn_px = (
                (conv.in_channels, before_px) if self.is_preactivated else (conv.out_channels, px)
            )
            bn = Layer(f"{unit.name}.bn{number}", "bn", bn_channels, bn_channels, 1, bn_px)
            if self.is_preactivated:
                yield bn
            yield Layer(
                f"{unit.name}.conv{number}",
                "conv",
                conv.in_channels,
                conv.out_channels,
                conv.kernel_px,
                px,
                conv.groups,
            )
            if not self.is_preactivated:
                yield bn
        if shortcut_form(self.shortcut, unit.in_channels, unit.out_channels, unit.stride) == "projection":
            yield Layer(f"{unit.name}.downsample.0", "conv", unit.in_channels, unit.out_channels, 1, px)
            if not self.is_preactivated:
                yield Layer(f"{unit.name}.downsample.1", "bn", unit.out_channels, unit.out_channels, 1, px)

    @property
    def num_parameters(self) -> int:
        """Number of learned parameters, in closed form."""
        return sum(layer.num_parameters for layer in self.layers(input_px=1))

    def num_macs(self, input_px: int) -> int:
        """Return the multiply-adds for one square image of side ``input_px``, in closed form."""
        return sum(layer.num_macs for layer in self.layers(input_px))

    # -- JSON ----------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ResNetSpec:
        """Build a spec from JSON types; unknown, missing and mistyped fields are errors.

        Raises:
            ConfigurationError: A field is unknown, missing, of the wrong type or out of range.
        """
        known = {field.name: field for field in dataclasses.fields(cls)}
        for name in fields:
            if name not in known:
                close = nearest(name, known) or list(known)
                raise ConfigurationError(f"unknown field {name!r} in the spec", expected=", ".join(close))
        values: dict[str, Any] = {}
        for name, field in known.items():
            if name not in fields:
                if field.default is dataclasses.MISSING:
                    raise ConfigurationError(f"the spec has no field {name!r}")
                continue
            value = fields[name]
            if name in ("depths", "widths"):
                if not isinstance(value, list | tuple) or not all(type(item) is int for item in value):
                    raise ConfigurationError(f"{name} is {value!r}", expected="a list of whole numbers")
                value = tuple(value)
            elif name in ("num_classes", "in_channels", "groups", "inner_multiplier"):
                if type(value) is not int:
                    raise ConfigurationError(f"{name} is {value!r}", expected="a whole number")
            elif not isinstance(value, str):
                raise ConfigurationError(f"{name} is {value!r}", expected="a string")
            values[name] = value
        return cls(**values)


def _halved(px: int) -> int:
    # Kernel k with padding (k - 1) / 2 and stride 2 gives floor((px - 1) / 2) + 1 for every odd k.
    return (px - 1) // 2 + 1


def _check_range(field: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ConfigurationError(f"{field} holds {value!r}", expected=f"{low:,} to {high:,}")
