"""Sums of pixels of several maps, whose gradients are sums in a fixed order.

Indexing a tensor adds gradients in any order, on GPUs and, from two threads on, on CPUs, so that a run would
not repeat its bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def pixel_table(maps: Sequence[Tensor]) -> Tensor:
    """Return the pixels of maps ``(N, C, H, W)`` as rows of a table ``(R, C)``, map after map, float32."""
    return torch.cat([level.permute(0, 2, 3, 1).reshape(-1, level.shape[1]).float() for level in maps])


def weighted_sums(table: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Return sums of rows of a table, ``(K, C)``.

    Args:
        table: ``(R, C)`` float32.
        places: ``(K, n)`` int64: which rows each sum has.
        weights: ``(K, n)`` float32: their weights, which learn nothing.
    """
    sums: Tensor = _WeightedSums.apply(table, places, weights)
    return sums


class _WeightedSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table: Tensor, places: Tensor, weights: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(places, weights)
        ctx.num_rows = len(table)
        return functional.embedding_bag(places, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[no-untyped-def]
        places, weights = ctx.saved_tensors
        # The same sum with rows and bags exchanged: every row of the table gathers the bags that read it.
        ordered, order = torch.sort(places.reshape(-1).int(), stable=True)
        rows = torch.arange(ctx.num_rows, dtype=torch.int32, device=places.device)
        offsets = torch.searchsorted(ordered, rows)
        return (
            functional.embedding_bag(
                order // places.shape[1],
                grad.contiguous(),
                offsets,
                per_sample_weights=weights.reshape(-1)[order],
                mode="sum",
            ),
            None,
            None,
        )
