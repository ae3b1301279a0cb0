"""Which sample comes when: a pure function of the seed and the position in the run.

A run is one stream of samples: the permutation of epoch 0, then of epoch 1, and so on. Step ``s`` takes
positions ``s·B`` to ``(s+1)·B``, so every sample comes once an epoch, every batch is full (a batch may
span two epochs; batch normalization never meets a rest of one sample), and to resume at any step takes
that step's number alone. The papers count training the same way: 64,000 iterations of 128.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from torch.utils.data import Sampler

from residual.runtime.random import order_of_epoch

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["InOrder", "Position", "TrainingOrder", "steps_until_epoch"]


class Position(NamedTuple):
    """One sample of the stream: which epoch it belongs to and which sample of the split it is.

    Attributes:
        epoch: Which pass over the data.
        sample: Which sample of the split.
        repeat: How often it has come in this epoch before (repeated augmentation).
        side_px: Side of the training image in pixels; 0: that of the preprocessing record.
        uniforms: Its row of :func:`residual.runtime.random.sample_uniforms`, where that was drawn before.
    """

    epoch: int
    sample: int
    repeat: int = 0
    side_px: int = 0
    uniforms: tuple[float, ...] | None = None


def steps_until_epoch(epoch: float, num_samples: int, batch_size: int) -> int:
    """Return the first step at which ``epoch`` epochs of samples have been seen."""
    return -int(-epoch * num_samples // batch_size)


@dataclass(frozen=True)
class TrainingOrder(Sampler[list[Position]]):
    """Batches of positions for steps ``first_step`` to ``last_step`` (exclusive)."""

    seed: int
    num_samples: int
    batch_size: int
    first_step: int
    last_step: int

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __iter__(self) -> Iterator[list[Position]]:
        epoch, order = -1, None
        for step in range(self.first_step, self.last_step):
            batch: list[Position] = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                if position // self.num_samples != epoch or order is None:
                    epoch = position // self.num_samples
                    order = order_of_epoch(self.seed, epoch, self.num_samples)
                batch.append(Position(epoch, int(order[position % self.num_samples])))
            yield batch


@dataclass(frozen=True)
class InOrder(Sampler[list[Position]]):
    """Every sample once, in order; the last batch is as short as it is. For evaluation."""

    num_samples: int
    batch_size: int

    def __len__(self) -> int:
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[list[Position]]:
        for first in range(0, self.num_samples, self.batch_size):
            yield [
                Position(0, index) for index in range(first, min(first + self.batch_size, self.num_samples))
            ]
