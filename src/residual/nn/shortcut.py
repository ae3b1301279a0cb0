"""The shortcut of a residual unit: the h(x) in y = h(x) + F(x) (He et al. 2015, section 3.3, Table 3).

Example:
    >>> make_shortcut("A", in_channels=16, out_channels=32, stride=2)
    PaddedIdentity(16 → 32, stride=2)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from torch import nn
from torch.nn import functional

from residual.spec import Shortcut, shortcut_form

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PaddedIdentity", "make_shortcut"]


def make_shortcut(
    kind: Shortcut, in_channels: int, out_channels: int, stride: int, *, with_bn: bool = True
) -> nn.Module | None:
    """Build the shortcut of one unit.

    Args:
        kind: One of :data:`residual.spec.Shortcut`.
        in_channels: Channels of the unit's input.
        out_channels: Channels of the unit's output.
        stride: Stride of the unit.
        with_bn: Whether BN follows a projection; not in pre-activated units, whose input it has passed.

    Returns:
        A module ``(N, in, H, W)`` → ``(N, out, ⌈H/stride⌉, ⌈W/stride⌉)``, or ``None`` for a plain unit,
        which adds nothing.
    """
    form = shortcut_form(kind, in_channels, out_channels, stride)
    match form:
        case "none":
            return None
        case "identity":
            return nn.Identity()
        case "pad":
            return PaddedIdentity(in_channels, out_channels, stride)
        case "pad-both-sides":
            half = (out_channels - in_channels) // 2
            return PaddedIdentity(in_channels, out_channels, stride, zeros_before=half)
        case "projection":
            conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
            return nn.Sequential(conv, nn.BatchNorm2d(out_channels)) if with_bn else nn.Sequential(conv)
        case _:
            assert_never(form)


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
