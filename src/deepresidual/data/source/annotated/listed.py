"""Read a data set whose files of annotations name many images each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from deepresidual.data.source.annotated.described import DescribedImage
from deepresidual.data.source.annotated.image_files import ListedImages
from deepresidual.data.source.annotated.source import Reading
from deepresidual.data.source.files import files_by_split
from deepresidual.errors import DataError


class ReadListed(Protocol):
    """Read a file of annotations."""

    def __call__(
        self, file: Path, shown: str, reading: Reading
    ) -> Iterable[tuple[str | None, DescribedImage]]:
        """Return the images of ``file``, called ``shown`` in messages, each with the split that it says.

        The key of an image is the name that the file has for it.
        """
        ...


def read_listed(root: Path, files: Sequence[Path], read: ReadListed) -> Reading:
    """Read files of annotations, of which each names many images.

    Args:
        root: The data set.
        files: The files; their names or folders say the splits, where what stands in them does not.
        read: Reads one of them.

    Raises:
        DataError: A file cannot be used, an image is not there or is named twice, or some images lie in
            splits and others in none.
    """
    reading = Reading(root, {})
    images = ListedImages(root)
    named_in: dict[str, str] = {}
    for split_of_file, group in files_by_split(root, files, reading.ignored, complete=False).items():
        for file in group:
            shown = file.relative_to(root).as_posix()
            with reading.faults.noted():
                by_split: dict[str | None, list[DescribedImage]] = {}
                for said, described in read(file, shown, reading):
                    by_split.setdefault(said or split_of_file, []).append(described)
                for split, part in by_split.items():
                    keys = images.find(file, split, [described.key for described in part])
                    for described, key in zip(part, keys, strict=True):
                        if named_in.setdefault(key, shown) is not shown:
                            raise DataError(
                                f"{named_in[key]} and {shown} are both of {key}", remedy="keep one of them"
                            )
                        described.key = key
                    reading.parts.setdefault(split, []).extend(part)
    reading.faults.refuse()
    if None in reading.parts and len(reading.parts) > 1:
        stray = reading.parts[None][0]
        raise DataError(
            f"{stray.file} does not say which split {stray.key} belongs to, and does of others",
            remedy="give every image a split, or none",
        )
    reading.ignored += images.unlisted()
    return reading
