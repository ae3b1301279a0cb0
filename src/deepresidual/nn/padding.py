"""Convolutions and max-poolings as the frameworks pad them (:data:`deepresidual.spec.Padding`)."""

from __future__ import annotations

from typing import assert_never

from torch import Tensor, nn
from torch.nn import functional

from deepresidual.spec import Convolution, Padding

# Channels that one AVX2 register holds in float32.
_AVX2_CHANNELS = 8


def make_convolution(conv: Convolution, padding: Padding) -> nn.Conv2d:
    """Build a convolution that keeps the size of the map except for its stride: H → ⌈H/stride⌉."""
    if conv.kernel_px == 1 and conv.groups == 1:
        return make_pointwise(conv.in_channels, conv.out_channels, conv.stride, bias=conv.bias)
    # Where nothing strides, SAME is symmetric; and a 1×1 needs no padding.
    same = padding == "tensorflow" and conv.stride > 1 and conv.kernel_px > 1
    return (SamePadConv2d if same else nn.Conv2d)(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_px,
        stride=conv.stride,
        padding=0 if same else conv.dilation * (conv.kernel_px // 2),
        dilation=conv.dilation,
        groups=conv.groups,
        bias=conv.bias,
    )


def make_pointwise(in_channels: int, out_channels: int, stride: int, *, bias: bool) -> nn.Conv2d:
    """Build a 1×1 convolution: ``(N, in, H, W)`` → ``(N, out, ⌈H/stride⌉, ⌈W/stride⌉)``."""
    strides_over_few = stride > 1 and in_channels < _AVX2_CHANNELS
    kind = SubsampledConv2d if strides_over_few else nn.Conv2d
    return kind(in_channels, out_channels, kernel_size=1, stride=stride, bias=bias)


def make_max_pool(padding: Padding) -> nn.Module:
    """Build the 3×3/2 max-pooling of the stem: H → ⌈H/2⌉; ⌊H/2⌋ with Caffe's rule."""
    match padding:
        case "torch":
            return nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        case "keras":
            # Unlike torch's border, zeros win over negative values.
            return nn.Sequential(nn.ZeroPad2d(1), nn.MaxPool2d(kernel_size=3, stride=2))
        case "caffe":
            return nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True)
        case "tensorflow":
            return SamePadMaxPool2d(kernel_size=3, stride=2)
        case _:
            assert_never(padding)


class SamePadConv2d(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: ``(N, in, H, W)`` → ``(N, out, ⌈H/s⌉, ⌈W/s⌉)``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of the padded input."""
        span = self.dilation[0] * (self.kernel_size[0] - 1) + 1
        return super().forward(_pad_same(x, span, self.stride[0], 0.0))


class SubsampledConv2d(nn.Conv2d):
    """A 1×1 convolution that takes every s-th pixel first, and then strides no more: the same function.

    On CPUs with AVX2 and no AVX-512, oneDNN's weight gradient of a strided 1×1 convolution over channels-last
    maps of fewer than eight channels writes beyond its buffer (``jit_1x1:avx2``, torch 2.14.1): the process
    aborts, then or later.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of every s-th pixel."""
        down, right = self.stride
        return functional.conv2d(x[:, :, ::down, ::right], self.weight, self.bias)


class SamePadMaxPool2d(nn.Module):
    """Max-pooling with TensorFlow's SAME padding, whose border never wins."""

    def __init__(self, kernel_size: int, stride: int) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, C, ⌈H/stride⌉, ⌈W/stride⌉)`` of ``(N, C, H, W)``."""
        padded = _pad_same(x, self.kernel_size, self.stride, float("-inf"))
        return functional.max_pool2d(padded, self.kernel_size, self.stride)


def _pad_same(x: Tensor, kernel: int, stride: int, value: float) -> Tensor:
    """Pad so that ⌈H/stride⌉ windows fit; an odd pixel goes below and to the right (TensorFlow's rule)."""
    height, width = x.shape[-2:]
    vertical, horizontal = (
        max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in (height, width)
    )
    sides = (horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2)
    return functional.pad(x, sides, value=value)
