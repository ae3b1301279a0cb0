"""A list of image files, as a user names them: no classes, no splits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepresidual.data.decode import read_file
from deepresidual.data.source.base import EncodedSample
from deepresidual.runtime.files import expanded

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["FileList"]


class FileList:
    """Image files that the loader reads by their place in the list; the label of each is −1.

    Args:
        paths: The files.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = list(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, index: int) -> EncodedSample:
        """Return file ``index``; raise :class:`~deepresidual.errors.DataError` where it cannot be read."""
        path = self._paths[index]
        return EncodedSample(path, read_file(expanded(path)), label=-1)
