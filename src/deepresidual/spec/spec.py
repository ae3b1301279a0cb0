"""``ResNetSpec``: everything that defines a network of the family, as one frozen value.

Source: He et al. 2015, "Deep Residual Learning for Image Recognition" (arXiv 1512.03385), section 3.3,
Table 1 (ImageNet) and section 4.2 (CIFAR-10); He et al. 2016, "Identity Mappings in Deep Residual
Networks" (arXiv 1603.05027), figure 4 and Tables 1 and 2.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

from deepresidual.errors import ConfigurationError
from deepresidual.fields import check_fields, check_names
from deepresidual.spec.head import USUAL_HEAD, Head
from deepresidual.spec.kinds import (
    Arrangement,
    ConvBias,
    FirstActivation,
    Initialization,
    Padding,
    Shortcut,
    Stem,
    StrideIn,
    StrideOn,
    Unit,
)
from deepresidual.spec.layers import Convolution, Layer, UnitShape, shortcut_form

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

__all__ = ["ResNetSpec"]

_MAX_CLASSES = 1_000_000
_MAX_CHANNELS = 65_536
_MAX_UNITS = 10_000
_MAX_PARAMETERS = 4_000_000_000  # 16 GB of float32; the largest network of the papers has 0.1 G (R152 C)
_STAGES = {"expected": "whole numbers, one a stage"}
_GATES = ("exclusive-gating", "shortcut-only-gating")


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
        stride_in: Unit of a stage that strides.
        arrangement: Where BN and ReLU stand in a unit.
        first_activation: Where the first BN and ReLU of a full pre-activation net stand.
        groups: Groups of the 3×3 of a bottleneck (ResNeXt: Xie et al. 2017, arXiv 1611.05431).
        inner_multiplier: Channels inside a bottleneck over the stage's width: 2 in Wide ResNet-50-2
            (Zagoruyko and Komodakis 2016, arXiv 1605.07146) and in ResNeXt-50 32×4d.
        conv_bias: Which convolutions have a bias.
        padding: Whose rule pads.
        bn_eps: What BN adds to the variance.
        bn_momentum: Weight of the new batch in BN's running statistics; 1 − the decay of TensorFlow.
        shortcut_scale: λ of a ``scaled`` shortcut.
        residual_scale: μ of a ``scaled`` shortcut, which multiplies F(x).
        gate_bias: First bias b of the gates; a negative one opens the shortcut (2016, section 3.1).
        output_stride: Pixels of the input a pixel of the last map; stages that would pass it dilate their
            3×3 convolutions instead of striding. ``None``: all stages stride (32 for ImageNet's stem).
        initialization: Distribution of the first weights.
        zero_init_last_bn: Whether the last BN of every F starts at zero, so that units start as identities
            (Goyal et al. 2017, arXiv 1706.02677, section 5.1). Refused where they could not leave that state,
            see :attr:`why_no_zero_init`.
        stochastic_depth: Probability that training drops the last unit's F(x); that of the l-th of L units is
            l / L of it (Huang et al. 2016, arXiv 1603.09382, equation 4); survivors are scaled up.
        activation_checkpointing: Whether training keeps only each unit's input and computes the rest again.
        num_classes: Number of rows of the classifier; 0 for a backbone, which has none and returns features.
        in_channels: Channels of the input image.
        head: What the classifier reads of the maps. Default: the mean of the last.

    Raises:
        ConfigurationError: A field is out of range, naming the field.
    """

    unit: Unit
    depths: tuple[int, ...] = dataclasses.field(metadata=_STAGES)
    widths: tuple[int, ...] = dataclasses.field(default=(64, 128, 256, 512), metadata=_STAGES)
    stem: Stem = "imagenet"
    shortcut: Shortcut = "B"
    stride_on: StrideOn = "3x3"
    stride_in: StrideIn = "first"
    arrangement: Arrangement = "original"
    first_activation: FirstActivation = "unit"
    groups: int = 1
    inner_multiplier: int = 1
    conv_bias: ConvBias = "none"
    padding: Padding = "torch"
    bn_eps: float = 1e-5
    bn_momentum: float = 0.1
    shortcut_scale: float = 1.0
    residual_scale: float = 1.0
    gate_bias: float = 0.0
    output_stride: int | None = None
    initialization: Initialization = "he-fan-out"
    zero_init_last_bn: bool = False
    stochastic_depth: float = 0.0
    activation_checkpointing: bool = False
    num_classes: int = 1000
    in_channels: int = 3
    head: Head = dataclasses.field(default=USUAL_HEAD)

    def __post_init__(self) -> None:
        check_fields(self, as_json=True)
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
        _check_range("bn_eps", self.bn_eps, 1e-12, 1.0)
        _check_range("bn_momentum", self.bn_momentum, 0.0, 1.0)
        _check_range("stochastic_depth", self.stochastic_depth, 0.0, 0.99)
        for field in ("shortcut_scale", "residual_scale", "gate_bias"):
            _check_range(field, getattr(self, field), -1000.0, 1000.0)
        if any(width * self.inner_multiplier % self.groups for width in self.widths):
            raise ConfigurationError(
                f"widths {list(self.widths)} times inner_multiplier {self.inner_multiplier} do not divide "
                f"into {self.groups} groups",
                expected="whole numbers of channels a group",
            )
        _check_range("num_classes", self.num_classes, 0, _MAX_CLASSES)
        _check_range("in_channels", self.in_channels, 1, _MAX_CHANNELS)
        self._check_head()
        self._check_combinations()
        if sum(self.depths) > _MAX_UNITS or self.num_parameters > _MAX_PARAMETERS:
            raise ConfigurationError(
                f"the network would have {sum(self.depths):,} units",
                expected=f"at most {_MAX_UNITS:,} units and {_MAX_PARAMETERS:,} parameters",
            )

    def _check_head(self) -> None:
        stages = self.head.stages
        if stages != tuple(name for name in self.stage_names if name in stages):
            raise ConfigurationError(
                f"the head reads {', '.join(stages)}",
                expected=f"some of {', '.join(self.stage_names)}, in order",
            )
        # A stage behind all that are read would be computed for nothing.
        if stages and stages[-1] != self.stage_names[-1]:
            raise ConfigurationError(
                f"the head reads {', '.join(stages)}", expected=f"{self.stage_names[-1]}, the last stage, too"
            )
        if len(stages) == 1:
            # One way to say one thing, so that equal networks have equal specs.
            object.__setattr__(self, "head", dataclasses.replace(self.head, stages=()))

    def _check_combinations(self) -> None:
        """Refuse values that this network would ignore: they would say something that is not so."""
        if self.unit == "basic" and (self.groups, self.inner_multiplier) != (1, 1):
            raise ConfigurationError(
                f"groups is {self.groups} and inner_multiplier is {self.inner_multiplier} in basic units",
                expected="1 and 1",
                remedy="use bottleneck units",
            )
        if self.first_activation != "unit" and not self.is_preactivated:
            raise ConfigurationError(
                f"first_activation is {self.first_activation!r} and arrangement is {self.arrangement!r}",
                expected="'unit', but for full-preactivation",
            )
        if self.shortcut != "scaled" and (self.shortcut_scale, self.residual_scale) != (1, 1):
            raise ConfigurationError(
                f"shortcut_scale is {self.shortcut_scale} and residual_scale is {self.residual_scale} with "
                f"shortcut {self.shortcut!r}",
                expected="1 and 1, but for shortcut 'scaled'",
            )
        if self.shortcut not in _GATES and self.gate_bias != 0:
            raise ConfigurationError(
                f"gate_bias is {self.gate_bias} with shortcut {self.shortcut!r}",
                expected=f"0, but for shortcut {' and '.join(_GATES)}",
            )
        if self.shortcut == "none" and self.stochastic_depth:
            raise ConfigurationError(
                f"stochastic_depth is {self.stochastic_depth} in a plain net, which would drop everything",
                expected="0",
            )
        if self.zero_init_last_bn and (reason := self.why_no_zero_init):
            raise ConfigurationError(f"zero_init_last_bn is true and {reason}", expected="false")
        strides = [self._stem_stride * 2**stage for stage in range(len(self.depths))]
        if self.output_stride is not None and self.output_stride not in strides:
            raise ConfigurationError(
                f"output_stride is {self.output_stride}", expected=f"one of {', '.join(map(str, strides))}"
            )

    # -- shape ---------------------------------------------------------------------------------------

    @property
    def expansion(self) -> int:
        """Output channels of a unit over its width: 1 for basic, 4 for bottleneck (2015, Table 1)."""
        return 4 if self.unit == "bottleneck" else 1

    @property
    def out_channels(self) -> int:
        """Channels of the last map."""
        return self.widths[-1] * self.expansion

    @property
    def num_features(self) -> int:
        """Features of an image, which the classifier reads: a number for each statistic of each channel."""
        channels = dict(zip(self.stage_names, self.widths, strict=True))
        read = sum(channels[stage] for stage in self.head_stages)
        return read * self.expansion * len(self.head.statistics)

    @property
    def head_stages(self) -> tuple[str, ...]:
        """Names of the stages whose maps the classifier reads."""
        return self.head.stages or self.stage_names[-1:]

    @property
    def pooling(self) -> str:
        """What the classifier reads, in words: ``average pooling``, or statistics and stages."""
        if self.has_usual_head:
            return "average pooling"
        return f"{' and '.join(self.head.statistics)} of {', '.join(self.head_stages)}"

    @property
    def has_usual_head(self) -> bool:
        """Whether the classifier reads the mean of the last map, as in the papers."""
        return self.head == USUAL_HEAD

    @property
    def num_layers(self) -> int:
        """Depth as the papers count it: the weighted layers of the main path, classifier included."""
        return 2 + sum(self.depths) * (3 if self.unit == "bottleneck" else 2)

    @property
    def is_preactivated(self) -> bool:
        """Whether units begin with BN and ReLU, which moves the last BN to the end of the network."""
        return self.arrangement == "full-preactivation"

    @property
    def has_stem_bn(self) -> bool:
        """Whether BN and ReLU follow the first convolution."""
        return not self.is_preactivated or self.first_activation == "stem"

    @property
    def has_stem_bias(self) -> bool:
        """Whether the first convolution has a bias."""
        return self.conv_bias in ("stem", "all") or (
            self.conv_bias == "unnormalized" and not self.has_stem_bn
        )

    @property
    def has_projection_bias(self) -> bool:
        """Whether projections have a bias; no BN follows them in pre-activated nets."""
        return self.conv_bias == "all" or (self.conv_bias == "unnormalized" and self.is_preactivated)

    @property
    def has_gates(self) -> bool:
        """Whether every unit has a gate, a 1×1 convolution with bias (2016, section 3.1)."""
        return self.shortcut in _GATES

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages, as in the state dict: ``layer1``, ``layer2`` and so on."""
        return tuple(f"layer{stage}" for stage in range(1, len(self.depths) + 1))

    @property
    def stage_strides(self) -> tuple[int, ...]:
        """Pixels of the input a pixel of the map after each stage."""
        stride, strides = self._stem_stride, dict[str, int]()
        for unit in self.units():
            stride *= unit.stride
            strides[unit.stage] = stride
        return tuple(strides.values())

    @property
    def why_no_zero_init(self) -> str:
        """Return why the last BN of every F cannot start at zero in this network; empty: it can.

        A ReLU passes no gradient where its input is exactly zero. Where scale and shift of the last BN are
        zero and nothing is added before the ReLU that follows, neither they nor the layers before them ever
        get a gradient: in plain nets and with a ReLU before the addition all of F; with option A, and what
        2016 builds on it, the channels of zeros, which are half of the second stage and more of every later.
        """
        if self.is_preactivated or self.arrangement == "bn-after-addition":
            return f"arrangement is {self.arrangement!r}, where F does not end with BN"
        if self.shortcut == "none":
            return "shortcut is 'none': a plain net would put out zero and never learn"
        if self.arrangement == "relu-before-addition":
            return f"arrangement is {self.arrangement!r}, whose ReLU after the BN passes no gradient at zero"
        if self.shortcut == "scaled" and self.shortcut_scale == 0:
            return "shortcut_scale is 0: a net without a shortcut would put out zero and never learn"
        # A gate reads x itself, so without a ReLU between the units its gradient wakes the channels of zeros.
        if self.has_gates and self.arrangement == "relu-only-preactivation":
            return ""
        for unit in self.units():
            form = shortcut_form(self.shortcut, unit.in_channels, unit.out_channels, unit.stride)
            if form in ("pad", "pad-both-sides") and unit.out_channels > unit.in_channels:
                return (
                    f"shortcut {self.shortcut!r} pads with channels of zeros, which would stay zero for ever "
                    f"(ReLU passes no gradient at zero)"
                )
        return ""

    @property
    def architecture(self) -> ResNetSpec:
        """The same network without what only training sees; equal specs of this kind are one function."""
        return dataclasses.replace(
            self, zero_init_last_bn=False, stochastic_depth=0.0, activation_checkpointing=False
        )

    def differences(self, other: ResNetSpec, *, ignoring: Collection[str] = ()) -> list[str]:
        """Return ``field is a and there b`` for each field of the architecture in which ``other`` differs."""
        usual = {"head": USUAL_HEAD.to_dict()}
        here, there = ({**usual, **spec.architecture.to_dict()} for spec in (self, other))
        return [
            f"{name} is {here[name]!r} and there {there[name]!r}"
            for name in dataclasses.asdict(self)
            if name not in ignoring and here[name] != there[name]
        ]

    def begins_with_activation(self, unit: UnitShape) -> bool:
        """Return whether a unit of a full pre-activation net has its first BN and ReLU."""
        return self.is_preactivated and not (unit.is_first and self.first_activation == "stem")

    def units(self) -> Iterator[UnitShape]:
        """Yield the shape of every unit, from the stem to the classifier."""
        channels, total = self.widths[0], sum(self.depths)
        stride_so_far, dilation, number = self._stem_stride, 1, 0
        for stage, (name, depth, width) in enumerate(
            zip(self.stage_names, self.depths, self.widths, strict=True)
        ):
            for index in range(depth):
                number += 1
                strides = (
                    stage > 0 and index == 0
                    if self.stride_in == "first"
                    else stage < len(self.depths) - 1 and index == depth - 1
                )
                dilates = strides and stride_so_far == self.output_stride
                stride = 2 if strides and not dilates else 1
                out_channels = width * self.expansion
                yield UnitShape(
                    f"{name}.{index}",
                    channels,
                    width * self.inner_multiplier,
                    out_channels,
                    stride,
                    dilation,
                    dilation * 2 if dilates else dilation,
                    self.stochastic_depth * number / total,
                )
                channels = out_channels
                stride_so_far *= stride
                dilation *= 2 if dilates else 1

    def convolutions(self, unit: UnitShape) -> list[Convolution]:
        """Return the convolutions of a unit's main path, in order."""
        inner = self.conv_bias == "all"
        last = inner or (self.conv_bias == "unnormalized" and self.is_preactivated)
        match self.unit:
            case "basic":
                return [
                    Convolution(unit.in_channels, unit.width, 3, unit.stride, 1, unit.dilation, inner),
                    Convolution(unit.width, unit.out_channels, 3, 1, 1, unit.out_dilation, last),
                ]
            case "bottleneck":
                first, second = (unit.stride, 1) if self.stride_on == "1x1" else (1, unit.stride)
                return [
                    Convolution(unit.in_channels, unit.width, 1, first, bias=inner),
                    Convolution(unit.width, unit.width, 3, second, self.groups, unit.dilation, inner),
                    Convolution(unit.width, unit.out_channels, 1, 1, bias=last),
                ]
            case _:
                assert_never(self.unit)

    @property
    def _stem_stride(self) -> int:
        return 4 if self.stem == "imagenet" else 1

    # -- size ----------------------------------------------------------------------------------------

    def layers(self, input_px: int) -> Iterator[Layer]:
        """Yield every layer with parameters for a square input of side ``input_px``, in pixels."""
        width = self.widths[0]
        kernel_px, px = (7, _halved(input_px)) if self.stem == "imagenet" else (3, input_px)
        yield Layer("conv1", "conv", self.in_channels, width, kernel_px, px, bias=self.has_stem_bias)
        if self.has_stem_bn:
            yield Layer("bn1", "bn", width, width, 1, px)
        px = self.pooled_px(px)
        for unit in self.units():
            yield from self.unit_layers(unit, px)
            px = px if unit.stride == 1 else _halved(px)
        if self.is_preactivated:
            yield Layer("bn", "bn", self.out_channels, self.out_channels, 1, px)
        if self.num_classes:
            yield Layer("fc", "linear", self.num_features, self.num_classes, 1, 1, bias=True)

    def pooled_px(self, px: int) -> int:
        """Return the side of the map after the max-pooling, which CIFAR stems do not have."""
        if self.stem == "cifar":
            return px
        # Kernel 3 and stride 2 without padding, rounded up, gives ⌈(px − 3) / 2⌉ + 1.
        return max(px // 2, 1) if self.padding == "caffe" else _halved(px)

    def unit_layers(self, unit: UnitShape, px: int) -> Iterator[Layer]:
        """Yield the layers of a unit that reads a map of side ``px``."""
        for number, conv in enumerate(self.convolutions(unit), start=1):
            before_px, px = px, px if conv.stride == 1 else _halved(px)
            name = f"{unit.name}.bn{number}"
            if self.is_preactivated and (number > 1 or self.begins_with_activation(unit)):
                yield Layer(name, "bn", conv.in_channels, conv.in_channels, 1, before_px)
            yield Layer(
                f"{unit.name}.conv{number}",
                "conv",
                conv.in_channels,
                conv.out_channels,
                conv.kernel_px,
                px,
                conv.groups,
                conv.bias,
            )
            if not self.is_preactivated:
                yield Layer(name, "bn", conv.out_channels, conv.out_channels, 1, px)
        channels = (unit.in_channels, unit.out_channels)
        if shortcut_form(self.shortcut, *channels, unit.stride) == "projection":
            name = f"{unit.name}.downsample"
            yield Layer(f"{name}.0", "conv", *channels, 1, px, bias=self.has_projection_bias)
            if not self.is_preactivated:
                yield Layer(f"{name}.1", "bn", unit.out_channels, unit.out_channels, 1, px)
        if self.has_gates:
            yield Layer(f"{unit.name}.addition.gate", "conv", *channels, 1, px, bias=True)

    @property
    def num_parameters(self) -> int:
        """Number of learned parameters, in closed form."""
        return sum(layer.num_parameters for layer in self.layers(input_px=1))

    def num_macs(self, input_px: int) -> int:
        """Return the multiply-adds for one square image of side ``input_px``, in closed form."""
        return sum(layer.num_macs for layer in self.layers(input_px))

    # -- JSON ----------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back.

        ``head`` is there only where it is not the usual one, so that earlier versions read all others.
        """
        fields = dataclasses.asdict(self)
        del fields["head"]
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
        return values if self.has_usual_head else {**values, "head": self.head.to_dict()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ResNetSpec:
        """Build a spec from JSON types; unknown, missing and mistyped fields are errors.

        A spec that was written with ``zero_init_last_bn`` before that was refused for its network is read
        without it: its weights are there and begin at zero no more.

        Raises:
            ConfigurationError: A field is unknown, missing, of the wrong type or out of range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        check_names(fields, known, ("unit", "depths"), "the spec")
        values = dict(fields)
        for name in ("depths", "widths"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        if "head" in values:
            values["head"] = Head.from_dict(values["head"])
        if values.get("zero_init_last_bn") is True:
            without = cls(**{**values, "zero_init_last_bn": False})
            if without.why_no_zero_init:
                return without
        return cls(**values)


def _halved(px: int) -> int:
    # Kernel k with padding (k - 1) / 2 and stride 2 gives floor((px - 1) / 2) + 1 for every odd k,
    # and so does TensorFlow's SAME.
    return (px - 1) // 2 + 1


def _check_range(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigurationError(f"{field} holds {value!r}", expected=f"{low:,} to {high:,}")
