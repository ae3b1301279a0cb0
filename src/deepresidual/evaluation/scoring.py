"""Scores: what one model or several say of every image of a split, averaged over its views.

Training, and whoever looks at one central crop, gets the batches of :func:`evaluation_batches` as they are.
Several views, several preprocessings or changed images take the general way: an image is decoded once, a
thread makes all that the members are going to see of it, and views of one size share a batch. All members
are in memory at once: six of the paper's networks have 1.3 GB of weights, while to decode a split as often
as there are members costs minutes each time.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from deepresidual.backends.pytorch import require_torch
from deepresidual.data.loader import BadSample, PreparedSample, Readable, evaluation_batches, prepared_samples
from deepresidual.evaluation.views import Views
from deepresidual.models import Classifier
from deepresidual.preprocess import Preprocess
from deepresidual.runtime.compute import Precision
from deepresidual.runtime.distributed import SINGLE, Processes
from deepresidual.runtime.signals import StopRequest, StopRequested

T = TypeVar("T")

WHOLE_IMAGES = "scores of whole images (multi-scale views)"

# What the threads hold ready at most, in bytes of pixels for each group of images.
_GROUP_BYTES = 64_000_000


@dataclass(frozen=True)
class ScoredBatch:
    """Scores of some samples.

    Attributes:
        scores: ``(M, N, K)`` on the CPU, for M members, N samples and K classes in the order of the first
            member's: logits as float32 where there is one view of every image, else logarithms of mean
            probabilities as float64, whose softmax is those probabilities.
        labels: ``(N,)`` int64.
        indices: ``(N,)`` int64, indices into the split.
        keys: Names of the samples.
        bad: Samples that could not be used and are missing from the above.
    """

    scores: torch.Tensor
    labels: torch.Tensor
    indices: torch.Tensor
    keys: list[str]
    bad: list[BadSample]


def scored_batches(
    members: Sequence[Classifier],
    split: Readable,
    views: Views,
    *,
    batch_size: int,
    num_workers: int,
    precision: Precision,
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
    processes: Processes = SINGLE,
) -> Iterator[ScoredBatch]:
    """Yield the scores of every sample of a split, once and in order.

    Args:
        members: Models that know the same classes.
        split: The samples; labels are rows of the first member's classifier.
        views: Views of every image to average.
        batch_size: Images of the crop's size at a time.
        num_workers: Threads that load.
        precision: Precision of the forward passes.
        change: Changes every decoded image, ``(H, W, 3)`` uint8 RGB, before its views are made.
        processes: Processes among which batches are dealt out.
    """
    if views.are_whole:
        for member in members:
            require_torch(member, WHOLE_IMAGES)
    seen = [
        member.in_precision(precision).with_preprocess(views.preprocess(member.preprocess))
        for member in members
    ]
    if change is None and _is_one_crop(seen, views):
        yield from _scores_of_crops(seen, split, batch_size, num_workers, processes)
    else:
        yield from _scores_of_views(seen, split, views, batch_size, num_workers, change, processes)


def samples_together(members: Sequence[Classifier], views: Views, batch_size: int) -> int:
    """Return how many samples of a split go through the networks together, the last ones apart.

    Logits may depend on it in their last digits.
    """
    seen = [member.with_preprocess(views.preprocess(member.preprocess)) for member in members]
    if _is_one_crop(seen, views):
        return batch_size
    return _group_size(list(dict.fromkeys(member.preprocess for member in seen)), views, batch_size)


def _is_one_crop(members: Sequence[Classifier], views: Views) -> bool:
    return views.kind == "one" and len({member.preprocess for member in members}) == 1


def _group_size(records: Sequence[Preprocess], views: Views, batch_size: int) -> int:
    num_bytes = sum(views.num_pixels(record) * record.num_channels for record in records)
    return max(1, min(batch_size, _GROUP_BYTES // num_bytes))


def until_stopped(batches: Iterator[T], stop: StopRequest | None, processes: Processes) -> Iterator[T]:
    """Yield the batches of this process until they end or a stop is requested, then ask all processes.

    Args:
        batches: The batches of this process.
        stop: Request to stop; checked between batches, and at once while waiting for data. Default: none.
        processes: Those that evaluate together.

    Raises:
        StopRequested: A stop was requested on any of them.
    """
    stop, stopped_with = stop or StopRequest(), 0
    while True:
        try:
            with stop.at_once():
                batch = next(batches, None)
        except StopRequested as request:  # of this request, or of one around this call
            stopped_with = request.exit_code
            break
        if batch is None:
            break
        yield batch
    (exit_code,) = processes.all_max(stopped_with or stop.exit_code)
    if exit_code:
        raise StopRequested(exit_code)


def mean_of_probabilities(scores: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the mean of probabilities.

    Args:
        scores: ``(M, …, K)`` logits, or logarithms of probabilities, of M views or members.

    Returns:
        ``(…, K)`` float64.
    """
    # In logarithms, lest a class that all hold for impossible come to a probability of zero.
    log_probabilities = scores.double().log_softmax(dim=-1)
    return log_probabilities.logsumexp(dim=0) - math.log(len(scores))


# -- one crop --------------------------------------------------------------------------------------------


def _scores_of_crops(
    members: Sequence[Classifier], split: Readable, batch_size: int, num_workers: int, processes: Processes
) -> Iterator[ScoredBatch]:
    batches = evaluation_batches(
        split,
        members[0].preprocess,
        batch_size=batch_size,
        num_workers=num_workers,
        rank=processes.rank,
        num_ranks=processes.size,
    )
    for batch in batches:
        if len(batch):
            scores = [torch.from_numpy(member.logits(batch.pixels.numpy())) for member in members]
            scored = _aligned(scores, members)
        else:
            scored = torch.empty(len(members), 0, len(members[0].label_names))
        yield ScoredBatch(scored, batch.targets, batch.indices, batch.keys, batch.bad)


def _aligned(scores: list[torch.Tensor], members: Sequence[Classifier]) -> torch.Tensor:
    """Stack the members' scores with their classes in the order of the first member's."""
    names = members[0].label_names
    return torch.stack(
        [
            rows
            if member.label_names == names
            else rows[:, [member.label_names.index(name) for name in names]]
            for rows, member in zip(scores, members, strict=True)
        ]
    )


# -- several views -----------------------------------------------------------------------------------------


def _scores_of_views(
    members: Sequence[Classifier],
    split: Readable,
    views: Views,
    batch_size: int,
    num_workers: int,
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None,
    processes: Processes,
) -> Iterator[ScoredBatch]:
    # Members that see images in the same way share the views.
    records = list(dict.fromkeys(member.preprocess for member in members))

    def prepare(pixels: NDArray[np.uint8]) -> list[list[NDArray[np.uint8]]]:
        changed = pixels if change is None else change(pixels)
        return [views.cut(record.to_channels(changed), record) for record in records]

    groups = prepared_samples(
        split,
        prepare,
        group_size=_group_size(records, views, batch_size),
        num_workers=num_workers,
        rank=processes.rank,
        num_ranks=processes.size,
    )
    for samples in groups:
        good = [sample for sample in samples if isinstance(sample, PreparedSample)]
        scores = [
            _averaged(
                member, [sample.value[records.index(member.preprocess)] for sample in good], views, batch_size
            )
            for member in members
        ]
        yield ScoredBatch(
            _aligned(scores, members),
            torch.tensor([sample.target for sample in good], dtype=torch.int64),
            torch.tensor([sample.index for sample in good], dtype=torch.int64),
            [sample.key for sample in good],
            [sample for sample in samples if isinstance(sample, BadSample)],
        )


def _averaged(
    member: Classifier, cuts: list[list[NDArray[np.uint8]]], views: Views, batch_size: int
) -> torch.Tensor:
    """Return the scores of images, ``(N, K)``, from the views of each, ``(H, W, C)`` uint8."""
    if not cuts:
        return torch.empty(0, len(member.label_names))
    by_shape: dict[tuple[int, ...], list[tuple[int, NDArray[np.uint8]]]] = defaultdict(list)
    for row, views_of_image in enumerate(cuts):
        for view in views_of_image:
            by_shape[view.shape].append((row, view))
    rows: list[int] = []
    scores: list[torch.Tensor] = []
    for (height, width, _), group in by_shape.items():
        # As many pixels at a time as in a batch of crops, so that memory stays what it was.
        at_a_time = max(1, batch_size * member.preprocess.crop_px**2 // (height * width))
        for first in range(0, len(group), at_a_time):
            part = group[first : first + at_a_time]
            pixels = np.stack([view for _, view in part])
            for mirrored in (False, True) if views.is_mirrored else (False,):
                shown = np.flip(pixels, axis=2).copy() if mirrored else pixels
                scores.append(torch.from_numpy(_logits(member, shown, views)))
                rows.extend(row for row, _ in part)
    together = torch.cat(scores)
    if len(together) == len(cuts):  # one view an image: logits, as they are without views
        return together[torch.tensor(rows).argsort()]
    in_order = together[torch.tensor(rows).argsort(stable=True)]
    by_image = in_order.reshape(len(cuts), -1, len(member.label_names))
    return mean_of_probabilities(by_image.transpose(0, 1))


def _logits(member: Classifier, pixels: NDArray[np.uint8], views: Views) -> NDArray[np.float32]:
    """Return the logits of ``(N, H, W, C)`` uint8 views; of whole images the mean over all positions."""
    if views.are_whole:
        return require_torch(member, WHOLE_IMAGES).logits_of_whole(pixels)
    return member.logits(pixels)
