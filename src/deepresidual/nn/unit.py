"""Residual units: the F(x) of y = h(x) + F(x), and their sum.

F is two 3×3 convolutions or 1×1 – 3×3 – 1×1 (He et al. 2015, figure 5); where BN and ReLU stand around
them is one of five arrangements (He et al. 2016, figure 4), one class each. All are modules
``(N, in, H, W)`` → ``(N, out, ⌈H/stride⌉, ⌈W/stride⌉)`` with torchvision's names (``conv1``, ``bn1``, …,
``downsample``). A plain unit is the same module without a shortcut: the degradation experiment compares
the same code minus one addition.
"""

from __future__ import annotations

from typing import assert_never, cast

from torch import Tensor, nn
from torch.nn import functional

from deepresidual.nn.addition import StochasticDepth, make_addition
from deepresidual.nn.padding import make_convolution
from deepresidual.nn.shortcut import make_shortcut
from deepresidual.spec import ResNetSpec, UnitShape, shortcut_form


def make_unit(spec: ResNetSpec, shape: UnitShape) -> Unit:
    """Build the unit of ``spec`` that has this shape."""
    match spec.arrangement:
        case "original":
            return OriginalUnit(spec, shape)
        case "bn-after-addition":
            return BNAfterAdditionUnit(spec, shape)
        case "relu-before-addition":
            return ReLUBeforeAdditionUnit(spec, shape)
        case "relu-only-preactivation":
            return ReLUOnlyPreActivationUnit(spec, shape)
        case "full-preactivation":
            return PreActivationUnit(spec, shape)
        case _:
            assert_never(spec.arrangement)


class Unit(nn.Module):
    """Base of all arrangements: the layers, in the order in which they run, and the addition."""

    def __init__(self, spec: ResNetSpec, shape: UnitShape) -> None:
        super().__init__()
        convolutions = spec.convolutions(shape)
        self._depth = len(convolutions)
        for number, conv in enumerate(convolutions, start=1):
            layer = make_convolution(conv, spec.padding)
            if not spec.is_preactivated:
                self.add_module(f"conv{number}", layer)
                self.add_module(f"bn{number}", make_bn(spec, conv.out_channels))
                continue
            if number > 1 or spec.begins_with_activation(shape):
                self.add_module(f"bn{number}", make_bn(spec, conv.in_channels))
            self.add_module(f"conv{number}", layer)
        self.downsample = make_shortcut(spec, shape)
        # A plain unit has no addition, and a sum without gates no parameters.
        self.addition = None if self.downsample is None else make_addition(spec, shape)
        self.stochastic_depth = StochasticDepth(shape.drop_rate) if shape.drop_rate else None

    def normalized_convolutions(self) -> list[tuple[str, str]]:
        """Return the names of every convolution whose output goes straight into a BN, and of that BN."""
        return [(f"conv{n}", f"bn{n}") for n in range(1, self._depth + 1)]

    def _layers(self) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
        return [(getattr(self, f"conv{n}"), getattr(self, f"bn{n}")) for n in range(1, self._depth + 1)]

    def _add_shortcut(self, residual: Tensor, x: Tensor) -> Tensor:
        if self.downsample is None or self.addition is None:
            return residual
        if self.stochastic_depth is not None:
            residual = self.stochastic_depth(residual)
        return cast("Tensor", self.addition(residual, self.downsample(x), x))


class OriginalUnit(Unit):
    """conv – BN – ReLU – conv – BN – addition – ReLU (2015, figure 2; 2016, figure 4 a)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(h(x) + F(x))."""
        out = x
        *inner, (conv, bn) = self._layers()
        for inner_conv, inner_bn in inner:
            out = functional.relu(inner_bn(inner_conv(out)), inplace=True)
        return functional.relu(self._add_shortcut(bn(conv(out)), x), inplace=True)


class BNAfterAdditionUnit(Unit):
    """conv – BN – ReLU – conv – addition – BN – ReLU (2016, figure 4 b)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(bn(h(x) + F(x)))."""
        out = x
        *inner, (conv, bn) = self._layers()
        for inner_conv, inner_bn in inner:
            out = functional.relu(inner_bn(inner_conv(out)), inplace=True)
        return functional.relu(bn(self._add_shortcut(conv(out), x)), inplace=True)

    def normalized_convolutions(self) -> list[tuple[str, str]]:
        """Return all pairs but the last, between which the addition stands, unless the unit is plain."""
        pairs = super().normalized_convolutions()
        return pairs if self.downsample is None else pairs[:-1]


class ReLUBeforeAdditionUnit(Unit):
    """conv – BN – ReLU – conv – BN – ReLU – addition (2016, figure 4 c): F is never negative."""

    def forward(self, x: Tensor) -> Tensor:
        """Return h(x) + relu(F(x))."""
        out = x
        for conv, bn in self._layers():
            out = functional.relu(bn(conv(out)), inplace=True)
        return self._add_shortcut(out, x)


class ReLUOnlyPreActivationUnit(Unit):
    """ReLU – conv – BN – ReLU – conv – BN – addition (2016, figure 4 d)."""

    def __init__(self, spec: ResNetSpec, shape: UnitShape) -> None:
        super().__init__(spec, shape)
        self._activates_before_split = _activates_before_split(spec, shape)

    def forward(self, x: Tensor) -> Tensor:
        """Return h(x) + F(relu(x))."""
        activated = functional.relu(x)
        out = activated
        *inner, (conv, bn) = self._layers()
        for inner_conv, inner_bn in inner:
            out = functional.relu(inner_bn(inner_conv(out)), inplace=True)
        return self._add_shortcut(bn(conv(out)), activated if self._activates_before_split else x)


class PreActivationUnit(Unit):
    """BN – ReLU – conv – BN – ReLU – conv – addition (2016, figure 4 e): the identity passes untouched.

    Where the stem has activated already, the first unit begins with its convolution.
    """

    def __init__(self, spec: ResNetSpec, shape: UnitShape) -> None:
        super().__init__(spec, shape)
        self._begins_with_activation = spec.begins_with_activation(shape)
        self._activates_before_split = _activates_before_split(spec, shape)

    def forward(self, x: Tensor) -> Tensor:
        """Return h(x) + F(relu(bn(x)))."""
        activated = x
        if self._begins_with_activation:
            activated = functional.relu(self.get_submodule("bn1")(x), inplace=True)
        out = self.get_submodule("conv1")(activated)
        for number in range(2, self._depth + 1):
            bn, conv = self.get_submodule(f"bn{number}"), self.get_submodule(f"conv{number}")
            out = conv(functional.relu(bn(out), inplace=True))
        return self._add_shortcut(out, activated if self._activates_before_split else x)

    def normalized_convolutions(self) -> list[tuple[str, str]]:
        """Return each convolution but the last with the BN of the next; the first BN follows an addition."""
        return [(f"conv{n}", f"bn{n + 1}") for n in range(1, self._depth)]


def _activates_before_split(spec: ResNetSpec, shape: UnitShape) -> bool:
    """Return whether the shortcut sees the activated input too.

    It does in the first unit of the network and where the shortcut is a projection (2016, appendix);
    elsewhere the shortcut stays clean.
    """
    form = shortcut_form(spec.shortcut, shape.in_channels, shape.out_channels, shape.stride)
    return form == "projection" or (shape.is_first and spec.first_activation != "branch")


def make_bn(spec: ResNetSpec, channels: int) -> nn.BatchNorm2d:
    """Build a batch normalization as the spec wants it."""
    return nn.BatchNorm2d(channels, eps=spec.bn_eps, momentum=spec.bn_momentum)
