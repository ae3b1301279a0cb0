"""The image files of a data set with boxes, found by the names that annotations give them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deepresidual.data.formats import EXTENSIONS
from deepresidual.data.source.base import canonical_split
from deepresidual.data.source.files import split_in_name, walk
from deepresidual.errors import DataError, nearest


class ImageFiles:
    """Image files below a folder.

    Args:
        root: The data set, from which names start.
        folder: The folder.
        paths: The files, sorted.
    """

    def __init__(self, root: Path, folder: Path, paths: list[Path]) -> None:
        self._root, self._folder, self.paths = root, folder, paths
        self._by_stem: dict[str, list[Path]] = {}
        for path in paths:
            self._by_stem.setdefault(path.stem, []).append(path)

    @classmethod
    def below(cls, root: Path, folder: Path) -> ImageFiles:
        """Return the image files below a folder."""
        paths = (
            listing.folder / name
            for listing in walk(folder)
            for name in listing.files
            if Path(name).suffix.casefold() in EXTENSIONS
        )
        return cls(root, folder, sorted(paths))

    def of_stem(self, stem: str, named_in: str) -> Path:
        """Return the image of a name without its ending.

        Raises:
            DataError: There is none, or there are several; the message names the nearest.
        """
        found = self._by_stem.get(stem, [])
        if len(found) == 1:
            return found[0]
        if not found:
            raise self.missing(stem, named_in)
        raise self._ambiguous(found, named_in)

    def near(self, file: Path) -> Path | None:
        """Return the image that a file of annotations of its name belongs to: beside it, or the nearest.

        Raises:
            DataError: Several are equally near.
        """
        found = self._by_stem.get(file.stem, [])
        if len(found) > 1:
            depth = max(_shared(path, file) for path in found)
            found = [path for path in found if _shared(path, file) == depth]
        if len(found) > 1:
            raise self._ambiguous(found, file.relative_to(self._root).as_posix())
        return found[0] if found else None

    def missing(self, stem: str, named_in: str) -> DataError:
        """Return the error for an image that is not there; it names the nearest one."""
        where = self._folder.relative_to(self._root).as_posix()
        close = nearest(stem, list(self._by_stem), count=1, cutoff=0.7)
        hint = self._by_stem[close[0]][0].relative_to(self._root).as_posix() if close else ""
        return DataError(
            f"{named_in}: the image {stem} is not there{'' if where == '.' else f' in {where}'}",
            remedy=f"the nearest is {hint}" if hint else "copy the images there",
        )

    def _ambiguous(self, found: list[Path], named_in: str) -> DataError:
        names = " and ".join(path.relative_to(self._root).as_posix() for path in found[:2])
        return DataError(f"{named_in}: {names} are both of this name", remedy="rename or remove one")


def _shared(path: Path, file: Path) -> int:
    """Return how many folders from the top two paths share; more where one lies beside the other."""
    return sum(1 for _ in _common(path.parent.parts, file.parent.parts)) + (path.parent == file.parent)


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> Iterator[str]:
    for part, there in zip(one, other, strict=False):
        if part != there:
            return
        yield part


def split_of_folders(path: Path, root: Path) -> str | None:
    """Return the split that the nearest folder between a file and ``root`` says; ``None``: none does."""
    names = [parent.name for parent in path.parents if root in parent.parents]
    exact = next((split for name in names if (split := canonical_split(name))), None)
    return exact or next((split for name in names if (split := split_in_name(name))), None)
