"""Names by which runs of earlier versions know the rows of a table without paths: side and number on it.

Before 30 November 2026 such a table without splits was divided by the hash of the row's number, and each side
counted its rows anew: ``train/0``, ``test/0``. Only runs that go on need that.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

from deepresidual.data.source.base import EncodedSample, Row, Split


class EarlierRows:
    """All rows of a table without splits and paths, under their earlier names.

    Args:
        whole: The rows.
    """

    def __init__(self, whole: Split) -> None:
        self._whole = whole

    @property
    def labels(self) -> list[int]:
        """The label of every row."""
        return self._whole.labels

    def __len__(self) -> int:
        return len(self._whole)

    def key(self, index: int) -> str:
        """Return the name of row ``index``."""
        return self._whole.key(index)

    def read(self, index: int) -> EncodedSample:
        """Return row ``index``."""
        return self._whole.read(index)

    def row_names(self) -> list[str]:
        """Return the earlier names."""
        counts: Counter[str] = Counter()
        names = []
        for number in range(len(self)):
            is_for_testing = hashlib.sha256(str(number).encode()).digest()[0] < 51
            side = "test" if is_for_testing else "train"
            names.append(f"{side}/{counts[side]}")
            counts[side] += 1
        return names

    def rows(self) -> Iterator[Row]:
        """Yield earlier name, label and size of every row."""
        for name, (_, label, size) in zip(self.row_names(), self._whole.rows(), strict=True):
            yield name, label, size
