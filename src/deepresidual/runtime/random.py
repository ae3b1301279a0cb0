"""Random numbers as pure functions of what they are for.

Nothing here has state: the same (seed, epoch, index) gives the same numbers on any machine, in any
process, in any order, so the number of workers cannot matter and resuming needs one integer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Each use has its own stream, so that equal numbers in different uses do not give equal choices.
_ORDER, _AUGMENT, _MIX, _NETWORK, _BALANCE, _REGIONS = 1, 2, 3, 4, 5, 6

NUM_UNIFORMS = 4
"""Count of numbers that :func:`sample_uniforms` draws for a sample: two places, a flip, and one to spare."""


def balance_generator(seed: int, epoch: int) -> np.random.Generator:
    """Return the generator that draws the samples of an epoch in which all classes come equally often."""
    return np.random.Generator(np.random.PCG64((seed, _BALANCE, epoch)))


def sample_generator(seed: int, epoch: int, index: int, repeat: int = 0) -> np.random.Generator:
    """Return the generator that decides how sample ``index`` is augmented in ``epoch``.

    ``repeat`` counts the times that the sample has come in that epoch (repeated augmentation).
    """
    return np.random.Generator(np.random.PCG64((seed, _AUGMENT, epoch, index, repeat)))


class SampleRandom:
    """The random choices of one sample in one epoch: a few cheap numbers, and a generator for the rest.

    Args:
        seed: The run's seed.
        epoch: Which pass over the data.
        index: Which sample of the split.
        repeat: How often it has come in this epoch before (repeated augmentation).
        uniforms: Its row of :func:`sample_uniforms`; Default: drawn here.
    """

    def __init__(
        self, seed: int, epoch: int, index: int, repeat: int = 0, uniforms: Sequence[float] | None = None
    ) -> None:
        self._position = (seed, epoch, index, repeat)
        self._generator: np.random.Generator | None = None
        if uniforms is None:
            uniforms = sample_uniforms(seed, epoch, np.array([index]), np.array([repeat]))[0].tolist()
        self.uniforms = uniforms
        """Numbers in [0, 1), in the order of use: across, down, flip, and one to spare."""

    @property
    def regions_seed(self) -> int:
        """What decides the regions of the view that a detector learns from, 0 to 2⁶³ − 1."""
        seed, *position = self._position
        return int(np.random.PCG64((seed, _REGIONS, *position)).random_raw() >> 1)

    @property
    def generator(self) -> np.random.Generator:
        """A generator of the sample's own, made when it is first asked for."""
        if self._generator is None:
            self._generator = sample_generator(*self._position)
        return self._generator


def sample_uniforms(
    seed: int, epoch: int, indices: NDArray[np.int64], repeats: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return :data:`NUM_UNIFORMS` numbers in [0, 1) for each of many samples at once, ``(N, NUM_UNIFORMS)``.

    A generator a sample costs some 15 µs, more than a GPU takes to train on one of 32 pixels. These come
    from a counter instead: the finalizer of SplitMix64 (Steele et al. 2014, figure 17) over a key of (seed,
    epoch) and a counter of (index, repeat, number), so a whole epoch is drawn in one call.

    Args:
        seed: The run's seed.
        epoch: Which pass over the data.
        indices: ``(N,)`` which sample of the split.
        repeats: ``(N,)`` how often it has come in this epoch.
    """
    key = _mixed(np.array([seed], dtype=np.uint64) ^ _mixed(np.array([epoch + 1], dtype=np.uint64) * _GOLDEN))
    counters = indices.astype(np.uint64) * np.uint64(256) + repeats.astype(np.uint64)
    numbers = np.add.outer(counters * np.uint64(NUM_UNIFORMS), np.arange(NUM_UNIFORMS, dtype=np.uint64))
    words: NDArray[np.uint64] = _mixed(_mixed(numbers + _GOLDEN) ^ key) >> np.uint64(11)
    return words.astype(np.float64) * 2.0**-53


def samples_digest(step: int, positions: NDArray[np.int64]) -> int:
    """Return a sum of hashes of the samples that ``step`` saw, in 64 bits.

    Sums of these over steps, micro-batches and ranks are the same however the samples were spread, and
    differ where one sample was seen at another step, not at all, or twice.

    Args:
        step: Which update.
        positions: ``(N, 3)`` epoch, index and repeat of each sample.
    """
    words = positions.astype(np.uint64)
    mixed = np.full(len(words), step + 1, dtype=np.uint64)
    for column in words.T:
        mixed = _mixed(mixed * _GOLDEN ^ column)
    return int(mixed.sum(dtype=np.uint64))


def step_generator(seed: int, step: int) -> np.random.Generator:
    """Return the generator that decides how the images of a step are mixed, on every rank alike."""
    return np.random.Generator(np.random.PCG64((seed, _MIX, step)))


def network_seed(seed: int, step: int, micro_batch: int) -> int:
    """Return the seed of torch's own choices in a step: dropout and stochastic depth."""
    return int(np.random.PCG64((seed, _NETWORK, step, micro_batch)).random_raw() >> 1)


def order_of_epoch(seed: int, epoch: int, num_samples: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the order of the samples in ``epoch``: a permutation ``(num_samples,)`` of int64."""
    return np.random.Generator(np.random.PCG64((seed, _ORDER, epoch))).permutation(num_samples)


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the finalizer of SplitMix64: every bit of a word changes half of the bits of the result."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = words ^ (words >> np.uint64(31))
    return mixed
