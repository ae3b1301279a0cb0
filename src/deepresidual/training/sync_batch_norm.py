"""Batch normalization whose statistics are taken over the images of all ranks.

On GPUs torch's own ``SyncBatchNorm`` serves; it does not run on CPUs, where this one does the same with two
messages a layer: the mean first, then the variance around it, which loses no digits.
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn


class RankBatchNorm2d(nn.BatchNorm2d):
    """:class:`torch.nn.BatchNorm2d` over all ranks, each with ``(N, C, H, W)`` of the same shape."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name for it
        """Return the normalized images, and count them into the running statistics."""
        if not self.training:
            return super().forward(input)
        size = dist.get_world_size()
        # In float32 whatever the precision around it, as torch computes BN.
        images = input.float()
        mean = _summed(images.mean(dim=(0, 2, 3))) / size
        centered = images - mean[:, None, None]
        variance = _summed(centered.square().mean(dim=(0, 2, 3))) / size
        self._count(mean, variance, images.numel() // images.shape[1] * size)
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centered * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _count(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None or self.momentum is None:
            return
        # The running variance is that of the population, as in torch.
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / max(1, count - 1)), self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class _SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over all ranks; what each rank's loss says of the sum is summed, too."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:  # noqa: ARG004  # the backward pass needs nothing
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:  # noqa: ARG004
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _summed(tensor: Tensor) -> Tensor:
    return cast("Tensor", _SumOverRanks.apply(tensor))


def synchronize_batch_norms(network: nn.Module, device: torch.device) -> None:
    """Let every BN of a network take its statistics over all ranks; names and weights stay as they are."""
    if device.type == "cuda":
        for name, module in list(network.named_modules()):
            if isinstance(module, nn.BatchNorm2d):
                parent, _, child = name.rpartition(".")
                setattr(network.get_submodule(parent), child, nn.SyncBatchNorm.convert_sync_batchnorm(module))  # type: ignore[no-untyped-call]
        return
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = RankBatchNorm2d
