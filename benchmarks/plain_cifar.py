"""The CIFAR residual network as it is written in plain torch again and again: the peer of our own.

Shortcuts of option A by a module around a lambda, everything else by the book; NCHW, float32, eager. It has
the weights of ours under the same names, so both can be held to the same logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn
from torch.nn import functional


class LambdaLayer(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Return the function of ``x``."""
        return self.function(x)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut without parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            zeros = (0, 0, 0, 0, 0, out_channels - in_channels)
            self.shortcut = LambdaLayer(lambda x: functional.pad(x[:, :, ::2, ::2], zeros))

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(F(x) + shortcut(x))."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out = out + self.shortcut(x)
        return functional.relu(out)


class PlainCifarNet(nn.Module):
    """6n + 2 layers for 32 px: three stages of n blocks, 16, 32 and 64 wide."""

    def __init__(self, num_layers: int, num_classes: int = 10) -> None:
        super().__init__()
        blocks = (num_layers - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, stride=1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, 1, blocks)
        self.layer2 = _stage(16, 32, 2, blocks)
        self.layer3 = _stage(32, 64, 2, blocks)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(N, classes)`` of images ``(N, 3, 32, 32)``."""
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = functional.avg_pool2d(out, out.size()[3])
        return cast("Tensor", self.fc(out.view(out.size(0), -1)))


def _stage(in_channels: int, out_channels: int, stride: int, blocks: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)))
