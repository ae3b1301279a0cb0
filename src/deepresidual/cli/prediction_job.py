"""What ``residual predict`` is to do whatever the model gives: the images, stdin, and where rows go."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from deepresidual.errors import ConfigurationError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    from deepresidual.backends.files import FoundImages
    from deepresidual.backends.images import ImageFile
    from deepresidual.cli.prediction_files import Destination
    from deepresidual.runtime.compute import PrecisionChoice

__all__ = ["Job", "files_of", "refuse"]

STDIN = "-"
# As much as an image in an archive may have.
_MAX_STDIN_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Job:
    """Images to predict, how, and where the rows go.

    Attributes:
        model: What the user calls the model.
        paths: What was given.
        found: What the paths stand for; ``None`` where a folder of shards has frozen it.
        files: What to predict; empty with a folder of shards.
        folder: The folder of shards, if there is one.
        out: The file, or that folder.
        format: How rows are printed; ``None``: as a table.
        batch_size: Images at a time; ``None``: the usual number.
        workers: Threads that read and decode; ``None``: chosen.
        precision: Precision of the forward pass.
        as_json: Whether one JSON document is printed at the end instead.
    """

    model: str
    paths: list[str]
    found: FoundImages | None
    files: list[ImageFile | bytes]
    folder: Destination | None
    out: Path | None
    format: str | None
    batch_size: int | None
    workers: int | None
    precision: PrecisionChoice
    as_json: bool

    @property
    def unusable(self) -> list[DataError]:
        """What is wrong with paths that stand for no image."""
        return [] if self.found is None else self.found.unusable


def files_of(paths: list[str]) -> tuple[FoundImages, list[ImageFile | bytes]]:
    """Return what paths stand for, and what to predict: files, and last the image from stdin."""
    from deepresidual.backends import find_images
    from deepresidual.backends.files import FoundImages
    from deepresidual.backends.images import ImageFile

    others = [path for path in paths if path != STDIN]
    found = find_images(others) if others else FoundImages([], [], [])
    stdin = [_read_stdin()] if STDIN in paths else []
    return found, [*map(ImageFile, found.files), *stdin]


def refuse(options: dict[str, bool], model: str, kind: str, expected: str) -> None:
    """Refuse options that have no meaning for a kind of model.

    Args:
        options: Names of options, and whether they are given.
        model: What the user calls the model.
        kind: What it is.
        expected: What it takes instead.

    Raises:
        ConfigurationError: One is given.
    """
    given = [name for name, is_given in options.items() if is_given]
    if given:
        raise ConfigurationError(f"{given[0]} is given, and {model} is {kind}", expected=expected)


def _read_stdin() -> bytes:
    """Return the image that comes through stdin, up to its end."""
    if sys.stdin is None:
        raise DataError("stdin is closed", expected="the bytes of an image")
    content = sys.stdin.buffer.read(_MAX_STDIN_BYTES + 1)
    if len(content) > _MAX_STDIN_BYTES:
        raise DataError(f"stdin has more than {_MAX_STDIN_BYTES:,} bytes", expected="the bytes of one image")
    return content
