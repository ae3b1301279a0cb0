"""Weights that are evaluated instead of the raw ones: their moving average, with exact BN statistics."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import nn

from deepresidual.runtime.distributed import Processes


class WeightAverage:
    """An exponential moving average of a network's weights and BN statistics (Polyak averaging).

    Args:
        network: The network; its present weights are the first average.
        decay: Weight of the past at each update.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(requires_grad=False)
        self.network.eval()
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take the present weights into the average; whole numbers (batches counted) are copied."""
        theirs = network.state_dict()
        for name, mine in self.network.state_dict().items():
            if mine.is_floating_point():
                mine.lerp_(theirs[name], 1 - self._decay)
            else:
                mine.copy_(theirs[name])


def batch_norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    """Return every batch normalization of a network, in order."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


class MicroBatchStatistics:
    """Makes BN's running statistics r move as if by the mean of a step's micro-batches' statistics s.

    r ← (1 − m)·r + m · mean(s), whether the micro-batches came one after the other or on several ranks. With
    a momentum of 1 BN leaves s itself in its buffers, from where it is taken after each micro-batch.

    Args:
        norms: The BNs that learn in some step of the run.
        momentum: The m of the formula.
    """

    def __init__(self, norms: Sequence[nn.BatchNorm2d], momentum: float) -> None:
        self._norms = norms
        self._momentum = momentum
        for norm in self._norms:
            norm.momentum = 1.0
        self._before: torch.Tensor | None = None
        self._sum: torch.Tensor | None = None
        self._count = 0

    def _buffers(self) -> list[torch.Tensor]:
        return [buffer for norm in self._norms for buffer in (_mean(norm), _variance(norm))]

    def _flat(self) -> torch.Tensor:
        return torch.cat([buffer.reshape(-1) for buffer in self._buffers()])

    def begin(self, norms: Sequence[nn.BatchNorm2d]) -> None:
        """Remember the statistics before a step.

        Args:
            norms: The BNs that learn in it. Those that are held still must not be among them: the mean of k
                equal numbers equals that number except for rounding.
        """
        self._norms = norms
        self._before = self._flat()
        self._sum = torch.zeros_like(self._before)
        self._count = 0

    def add(self) -> None:
        """Take the statistics that a micro-batch has left."""
        assert self._sum is not None  # noqa: S101  # begin() comes first
        self._sum += self._flat()
        self._count += 1

    def end(self, processes: Processes) -> None:
        """Put the new running statistics into the network, the same on every rank."""
        assert self._sum is not None and self._before is not None  # noqa: PT018, S101
        # A process whose images were all bad has none, and would make those of all not a number.
        mean = self._sum / self._count if self._count else self._before.clone()
        processes.average_([mean])
        running = self._before.lerp_(mean, self._momentum)
        offset = 0
        for buffer in self._buffers():
            buffer.copy_(running[offset : offset + buffer.numel()].view_as(buffer))
            offset += buffer.numel()


@torch.no_grad()
def precise_statistics(
    network: nn.Module, norms: Sequence[nn.BatchNorm2d], batches: Iterable[torch.Tensor], processes: Processes
) -> None:
    """Replace BN's running statistics by those of many batches, seen with the present weights.

    Mean and variance over the batches together: Var = E[var + mean²] − E[mean]² (Wu and Johnson 2021, arXiv
    2105.07576, section 3.2, "precise BN"). Nothing but these BNs is in training mode: the statistics are for
    the network that is evaluated, which drops no F and draws no random numbers.

    Args:
        network: The network; left in evaluation mode.
        norms: Its BNs that learn; the others keep their statistics.
        batches: Normalized images ``(N, C, H, W)``.
        processes: Each sees its own batches; the moments are averaged over them.
    """
    momenta = [norm.momentum for norm in norms]
    sums = [(torch.zeros_like(_mean(norm)), torch.zeros_like(_mean(norm))) for norm in norms]
    # All but BN as it is evaluated: a unit that is dropped at random would draw from torch's global state,
    # which a resumed run does not share, and leave statistics of another network.
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the running statistics become those of the batch
    count = 0
    for images in batches:
        network(images)
        count += 1
        for norm, (mean, square) in zip(norms, sums, strict=True):
            mean += _mean(norm)
            square += _variance(norm) + _mean(norm) ** 2
    for moments in sums:
        for moment in moments:
            moment /= max(count, 1)
    processes.average_([moment for moments in sums for moment in moments])
    for norm, (mean, square), momentum in zip(norms, sums, momenta, strict=True):
        norm.momentum = momentum
        _mean(norm).copy_(mean)
        _variance(norm).copy_(square - mean**2)
    network.eval()


def _mean(norm: nn.BatchNorm2d) -> torch.Tensor:
    assert norm.running_mean is not None  # noqa: S101  # every BN of a ResNet tracks its statistics
    return norm.running_mean


def _variance(norm: nn.BatchNorm2d) -> torch.Tensor:
    assert norm.running_var is not None  # noqa: S101
    return norm.running_var
