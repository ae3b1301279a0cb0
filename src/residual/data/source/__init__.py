"""Where samples come from: the DATA argument of every command."""

from __future__ import annotations

from pathlib import Path

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
    path = Path(data)
    if not path.exists():
        raise DataError(
            f"{data} does not exist",
            expected="'digits', a folder of images by class, or a .parquet file or folder",
        )
    if path.suffix == ".parquet" or (path.is_dir() and next(path.rglob("*.parquet"), None)):
        from residual.data.source.parquet import open_parquet

        return open_parquet(path)
    if path.is_dir():
        from residual.data.source.folder import open_folder

        return open_folder(path)
    raise DataError(f"{data} is a file", expected="a folder of images by class or a .parquet file")
