"""Order of samples: a pure function of the seed and the position in the run.

A run is one stream of samples: the permutation of epoch 0, then of epoch 1, and so on. Step ``s`` takes
positions ``s·B`` to ``(s+1)·B``, so every sample comes once an epoch, every batch is full (a batch may
span two epochs; batch normalization never meets a rest of one sample), and to resume at any step takes
that step's number alone. The papers count training the same way: 64,000 iterations of 128.

Each of several ranks takes its part of every batch, so the stream is the same for any number of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepresidual.runtime.random import balance_generator, order_of_epoch, sample_uniforms


class SampleIndex(NamedTuple):
    """One sample of the stream.

    Attributes:
        epoch: Which pass over the data it belongs to.
        sample: Which sample of the split it is.
        repeat: How often the sample has come in this epoch before.
        side_px: Side of the square to cut from it; 0: the usual one.
        uniforms: The first random numbers of its augmentation, drawn for a whole batch at once.
    """

    epoch: int
    sample: int
    repeat: int = 0
    side_px: int = 0
    uniforms: tuple[float, ...] | None = None


def steps_until_epoch(epoch: float, num_samples: int, batch_size: int) -> int:
    """Return the first step at which ``epoch`` epochs of samples have been seen."""
    return -int(-epoch * num_samples // batch_size)


def balanced_order(
    seed: int, epoch: int, labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the samples of an epoch in which all classes come equally often, and which repeat each one is.

    An epoch has as many places as there are samples. Each class that occurs fills an equal part of them (the
    rest goes to other classes in each epoch) with permutations of its samples, one after the other.

    Args:
        seed: The run's seed.
        epoch: Which pass.
        labels: ``(N,)``: the class of every sample.
    """
    generator = balance_generator(seed, epoch)
    classes = np.unique(labels)
    places = np.full(len(classes), len(labels) // len(classes))
    places[generator.permutation(len(classes))[: len(labels) % len(classes)]] += 1
    chosen, repeats = [], []
    for label, count in zip(classes.tolist(), places.tolist(), strict=True):
        members = np.flatnonzero(labels == label)
        rounds = -(-count // len(members))
        chosen.append(np.concatenate([generator.permutation(members) for _ in range(rounds)])[:count])
        repeats.append(np.repeat(np.arange(rounds), len(members))[:count])
    order = generator.permutation(len(labels))
    return np.concatenate(chosen)[order], np.concatenate(repeats)[order]


@dataclass(frozen=True)
class TrainingOrder:
    """One rank's batches of positions for steps ``first_step`` to ``last_step`` (exclusive).

    Attributes:
        seed: The run's seed.
        num_samples: Size of the training split.
        batch_size: Samples of a step, over all ranks.
        first_step: The first step.
        last_step: The step after the last.
        repeats: How often a sample comes, within 2·``repeats`` positions; an epoch still has ``num_samples``
            positions, so it sees the first ``1 / repeats`` of its permutation. Two samples alternate (a b a b
            …), since neighbours are mixed in pairs, and a sample mixed with itself would be no mix.
        rank: Which rank's part of each batch.
        num_ranks: How many ranks share a batch; divides it.
        side_px: Side of the images of a step in pixels; ``None``: the usual one.
        labels: ``(num_samples,)``: the class of every sample, where all classes come equally often.
    """

    seed: int
    num_samples: int
    batch_size: int
    first_step: int
    last_step: int
    repeats: int = 1
    rank: int = 0
    num_ranks: int = 1
    side_px: Callable[[int], int] | None = None
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        part = self.batch_size // self.num_ranks
        epoch, order = -1, np.empty(0, dtype=np.int64)
        before = order  # how often a sample has come before in the epoch, where classes are balanced
        for step in range(self.first_step, self.last_step):
            side_px = self.side_px(step) if self.side_px is not None else 0
            first = step * self.batch_size + self.rank * part
            batch: list[SampleIndex] = []
            while len(batch) < part:
                position = first + len(batch)
                if position // self.num_samples != epoch:
                    epoch = position // self.num_samples
                    if self.labels is None:
                        order = order_of_epoch(self.seed, epoch, self.num_samples)
                    else:
                        order, before = balanced_order(self.seed, epoch, self.labels)
                begin = position % self.num_samples
                within = np.arange(begin, min(begin + part - len(batch), self.num_samples))
                pairs, places = np.divmod(within, 2 * self.repeats)
                chosen, repeats = 2 * pairs + places % 2, places // 2
                if self.labels is not None:
                    repeats = repeats + self.repeats * before[chosen]
                batch += self._positions(epoch, order[chosen], repeats, side_px)
            yield batch

    def _positions(
        self, epoch: int, samples: NDArray[np.int64], repeats: NDArray[np.int64], side_px: int
    ) -> list[SampleIndex]:
        uniforms = sample_uniforms(self.seed, epoch, samples, repeats)
        return [
            SampleIndex(epoch, sample, repeat, side_px, tuple(row))
            for sample, repeat, row in zip(samples.tolist(), repeats.tolist(), uniforms.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class SequentialOrder:
    """Every sample once, in order; the last batch is as short as it is. For evaluation.

    Attributes:
        num_samples: Size of the split.
        batch_size: Samples at a time.
        rank: Which rank's batches: every ``num_ranks``-th, so that all batches are those of one rank alone.
        num_ranks: How many ranks share the split.
    """

    num_samples: int
    batch_size: int
    rank: int = 0
    num_ranks: int = 1

    def __len__(self) -> int:
        return len(self._firsts())

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        for first in self._firsts():
            yield [
                SampleIndex(0, index)
                for index in range(first, min(first + self.batch_size, self.num_samples))
            ]

    def _firsts(self) -> range:
        stride = self.num_ranks * self.batch_size
        return range(self.rank * self.batch_size, self.num_samples, stride)
