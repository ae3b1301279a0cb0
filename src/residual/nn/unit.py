"""Residual units: the F(x) of y = h(x) + F(x), and their sum (He et al. 2015, figure 5).

Submodules carry torchvision's names. A plain unit is the same module without a shortcut: the
degradation experiment compares the same code minus one addition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from torch import nn
from torch.nn import functional

from residual.nn.shortcut import make_shortcut

if TYPE_CHECKING:
    from torch import Tensor

    from residual.spec import ResNetSpec, Shortcut, StrideOn, UnitShape

__all__ = ["BasicUnit", "BottleneckUnit", "make_unit"]


def make_unit(spec: ResNetSpec, shape: UnitShape) -> BasicUnit | BottleneckUnit:
    """Build the unit of ``spec`` that has this shape."""
    match spec.unit:
        case "basic":
            return BasicUnit(shape, spec.shortcut)
        case "bottleneck":
            return BottleneckUnit(shape, spec.shortcut, spec.stride_on)
        case _:
            assert_never(spec.unit)


class BasicUnit(nn.Module):
    """3×3 – 3×3. ``(N, in, H, W)`` → ``(N, out, ⌈H/stride⌉, ⌈W/stride⌉)``."""

    def __init__(self, shape: UnitShape, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            shape.in_channels, shape.width, kernel_size=3, stride=shape.stride, padding=1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(shape.width)
        self.conv2 = nn.Conv2d(shape.width, shape.out_channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(shape.out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(shortcut, shape.in_channels, shape.out_channels, shape.stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(h(x) + F(x))."""
        out: Tensor = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            out += self.downsample(x)
        return functional.relu(out, inplace=True)


class BottleneckUnit(nn.Module):
    """1×1 – 3×3 – 1×1. ``(N, in, H, W)`` → ``(N, out, ⌈H/stride⌉, ⌈W/stride⌉)``."""

    def __init__(self, shape: UnitShape, shortcut: Shortcut, stride_on: StrideOn) -> None:
        super().__init__()
        first, second = (shape.stride, 1) if stride_on == "1x1" else (1, shape.stride)
        self.conv1 = nn.Conv2d(shape.in_channels, shape.width, kernel_size=1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(shape.width)
        self.conv2 = nn.Conv2d(shape.width, shape.width, kernel_size=3, stride=second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(shape.width)
        self.conv3 = nn.Conv2d(shape.width, shape.out_channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(shape.out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = make_shortcut(shortcut, shape.in_channels, shape.out_channels, shape.stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(h(x) + F(x))."""
        out: Tensor = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            out += self.downsample(x)
        return functional.relu(out, inplace=True)
