"""Features of a split: the backbone runs once over every image, and what its classifier would read is kept.

What a row of features is depends on the image, the view, the weights and the machine, and on no other image:
batches always have the same size (the last is filled up and the filling thrown away), so a row that comes out
of the cache is to the bit the row that would have been computed.

Example:
    >>> features = extract_features(deepresidual.load("resnet56-cifar10"), source.split("train"))
    >>> features.values.shape  # images, views, features
    (244, 2, 64)
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from deepresidual.data.decode import decode
from deepresidual.data.loader import BadSample, Readable, unusable
from deepresidual.data.threads import in_order
from deepresidual.errors import DataError, UnknownNameError
from deepresidual.runtime.signals import StopRequest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deepresidual.models import TorchClassifier
    from deepresidual.nn import ResNet
    from deepresidual.preprocess import Preprocess
    from deepresidual.training.feature_cache import CachedFeatures, FeatureCache

View: TypeAlias = Literal["center", "mirrored"]
"""How an image is shown: the central crop of the preprocessing, or its mirror image."""

VIEWS: tuple[View, ...] = ("center", "mirrored")

# On a CPU more at once is no faster (ResNet-18 at 224 px: 39 ms an image for 4 to 16, 41 for 32), and the
# last batch is filled up. Results may depend on it, so it is part of what the cache knows a row by.
_ON_CPU, _ELSEWHERE = 8, 64
_READ_TOGETHER, _GROUPS_AHEAD = 16, 4
# Behind the first sample that cannot be used so many more are decoded, to name others like it: seconds.
_LOOKED_THROUGH = 1_000


@dataclass(frozen=True)
class Features:
    """Features of the samples of a split, in its order.

    Attributes:
        values: ``(N, V, F)`` float32: of N images in V views the F features that a classifier reads.
        labels: ``(N,)`` int64; of several labels an image ``(N, K)`` zeros and ones.
        keys: Names of the samples.
        indices: ``(N,)`` int64, indices into the split.
        bad: Samples that could not be used and are missing from the above.
        num_cached: How many of the ``N · V`` rows came out of the cache.
    """

    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    keys: list[str]
    indices: NDArray[np.int64]
    bad: list[BadSample]
    num_cached: int = 0

    def __len__(self) -> int:
        return len(self.keys)


def extract_features(
    model: TorchClassifier,
    split: Readable,
    *,
    views: Sequence[View] = VIEWS,
    num_workers: int = 0,
    stop: StopRequest | None = None,
    bad_samples: Literal["stop", "skip"] | None = None,
    cache: FeatureCache | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Run the backbone once over every image of a split, in evaluation mode and float32, where it lies.

    Args:
        model: Network and preprocessing. The network is put into evaluation mode; its classifier is not read.
        split: The samples; their targets are labels, or vectors of zeros and ones.
        views: Views of every image.
        num_workers: Threads that read and decode.
        stop: Request to stop, heard while waiting for data and during a batch.
        bad_samples: Of a run: whether unreadable samples are left out or an error that names
            ``--bad-samples skip``. Elsewhere an error without that. It names those among the next thousand
            samples as well.
        cache: Rows that are known already; those that are computed are put there, and stay there also where
            the extraction is stopped.
        progress: Called with the number of images that are done and the number of all.

    Raises:
        DataError: A sample cannot be used.
        StopRequested: A stop was requested.
        UnknownNameError: There is no such view.
    """
    for view in views:
        if view not in VIEWS:
            raise UnknownNameError("view", view, VIEWS)
    network = model.network.eval()
    rows = _Rows(np.empty((len(split), len(views), network.num_features), dtype=np.float32))
    with contextlib.ExitStack() as stack:
        known = None
        if cache is not None:
            known = stack.enter_context(cache.opened(model, views))
        stop = stop or StopRequest()
        samples = _samples(model.preprocess, split, views, num_workers, known)
        stack.enter_context(contextlib.closing(samples))
        waiting: list[_Shown] = []
        size = batch_size(network)
        while True:
            with stop.at_once():
                sample = next(samples, None)
            if isinstance(sample, BadSample):
                rows.bad.append(sample)
                if bad_samples != "skip":
                    with stop.at_once():
                        rows.bad += _bad_among(itertools.islice(samples, _LOOKED_THROUGH))
                    raise unusable(
                        {bad.key: bad.reason for bad in rows.bad}, can_skip=bad_samples is not None
                    )
            elif sample is not None:
                rows.take(sample)
                waiting += [sample] if sample.pixels is not None else []
            if len(waiting) == size or (sample is None and waiting):
                _compute(model, waiting, views, rows, stop, known)
                waiting = []
            if progress is not None and not (waiting and sample is not None):
                progress(len(rows.keys) + len(rows.bad), len(split))
            if sample is None:
                return rows.features()


def batch_size(network: ResNet) -> int:
    """Return the size of every batch where the network lies."""
    return _ON_CPU if network.conv1.weight.device.type == "cpu" else _ELSEWHERE


@dataclass(frozen=True)
class _Shown:
    """A sample, and either its pixels or the features that the cache has of it.

    Attributes:
        index: Which sample of the split.
        key: Its name.
        target: Its label, or labels.
        digest: SHA-256 of the file; empty without a cache.
        pixels: ``(S, S, C)`` uint8, the central view, where a view is to be computed.
        known: ``(F,)`` float32 by number of the view.
    """

    index: int
    key: str
    target: int
    digest: bytes
    pixels: NDArray[np.uint8] | None
    known: dict[int, NDArray[np.float32]]


@dataclass
class _Rows:
    """The features so far; rows of bad samples are not among the first ``len(keys)``."""

    values: NDArray[np.float32]
    keys: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    places: dict[int, int] = field(default_factory=dict)
    bad: list[BadSample] = field(default_factory=list)
    num_cached: int = 0

    def take(self, sample: _Shown) -> None:
        """Give the sample a row and put in what is known of it."""
        place = self.places[sample.index] = len(self.keys)
        self.keys.append(sample.key)
        self.labels.append(sample.target)
        self.indices.append(sample.index)
        for number, row in sample.known.items():
            self.values[place, number] = row
        self.num_cached += len(sample.known)

    def features(self) -> Features:
        return Features(
            self.values[: len(self.keys)],
            np.array(self.labels, dtype=np.int64),
            self.keys,
            np.array(self.indices, dtype=np.int64),
            self.bad,
            self.num_cached,
        )


def _samples(
    preprocess: Preprocess,
    split: Readable,
    views: Sequence[View],
    num_workers: int,
    known: CachedFeatures | None,
) -> Generator[_Shown | BadSample]:
    def work(index: int) -> _Shown | BadSample:
        key = f"sample {index}"
        try:
            sample = split.read(index)
            key = sample.key
            digest, found = b"", {}
            if known is not None:
                digest = hashlib.sha256(sample.content).digest()
                found = known.find(digest)
            pixels = None
            if len(found) < len(views):
                pixels = preprocess.center_view(preprocess.to_channels(decode(sample.content)))
            return _Shown(index, key, sample.target, digest, pixels, found)
        except DataError as error:
            return BadSample(index, key, str(error).removeprefix(f"{key}: "))

    starts = range(0, len(split), _READ_TOGETHER)
    groups = (range(start, min(start + _READ_TOGETHER, len(split))) for start in starts)
    prepared = in_order(work, groups, num_threads=num_workers, groups_ahead=_GROUPS_AHEAD)
    with contextlib.closing(prepared):
        for group in prepared:
            yield from group


def _bad_among(samples: Iterable[_Shown | BadSample]) -> list[BadSample]:
    return [sample for sample in samples if isinstance(sample, BadSample)]


def _compute(
    model: TorchClassifier,
    samples: Sequence[_Shown],
    views: Sequence[View],
    rows: _Rows,
    stop: StopRequest,
    known: CachedFeatures | None,
) -> None:
    """Compute the views that are not known of at most a batch of samples."""
    for number, view in enumerate(views):
        missing = [sample for sample in samples if number not in sample.known]
        if not missing:
            continue
        with stop.at_once():
            computed = _forward(model, missing, view)
        for sample, row in zip(missing, computed, strict=True):
            rows.values[rows.places[sample.index], number] = row
        if known is not None:
            known.add(number, [sample.digest for sample in missing], computed)


def _forward(model: TorchClassifier, samples: Sequence[_Shown], view: View) -> NDArray[np.float32]:
    preprocess = model.preprocess
    side, channels = preprocess.crop_px, preprocess.num_channels
    pixels = np.zeros((batch_size(model.network), side, side, channels), dtype=np.uint8)
    for place, sample in zip(pixels, samples, strict=False):
        if sample.pixels is not None:
            place[:] = sample.pixels if view == "center" else sample.pixels[:, ::-1]
    return model.features(pixels)[: len(samples)]
