"""Batches: read, decode, vary, stack; in this thread, or in others ahead of it.

What a batch holds depends on the positions that it was asked for and on nothing else, so any number of
workers gives the same bits. A sample that cannot be used travels along as a :class:`BadSample` and the
consumer decides; nothing is replaced.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from deepresidual.data.augment import Choice, apply, center_choice, choose, window_of
from deepresidual.data.decode import OpenImage, decode, open_image
from deepresidual.data.sampler import SampleIndex, SequentialOrder, TrainingOrder
from deepresidual.data.source import EncodedSample
from deepresidual.data.source.base import Located, Target, Targets
from deepresidual.data.threads import in_order
from deepresidual.errors import DataError, listed
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Augment
from deepresidual.runtime.random import SampleRandom

T = TypeVar("T")

# A thread takes so many samples at a time: handing over a task costs 20 µs, as much as a view of 32 px.
_PART = 8
_BATCHES_AHEAD = 4
# What is prepared of one image may take megabytes.
_GROUPS_AHEAD = 2


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
        targets: What the samples are, stacked; of classification ``(N,)`` int64, indices into the classes; of
            detection :class:`deepresidual.data.objects.ObjectsBatch`, in pixels of the views.
        positions: ``(N, 3)`` int64: epoch, index into the split, and repeat of each sample.
        places: ``(N,)`` int64: the samples' places in the batch that was asked for, bad ones counted.
        keys: Names of the samples.
        bad: Samples that are missing from the above.
    """

    pixels: torch.Tensor
    targets: Targets
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

    def parts(self, size: int) -> Iterator[slice]:
        """Yield which samples stand at places 0 to ``size``, at ``size`` to 2·``size``, and so on."""
        whole = len(self) + len(self.bad)
        bounds = torch.searchsorted(self.places, torch.arange(0, whole + size, size)).tolist()
        yield from (slice(first, last) for first, last in itertools.pairwise(bounds))

    def require_all_good(self, *, can_skip: bool = False) -> None:
        """Raise for the first sample that could not be used; see :func:`require_none_bad`."""
        require_none_bad(self.bad, can_skip=can_skip)


@dataclass(frozen=True)
class PreparedSample(Generic[T]):
    """Result of ``prepare`` for one decoded image.

    Attributes:
        index: Which sample of the split.
        key: Its name.
        target: What it is; of classification an index into the classes.
        value: What was made of its pixels.
    """

    index: int
    key: str
    target: Target
    value: T


def require_none_bad(samples: Iterable[BadSample], *, can_skip: bool = False) -> None:
    """Raise for the first of the samples that could not be used, if there is one.

    Args:
        samples: The samples that could not be used.
        can_skip: See :func:`unusable`.

    Raises:
        DataError: Naming the sample and the reason.
    """
    for sample in samples:
        raise unusable({sample.key: sample.reason}, can_skip=can_skip)


def unusable(reasons: Mapping[str, str], *, can_skip: bool) -> DataError:
    """Return the error of samples that cannot be used.

    Args:
        reasons: One sample or more by name, with the reason.
        can_skip: Whether ``--bad-samples skip`` would leave them out, as in a run.
    """
    if len(reasons) == 1:
        ((key, reason),) = reasons.items()
        found, them = f"{key}: {reason}", "this file"
    else:
        items = [f"{key} ({reason})" for key, reason in reasons.items()]
        found, them = f"{len(items):,} images cannot be used: {listed(items)}", "these files"
    if not can_skip:
        return DataError(found, remedy=f"repair or remove {them}, then start again")
    remedy = f"repair or remove {them}, or leave such files out by --bad-samples skip"
    return DataError(found, remedy=f"{remedy}; 'residual check DATA' lists all")


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
    yield from _batches(_Reader(split, preprocess, augment, order.seed), order, num_workers, pin_memory)


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
    order = SequentialOrder(len(split), batch_size, rank, num_ranks)
    yield from _batches(_Reader(split, preprocess), order, num_workers, pin_memory)


def prepared_samples(
    split: Readable,
    prepare: Callable[[NDArray[np.uint8]], T],
    *,
    group_size: int,
    num_workers: int,
    rank: int = 0,
    num_ranks: int = 1,
) -> Iterator[list[PreparedSample[T] | BadSample]]:
    """Yield the results of ``prepare`` for every image, once each and in order, in groups.

    For what does not fit into one array: several views of an image, of several sizes.

    Args:
        split: The samples.
        prepare: Makes something of ``(H, W, 3)`` uint8 RGB; called by several threads at once. What it raises
            as a :class:`DataError` makes the sample a bad one.
        group_size: Samples in a group; of several ranks each gets every ``num_ranks``-th group.
        num_workers: Threads that prepare ahead of the one that takes the groups.
        rank: Which rank this is.
        num_ranks: How many ranks share the split.
    """

    def work(index: int) -> PreparedSample[T] | BadSample:
        key = f"sample {index}"
        try:
            sample = split.read(index)
            key = sample.key
            return PreparedSample(index, key, sample.target, prepare(decode(sample.content)))
        except DataError as error:
            return BadSample(index, key, str(error).removeprefix(f"{key}: "))

    order = SequentialOrder(len(split), group_size, rank, num_ranks)
    groups = ([position.sample for position in positions] for positions in order)
    prepared = in_order(work, groups, num_threads=num_workers, groups_ahead=_GROUPS_AHEAD)
    with contextlib.closing(prepared):
        yield from prepared


def training_view(
    content: bytes, augment: Augment, random: SampleRandom, preprocess: Preprocess, side_px: int
) -> NDArray[np.uint8]:
    """Take an image file the whole way to a training view.

    Args:
        content: The whole file.
        augment: How the image is varied.
        random: The random numbers of this sample in this epoch.
        preprocess: The preprocessing record of the network.
        side_px: Side of the view in pixels.

    Returns:
        ``(side_px, side_px, C)`` uint8, in the order of ``preprocess.channels``.

    Raises:
        DataError: The file cannot be decoded.
        ConfigurationError: The augmentation does not fit the images.
    """
    image = open_image(content)
    choice = choose(augment, random, image.height, image.width, preprocess, side_px)
    return _view(image, choice, preprocess, side_px)


def _view(image: OpenImage, choice: Choice, preprocess: Preprocess, side_px: int) -> NDArray[np.uint8]:
    if choice.exact:
        pixels = image.decode()
    else:
        pixels, box = image.decode_part(choice.box, side_px)
        choice = dataclasses.replace(choice, box=box)
    return apply(preprocess.to_channels(pixels), choice, preprocess, side_px)


@dataclass(frozen=True)
class _Viewed:
    """Key and target of a sample whose view is in the batch already."""

    key: str
    target: Target


@dataclass(frozen=True)
class _Part:
    """Some samples of a batch, and where their views belong: ``(n, S, S, C)`` uint8, memory of the batch."""

    positions: Sequence[SampleIndex]
    views: NDArray[np.uint8]


@dataclass(frozen=True)
class _Reader:
    """Reads samples and makes views of them; without an augmentation the central one."""

    split: Readable
    preprocess: Preprocess
    augment: Augment | None = None
    seed: int = 0

    def side_px(self, position: SampleIndex) -> int:
        return position.side_px or self.preprocess.crop_px

    def fill(self, part: _Part) -> list[_Viewed | BadSample]:
        """Put the views of some samples where they belong."""
        return [self._fill(*place) for place in zip(part.positions, part.views, strict=True)]

    def _fill(self, position: SampleIndex, place: NDArray[np.uint8]) -> _Viewed | BadSample:
        index = position.sample
        key = f"sample {index}"
        try:
            sample = self.split.read(index)
            key = sample.key
            if self.augment is None and not isinstance(sample.target, Located):
                place[:] = self.preprocess.center_view(self.preprocess.to_channels(decode(sample.content)))
                return _Viewed(key, sample.target)
            random = SampleRandom(
                self.seed, position.epoch, position.sample, position.repeat, position.uniforms
            )
            image, side_px = open_image(sample.content), self.side_px(position)
            choice = self._choice(image, random, side_px)
            place[:] = _view(image, choice, self.preprocess, side_px)
            if not isinstance(sample.target, Located):
                return _Viewed(key, sample.target)
            window = window_of(choice, image.height, image.width, self.preprocess, side_px)
            return _Viewed(key, sample.target.seen(window, random.regions_seed))
        except DataError as error:
            return BadSample(index, key, str(error).removeprefix(f"{key}: "))

    def _choice(self, image: OpenImage, random: SampleRandom, side_px: int) -> Choice:
        if self.augment is None:
            return center_choice(self.preprocess, image.height, image.width)
        return choose(self.augment, random, image.height, image.width, self.preprocess, side_px)


def _batches(
    reader: _Reader, order: Iterable[list[SampleIndex]], num_workers: int, pin_memory: bool
) -> Generator[Batch]:
    begun: deque[tuple[list[SampleIndex], torch.Tensor]] = deque()

    def parts() -> Iterator[list[_Part]]:
        for positions in order:
            side_px = reader.side_px(positions[0])
            shape = (len(positions), side_px, side_px, reader.preprocess.num_channels)
            pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=pin_memory)
            begun.append((positions, pixels))
            yield [
                _Part(positions[first : first + _PART], pixels[first : first + _PART].numpy())
                for first in range(0, len(positions), _PART)
            ]

    filled = in_order(reader.fill, parts(), num_threads=num_workers, groups_ahead=_BATCHES_AHEAD)
    with contextlib.closing(filled):
        for samples in filled:
            batch = _collate(*begun.popleft(), list(itertools.chain.from_iterable(samples)))
            yield dataclasses.replace(batch, targets=batch.targets.pin_memory()) if pin_memory else batch


def _collate(positions: list[SampleIndex], pixels: torch.Tensor, samples: list[_Viewed | BadSample]) -> Batch:
    good = [(place, sample) for place, sample in enumerate(samples) if isinstance(sample, _Viewed)]
    places = torch.tensor([place for place, _ in good], dtype=torch.int64)
    return Batch(
        pixels=pixels if len(good) == len(samples) else pixels[places],
        targets=_stacked([sample.target for _, sample in good]),
        positions=torch.tensor([positions[place][:3] for place, _ in good], dtype=torch.int64).reshape(-1, 3),
        places=places,
        keys=[sample.key for _, sample in good],
        bad=[sample for sample in samples if isinstance(sample, BadSample)],
    )


def _stacked(targets: list[Target]) -> Targets:
    if not targets:
        return torch.zeros(0).long()
    if isinstance(targets[0], Located):
        return targets[0].stacked(targets)
    return torch.tensor(targets)
