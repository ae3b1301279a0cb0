"""``ObjectSplit``: samples of a Python object as a split, which are the same whenever they are read."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from deepresidual.data.source.base import EncodedSample, LabelledSplit
from deepresidual.data.source.map_style import Label, Samples, key_of
from deepresidual.data.threads import in_order
from deepresidual.errors import DataError
from deepresidual.runtime.console import ProgressBar
from deepresidual.runtime.processes import usable_cores

_TOGETHER, _GROUPS_AHEAD = 32, 4
_RANDOM = (
    "if it is varied at random, give the data set without that: training varies images itself; if its "
    "__getitem__ cannot be called by several threads at once, train with num_workers=0"
)


class ObjectSplit(LabelledSplit):
    """Samples of one split.

    Once a run has taken their fingerprint, a sample whose image has changed is an error. One that is varied
    at random would be varied twice, and evaluated by chance; and a data set that is not made for several
    threads may hand out the image of another sample.

    Args:
        samples: The samples.
        values: Their labels as the data set has them.
        numbers: The class that each of these means.
        checksums: CRC-32 of every image, where they were read before.
        num_workers: Threads that read all of them for that. Default: one a core; 0: one at a time.
    """

    def __init__(
        self,
        samples: Samples,
        values: Sequence[Label],
        numbers: Mapping[Label, int],
        checksums: Sequence[int] | None = None,
        num_workers: int | None = None,
    ) -> None:
        super().__init__(np.array([numbers[value] for value in values], dtype=np.int64))
        self._samples, self._values, self._num_workers = samples, values, num_workers
        self._checksums = checksums

    def key(self, index: int) -> str:
        """Return the place of the sample in its data set."""
        return key_of(index)

    def read(self, index: int) -> EncodedSample:
        """Return sample ``index``."""
        content, value = self._samples.read(index)
        if value != self._values[index]:
            raise DataError(
                f"{key_of(index)}: its label is {value!r} and was {self._values[index]!r} before",
                remedy=_RANDOM,
            )
        if self._checksums is not None and zlib.crc32(content) != self._checksums[index]:
            raise DataError(f"{key_of(index)}: its image is not the one that it was before", remedy=_RANDOM)
        return EncodedSample(key_of(index), content, int(self._labels[index]))

    def _contents(self) -> Sequence[int]:
        if self._checksums is None:
            _, self._checksums = read_all(self._samples, self._num_workers)
        return self._checksums


def read_all(samples: Samples, num_workers: int | None) -> tuple[list[Label], list[int]]:
    """Read every sample once: labels, and the CRC-32 of every image.

    Args:
        samples: The samples.
        num_workers: Threads. Default: as many as there are cores; 0: this one.
    """

    def work(index: int) -> tuple[Label, int]:
        content, label = samples.read(index)
        return label, zlib.crc32(content)

    groups = (
        range(first, min(first + _TOGETHER, len(samples))) for first in range(0, len(samples), _TOGETHER)
    )
    threads = usable_cores() if num_workers is None else num_workers
    found: list[tuple[Label, int]] = []
    with ProgressBar(len(samples), label=f"reading {samples.name}") as bar:
        for results in in_order(work, groups, num_threads=threads, groups_ahead=_GROUPS_AHEAD):
            found += results
            bar.update(len(found), "")
    return [label for label, _ in found], [checksum for _, checksum in found]
