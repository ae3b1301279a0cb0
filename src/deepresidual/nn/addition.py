"""The addition of a unit: how h(x) and F(x) become one (He et al. 2015, equation 1; 2016, Table 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepresidual.nn.padding import make_pointwise
from deepresidual.spec import ResNetSpec, UnitShape


def make_addition(spec: ResNetSpec, shape: UnitShape) -> nn.Module:
    """Build the addition of one unit: a module ``(residual, shortcut, x)`` → their sum.

    The residual F(x) and the shortcut h(x) are ``(N, out, H', W')``, x is the unit's input ``(N, in, H, W)``.
    """
    match spec.shortcut:
        case "scaled":
            return ScaledAddition(spec.shortcut_scale, spec.residual_scale)
        case "exclusive-gating":
            return Gate(shape, spec.gate_bias, exclusive=True)
        case "shortcut-only-gating":
            return Gate(shape, spec.gate_bias, exclusive=False)
        case _:
            # The backward pass of ReLU reads its output, which must stay; that of BN and convolutions not.
            return Addition(in_place=spec.arrangement != "relu-before-addition")


class Addition(nn.Module):
    """h(x) + F(x); in place where that may be, which saves a map a unit."""

    def __init__(self, *, in_place: bool = False) -> None:
        super().__init__()
        self.in_place = in_place

    def forward(self, residual: Tensor, shortcut: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002  # gates need x
        """Return the sum."""
        return residual.add_(shortcut) if self.in_place else residual + shortcut


class ScaledAddition(nn.Module):
    """λ·h(x) + μ·F(x) (2016, section 3.1, "constant scaling")."""

    def __init__(self, shortcut_scale: float, residual_scale: float) -> None:
        super().__init__()
        self.shortcut_scale = shortcut_scale
        self.residual_scale = residual_scale

    def forward(self, residual: Tensor, shortcut: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        """Return the weighted sum."""
        return self.residual_scale * residual + self.shortcut_scale * shortcut

    def extra_repr(self) -> str:
        """Return both factors for ``repr``."""
        return f"shortcut_scale={self.shortcut_scale}, residual_scale={self.residual_scale}"


class Gate(nn.Module):
    """(1 − g)·h(x) + g·F(x), or (1 − g)·h(x) + F(x), with g = σ(W·x + b) (2016, section 3.1).

    W is a 1×1 convolution from the unit's input, with the unit's stride, to its output channels, so that a
    gate also fits a unit that changes the shape; the paper leaves that case open.
    """

    def __init__(self, shape: UnitShape, bias: float, *, exclusive: bool) -> None:
        super().__init__()
        self.gate = make_pointwise(shape.in_channels, shape.out_channels, shape.stride, bias=True)
        self.first_bias = bias
        self.exclusive = exclusive

    def forward(self, residual: Tensor, shortcut: Tensor, x: Tensor) -> Tensor:
        """Return the gated sum."""
        gate = torch.sigmoid(self.gate(x))
        return (1 - gate) * shortcut + (gate * residual if self.exclusive else residual)

    def extra_repr(self) -> str:
        """Return which branches are gated for ``repr``."""
        return f"exclusive={self.exclusive}"


class StochasticDepth(nn.Module):
    """Drop F(x) of a sample with probability ``rate`` in training, and scale what survives by 1/(1 − rate).

    Huang et al. 2016 (arXiv 1603.09382) scale at test time instead; the expectation is the same, and a
    trained network is the plain function of its spec, as in torchvision and timm.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, residual: Tensor) -> Tensor:
        """Return ``(N, C, H, W)`` with the dropped samples zero."""
        if not self.training:
            return residual
        survives = torch.rand(residual.shape[0], 1, 1, 1, device=residual.device) >= self.rate
        return residual * (survives.to(residual.dtype) / (1 - self.rate))

    def extra_repr(self) -> str:
        """Return the rate for ``repr``."""
        return f"rate={self.rate:.3g}"
