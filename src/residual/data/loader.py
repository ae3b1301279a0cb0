"""Batches: read, decode, vary, stack; by torch's DataLoader, in this process or in workers.

What a batch holds depends on the positions that it was asked for and on nothing else, so any number of
workers gives the same bits. A sample that cannot be used travels along as a :class:`BadSample` and the
consumer decides; nothing is replaced.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from residual.data.augment import apply, choose
from residual.data.decode import decode
from residual.data.sampler import InOrder, Position, TrainingOrder
from residual.errors import DataError
from residual.runtime.random import SampleRandom

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray

    from residual.data.source import EncodedSample
    from residual.preprocess import Preprocess
    from residual.recipe import Augment

__all__ = ["BadSample", "Batch", "evaluation_batches", "training_batches"]


class Readable(Protocol):
    """Anything whose samples can be read by index: a split, or a list of files to predict."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def read(self, index: int) -> EncodedSample:
        """Return sample ``index``."""
        ...


@dataclass(frozen=True)
class BadSample:
    """A sample that could not be read or decoded."""

    index: int
    key: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Samples on their way to the device.

    Attributes:
        pixels: ``(N, S, S, C)`` uint8.
        labels: ``(N,)`` int64, indices into the classes.
        positions: ``(N, 3)`` int64: epoch, index into the split, and repeat of each sample.
        places: ``(N,)`` int64: the samples' places in the batch that was asked for, bad ones counted.
        keys: Names of the samples.
        bad: Samples that are missing from the above.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    places: torch.Tensor
    keys: list[str]
    bad: list[BadSample]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def indices(self) -> torch.Tensor:
        """``(N,)`` int64, indices into the split."""
        return self.positions[:, 1]

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory; torch's DataLoader calls this for CUDA."""
        return dataclasses.replace(self, pixels=self.pixels.pin_memory(), labels=self.labels.pin_memory())

    def parts(self, size: int) -> Iterator[slice]:
        """Yield which samples stand at places 0 to ``size``, at ``size`` to 2·``size``, and so on."""
        whole = len(self) + len(self.bad)
        bounds = torch.searchsorted(self.places, torch.arange(0, whole + size, size)).tolist()
        yield from (slice(first, last) for first, last in itertools.pairwise(bounds))

    def require_all_good(self) -> None:
        """Raise for the first sample that could not be used.

        Raises:
            DataError: Naming the sample and the reason.
        """
        for sample in self.bad:
            raise DataError(
                f"{sample.key}: {sample.reason}", remedy="repair or remove this file, then start again"
            )


def training_batches(
    split: Readable,
    preprocess: Preprocess,
    augment: Augment,
    order: TrainingOrder,
    *,
    num_workers: int,
    pin_memory: bool = False,
) -> Generator[Batch]:
    """Yield the batches of a training run, in the order of ``order``; bad samples are in ``Batch.bad``."""
    yield from _loader(_Views(split, preprocess, augment, order.seed), order, num_workers, pin_memory)


def evaluation_batches(
    split: Readable,
    preprocess: Preprocess,
    *,
    batch_size: int,
    num_workers: int,
    rank: int = 0,
    num_ranks: int = 1,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Yield every sample once, in order, seen through the central crop; bad samples are in ``Batch.bad``.

    Of several ranks each gets every ``num_ranks``-th batch.
    """
    order = InOrder(len(split), batch_size, rank, num_ranks)
    yield from _loader(_Views(split, preprocess, None, 0), order, num_workers, pin_memory)


@dataclass(frozen=True)
class _View:
    position: Position
    key: str
    label: int
    pixels: NDArray[np.uint8]


class _Views(Dataset["_View | BadSample"]):
    def __init__(self, split: Readable, preprocess: Preprocess, augment: Augment | None, seed: int) -> None:
        self._split, self._preprocess, self._augment, self._seed = split, preprocess, augment, seed

    def __getitem__(self, position: Position) -> _View | BadSample:
        index = position.sample
        key = f"sample {index}"
        try:
            sample = self._split.read(index)
            key = sample.key
            pixels = self._preprocess.to_channels(decode(sample.content))
        except DataError as error:
            return BadSample(index, key, str(error).removeprefix(f"{key}: "))
        if self._augment is None:
            view = self._preprocess.center_view(pixels)
        else:
            random = SampleRandom(self._seed, position.epoch, index, position.repeat, position.uniforms)
            side_px = position.side_px or self._preprocess.crop_px
            height, width = pixels.shape[:2]
            choice = choose(self._augment, random, height, width, self._preprocess, side_px)
            view = apply(pixels, choice, self._preprocess, side_px)
        return _View(position, key, sample.label, view)


def _loader(
    views: _Views, order: Sampler[list[Position]], num_workers: int, pin_memory: bool
) -> DataLoader[Batch]:
    return DataLoader(
        views,  # type: ignore[arg-type]  # the collate function turns views into batches
        batch_sampler=order,
        num_workers=num_workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        # Without its own generator the loader would draw a base seed from torch's global random state.
        generator=torch.Generator(),
        worker_init_fn=_ignore_interrupts,
        prefetch_factor=4 if num_workers else None,
    )


def _ignore_interrupts(_worker: int) -> None:
    """Leave Ctrl-C to the main process, which stops the workers when it is done with them."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _collate(samples: list[_View | BadSample]) -> Batch:
    good = [sample for sample in samples if isinstance(sample, _View)]
    return Batch(
        pixels=torch.from_numpy(np.stack([view.pixels for view in good]))
        if good
        else torch.empty(0, dtype=torch.uint8),
        labels=torch.tensor([view.label for view in good], dtype=torch.int64),
        positions=torch.tensor([view.position[:3] for view in good], dtype=torch.int64).reshape(-1, 3),
        places=torch.tensor([place for place, sample in enumerate(samples) if isinstance(sample, _View)]),
        keys=[view.key for view in good],
        bad=[sample for sample in samples if isinstance(sample, BadSample)],
    )
