"""Strided 1×1 convolutions over few channels, which torch's kernels for AVX2 cannot train."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from deepresidual.models import create
from deepresidual.nn.padding import SubsampledConv2d, make_pointwise
from deepresidual.spec import Shortcut, Unit
from tests.conftest import TINY


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("bias", [True, False])
def test_taking_pixels_first_is_the_same_function(side: int, bias: bool) -> None:
    ours = make_pointwise(4, 6, 2, bias=bias)
    theirs = nn.Conv2d(4, 6, kernel_size=1, stride=2, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    # Not channels last: there the other side is the one that writes where it may not.
    pixels = torch.randn(3, 4, side, side, generator=torch.Generator().manual_seed(0))
    found, gradients = [], []
    for conv in (ours, theirs):
        x = pixels.clone().requires_grad_()
        found.append(conv(x))
        found[-1].square().sum().backward()
        gradients.append([x.grad, *(parameter.grad for parameter in conv.parameters())])
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(
    ("in_channels", "stride", "kind"),
    [(4, 2, SubsampledConv2d), (7, 2, SubsampledConv2d), (4, 1, nn.Conv2d), (8, 2, nn.Conv2d)],
)
def test_torch_strides_from_eight_channels_on(in_channels: int, stride: int, kind: type) -> None:
    assert type(make_pointwise(in_channels, 8, stride, bias=False)) is kind


@pytest.mark.parametrize("shortcut", ["B", "C", "shortcut-only-gating"])
@pytest.mark.parametrize("unit", ["basic", "bottleneck"])
def test_no_strided_1x1_of_few_channels_is_left_in_a_network(shortcut: Shortcut, unit: Unit) -> None:
    network = create(
        replace(TINY, shortcut=shortcut, unit=unit, stride_on="1x1" if unit == "bottleneck" else "3x3")
    )
    strided = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.stride != (1, 1)
    ]
    assert strided
    assert all(type(module) is SubsampledConv2d for module in strided if module.in_channels < 8)
