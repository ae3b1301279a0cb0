"""Read a data set in which each image has a file of annotations: beside it, or in another folder.

Folders tell the splits. An image without a file, where others have one, is not annotated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from deepresidual.data.source.annotated.described import DescribedImage
from deepresidual.data.source.annotated.findings import Finding
from deepresidual.data.source.annotated.image_files import ImageFiles, split_of_folders, walk_linked
from deepresidual.data.source.annotated.source import Reading
from deepresidual.errors import DataError


class ReadBeside(Protocol):
    """Read the file of annotations of one image."""

    def __call__(self, file: Path, images: ImagesBeside, reading: Reading) -> DescribedImage:
        """Return what ``file`` says; which image it is of tells :meth:`ImagesBeside.of`."""
        ...


class ImagesBeside:
    """The images of a data set, of which each belongs to one file of annotations.

    Args:
        root: The data set.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._images = ImageFiles.below(root, root)
        self._used: dict[Path, Path] = {}

    def of(self, file: Path, *names: str | Callable[[], str]) -> Path:
        """Return the image of a file of annotations, which no other file may have.

        Args:
            file: The file.
            names: What the image may be called, the likeliest first: a path from the file's folder, or a name
                that is looked for in the nearest folder. A function is asked when it is needed.

        Raises:
            DataError: There is no such image, there are several, or another file has it.
        """
        image, asked = None, ""
        for name in names:
            asked = name if isinstance(name, str) else name()
            if image := asked and (self._images.from_folder(file, asked) or self._images.near(file, asked)):
                break
        shown = file.relative_to(self._root).as_posix()
        if not image:
            raise self._images.missing(Path(asked).stem or file.stem, shown)
        if image in self._used:
            raise DataError(
                f"{shown} and {self._used[image].relative_to(self._root).as_posix()} are both of "
                f"{image.relative_to(self._root).as_posix()}",
                remedy="keep one",
            )
        self._used[image] = file
        return image

    def not_annotated(self, without: str) -> list[Finding]:
        """Return a finding for each image without a file, in folders where others have one.

        Args:
            without: What it lacks, as a clause.
        """
        folders = {image.parent for image in self._used}
        return [
            Finding("not-annotated", path.relative_to(self._root).as_posix(), "", without, is_used=False)
            for path in self._images.paths
            if path not in self._used and path.parent in folders
        ]


def files_below(root: Path, ending: str) -> list[Path]:
    """Return the files below a folder whose names end so, in any case, sorted."""
    return sorted(
        listing.folder / name
        for listing in walk_linked(root)
        for name in listing.files
        if name.casefold().endswith(ending)
    )


def read_beside(root: Path, files: Sequence[Path], read: ReadBeside, what: str) -> Reading:
    """Read the files of annotations of a data set.

    Args:
        root: The data set.
        files: The files.
        read: Reads one of them.
        what: What such a file is called, as ``XML file``.

    Raises:
        DataError: A file cannot be used, or some images lie in splits and others in none.
    """
    reading = Reading(root, {})
    images = ImagesBeside(root)
    for file in files:
        with reading.faults.noted():
            described = read(file, images, reading)
            reading.parts.setdefault(split_of_folders(root / described.key, root), []).append(described)
    reading.faults.refuse()
    if None in reading.parts and len(reading.parts) > 1:
        stray = reading.parts.pop(None)
        raise DataError(
            f"{stray[0].key} lies in no split, and others do", expected="all images in train/, val/ or test/"
        )
    reading.findings += images.not_annotated(f"it has no {what}")
    return reading
