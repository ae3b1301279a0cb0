"""Random numbers as pure functions of what they are for.

Nothing here has state: the same (seed, epoch, index) gives the same numbers on any machine, in any
process, in any order, so the number of workers cannot matter and resuming needs one integer.
"""

from __future__ import annotations

import numpy as np

__all__ = ["order_of_epoch", "sample_generator"]

# Each use has its own stream, so that equal numbers in different uses do not give equal choices.
_ORDER, _AUGMENT = 1, 2


def sample_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the generator that decides how sample ``index`` is augmented in ``epoch``."""
    return np.random.Generator(np.random.PCG64((seed, _AUGMENT, epoch, index)))


def order_of_epoch(seed: int, epoch: int, num_samples: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the order of the samples in ``epoch``: a permutation ``(num_samples,)`` of int64."""
    return np.random.Generator(np.random.PCG64((seed, _ORDER, epoch))).permutation(num_samples)
