"""Pooling of maps into the features that a classifier reads: statistics over the positions of each channel.

The mean is the average pooling of the papers. The standard deviation is √(σ² + ε) − √ε with σ² the variance
of the population (divided by the number of positions, so that a map of one position has one) and ε = 2⁻⁴⁰:
without ε the root's slope at σ² = 0 is infinite and the gradient of a constant map is not a number; with it
the result is exactly 0 there, and differs from σ by less than a millionth elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import torch
from torch import Tensor, nn

from deepresidual.spec import Statistic

# A power of four, whose root is a number of every floating-point type from float32 on.
_EPS, _ROOT_OF_EPS = 2.0**-40, 2.0**-20


class StatisticsPool(nn.Module):
    """Pool maps ``(N, C, H, W)`` into statistics ``(N, len(statistics) · C)``, one after the other."""

    def __init__(self, statistics: Sequence[Statistic]) -> None:
        super().__init__()
        self.statistics = tuple(statistics)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the statistics of the channels of ``maps``, in the order of :attr:`statistics`."""
        return torch.cat([_statistic(name, maps) for name in self.statistics], dim=1)

    def extra_repr(self) -> str:
        """Return what the module's text shows."""
        return ", ".join(self.statistics)


def _statistic(name: Statistic, maps: Tensor) -> Tensor:
    match name:
        case "mean":
            return maps.mean(dim=(2, 3))
        case "std":
            # In float32 at least: squares of half precision lose what a small deviation is made of.
            wide = maps if maps.dtype == torch.float64 else maps.float()
            variance = wide.var(dim=(2, 3), unbiased=False)
            return ((variance + _EPS).sqrt() - _ROOT_OF_EPS).to(maps.dtype)
        case _:
            assert_never(name)
