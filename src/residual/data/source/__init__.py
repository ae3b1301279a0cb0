"""Where samples come from: the DATA argument of every command."""

from __future__ import annotations

import os
from pathlib import Path

from residual.data.decode import EXTENSIONS
from residual.data.source.base import EncodedSample, IgnoredFile, SampleSource, Split
from residual.data.source.folder import list_images
from residual.errors import DataError

__all__ = ["EncodedSample", "IgnoredFile", "SampleSource", "Split", "list_images", "open_source"]


def open_source(data: str | Path) -> SampleSource:
    """Open a data set.

    Args:
        data: ``digits`` (bundled), a folder of images sorted by class, or a parquet file or folder.

    Raises:
        DataError: There is no such data set, or it cannot be used; the message says why.
    """
    if data == "digits":
        from residual.data.source.digits import open_digits

        return open_digits()
    path = Path(data).expanduser()
    if not path.exists():
        raise DataError(
            f"{data} does not exist",
            expected="'digits', a folder of images by class, or a .parquet file or folder",
        )
    if path.suffix == ".parquet" or (path.is_dir() and _holds_parquet(path)):
        from residual.data.source.parquet import open_parquet

        return open_parquet(path)
    if path.is_dir():
        from residual.data.source.folder import open_folder

        return open_folder(path)
    raise DataError(f"{data} is a file", expected="a folder of images by class or a .parquet file")


def _holds_parquet(folder: Path) -> bool:
    """Return whether the first folder with data in it, from the top, holds parquet files and no images."""
    for _, _, files in os.walk(folder):
        kinds = {os.path.splitext(file)[1].casefold() for file in files}  # noqa: PTH122  # called a million times
        if kinds & EXTENSIONS:
            return False
        if ".parquet" in kinds:
            return True
    return False
