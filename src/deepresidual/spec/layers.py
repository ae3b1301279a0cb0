"""The parts that a spec takes a network into: units, their convolutions, and layers with their counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, assert_never

if TYPE_CHECKING:
    from deepresidual.spec.kinds import Shortcut, ShortcutForm

__all__ = ["Convolution", "Layer", "UnitShape", "shortcut_form"]


@dataclass(frozen=True)
class UnitShape:
    """Position and shape of one residual unit: ``(N, in, H, W)`` → ``(N, out, H/stride, W/stride)``.

    Attributes:
        name: Name of the module, ``layer1.0`` and so on.
        in_channels: Channels read.
        width: Channels inside.
        out_channels: Channels written.
        stride: Stride of the unit, on the main path and on the shortcut.
        dilation: Distance in pixels between neighbours on the map it reads, which dilates its first 3×3.
        out_dilation: The same on the map it writes; twice as much where the unit dilates instead of striding.
        drop_rate: Probability that training drops F(x) (stochastic depth).
    """

    name: str
    in_channels: int
    width: int
    out_channels: int
    stride: int
    dilation: int = 1
    out_dilation: int = 1
    drop_rate: float = 0.0

    @property
    def is_first(self) -> bool:
        """Whether this is the first unit of the network."""
        return self.name == "layer1.0"

    @property
    def stage(self) -> str:
        """Name of the stage that it belongs to."""
        return self.name.split(".")[0]


@dataclass(frozen=True)
class Convolution:
    """One convolution of a unit's main path, padded to keep the size of the map except for its stride."""

    in_channels: int
    out_channels: int
    kernel_px: int
    stride: int
    groups: int = 1
    dilation: int = 1
    bias: bool = False


@dataclass(frozen=True)
class Layer:
    """One layer with parameters, in order of execution.

    Attributes:
        name: Name of the module in the state dict.
        kind: ``conv``, ``bn`` or ``linear``.
        in_channels: Channels or features read.
        out_channels: Channels or features written.
        kernel_px: Side of the square kernel; 1 for ``bn`` and ``linear``.
        out_px: Side of the square output map; 1 for ``linear``.
        groups: Groups of a convolution.
        bias: Whether a bias is added; a BN's shift is not called one.
    """

    name: str
    kind: Literal["conv", "bn", "linear"]
    in_channels: int
    out_channels: int
    kernel_px: int
    out_px: int
    groups: int = 1
    bias: bool = False

    @property
    def num_parameters(self) -> int:
        """Learned numbers: weights, biases, and scale and shift of a BN; running statistics do not count."""
        match self.kind:
            case "conv" | "linear":
                weights = self.in_channels // self.groups * self.out_channels * self.kernel_px**2
                return weights + self.out_channels * self.bias
            case "bn":
                return 2 * self.out_channels
            case _:
                assert_never(self.kind)

    @property
    def num_macs(self) -> int:
        """Multiply-adds for one image, of convolutions and the classifier only (as the papers count)."""
        if self.kind == "bn":
            return 0
        return (self.num_parameters - self.out_channels * self.bias) * self.out_px**2


def shortcut_form(kind: Shortcut, in_channels: int, out_channels: int, stride: int) -> ShortcutForm:
    """Return what shortcut ``kind`` amounts to at a unit of this shape (2015, section 3.3 and Table 3)."""
    same_shape = in_channels == out_channels and stride == 1
    match kind:
        case "none":
            return "none"
        case "A" | "scaled" | "exclusive-gating" | "shortcut-only-gating" | "dropout":
            return "identity" if same_shape else "pad"
        case "A-both-sides":
            return "identity" if same_shape else "pad-both-sides"
        case "B":
            return "identity" if same_shape else "projection"
        case "B-subsampled":
            if in_channels != out_channels:
                return "projection"
            # Padding by no channels is sub-sampling.
            return "identity" if stride == 1 else "pad"
        case "C":
            return "projection"
        case _:
            assert_never(kind)
