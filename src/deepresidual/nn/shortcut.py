"""The shortcut of a residual unit: the h(x) in y = h(x) + F(x) (He et al. 2015, section 3.3, Table 3).

Example:
    >>> spec = ResNetSpec("basic", (1, 1), (16, 32), stem="cifar", shortcut="A")
    >>> [make_shortcut(spec, unit) for unit in spec.units()]
    [Identity(), PaddedIdentity(16 → 32, stride=2)]
"""

from __future__ import annotations

from typing import assert_never

from torch import Tensor, nn
from torch.nn import functional

from deepresidual.nn.padding import make_pointwise
from deepresidual.spec import ResNetSpec, UnitShape, shortcut_form

_DROPOUT = 0.5  # the paper's only rate (2016, section 3.1 and Table 1)


def make_shortcut(spec: ResNetSpec, shape: UnitShape) -> nn.Module | None:
    """Build the shortcut of one unit.

    Args:
        spec: The network; its shortcut kind decides.
        shape: The unit.

    Returns:
        A module ``(N, in, H, W)`` → ``(N, out, ⌈H/stride⌉, ⌈W/stride⌉)``, or ``None`` for a plain unit,
        which adds nothing. BN follows a projection, but not in pre-activated units, whose input passed one.
    """
    in_channels, out_channels, stride = shape.in_channels, shape.out_channels, shape.stride
    form = shortcut_form(spec.shortcut, in_channels, out_channels, stride)
    match form:
        case "none":
            return None
        case "identity":
            shortcut: nn.Module = nn.Identity()
        case "pad":
            shortcut = PaddedIdentity(in_channels, out_channels, stride)
        case "pad-both-sides":
            half = (out_channels - in_channels) // 2
            shortcut = PaddedIdentity(in_channels, out_channels, stride, zeros_before=half)
        case "projection":
            bias = spec.has_projection_bias
            conv = make_pointwise(in_channels, out_channels, stride, bias=bias)
            if spec.is_preactivated:
                return nn.Sequential(conv)
            bn = nn.BatchNorm2d(out_channels, eps=spec.bn_eps, momentum=spec.bn_momentum)
            return nn.Sequential(conv, bn)
        case _:
            assert_never(form)
    if spec.shortcut == "dropout":
        return nn.Sequential(shortcut, nn.Dropout(_DROPOUT))
    return shortcut


class PaddedIdentity(nn.Module):
    """Option A: sub-sample the input and add channels of zeros; no parameters.

    ``(N, in, H, W)`` → ``(N, out, ⌈H/stride⌉, ⌈W/stride⌉)``. Where the output is narrower, channels are cut.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Distance of the pixels that stay.
        zeros_before: How many of the zero channels come before the input's; the others come after.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, zeros_before: int = 0) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride
        self.zeros_before = zeros_before

    def forward(self, x: Tensor) -> Tensor:
        """Return the padded, sub-sampled input."""
        after = self.out_channels - self.in_channels - self.zeros_before
        # A negative padding cuts.
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.zeros_before, after))

    def extra_repr(self) -> str:
        """Return the shape for ``repr``."""
        before = f", zeros_before={self.zeros_before}" if self.zeros_before else ""
        return f"{self.in_channels} → {self.out_channels}, stride={self.stride}{before}"
