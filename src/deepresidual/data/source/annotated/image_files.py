"""The image files of a data set with boxes, found by the names that annotations give them."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from deepresidual.data.formats import is_image_name
from deepresidual.data.source.annotated.faults import AnnotationsError
from deepresidual.data.source.base import IgnoredFile, canonical_split
from deepresidual.data.source.files import Listing, list_folder, split_in_name, walk
from deepresidual.errors import DataError, listed, misspelled

_IMAGES = re.compile(r"(jpeg)?images?|imgs?|data", re.IGNORECASE)


class ImageFiles:
    """Image files below a folder.

    Args:
        root: The data set, from which names start.
        folder: The folder.
        paths: The files, sorted.
    """

    def __init__(self, root: Path, folder: Path, paths: list[Path]) -> None:
        self._root, self._folder, self.paths = root, folder, paths
        self._known = frozenset(paths)
        self._by_stem: dict[str, list[Path]] = {}
        for path in paths:
            self._by_stem.setdefault(path.stem, []).append(path)

    @classmethod
    def below(cls, root: Path, folder: Path) -> ImageFiles:
        """Return the image files below a folder."""
        paths = (
            listing.folder / name
            for listing in walk_linked(folder)
            for name in listing.files
            if is_image_name(name)
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

    def from_folder(self, file: Path, name: str) -> Path | None:
        """Return the image that a path from the folder of a file leads to; ``None``: there is none."""
        path = Path(os.path.normpath(file.parent / name.replace("\\", "/")))
        return path if path in self._known else None

    def near(self, file: Path, name: str | None = None) -> Path | None:
        """Return the image that a file of annotations belongs to: beside it, or in the nearest folder.

        Of several that are equally near, the one in a folder of images is meant: others may hold masks.

        Args:
            file: The file of annotations.
            name: Name of the image. Default: that of the file.

        Raises:
            DataError: Several are equally near.
        """
        found = self._by_stem.get(Path(name or file.name).stem, [])
        if len(found) > 1:
            depth = max(_shared(path, file) for path in found)
            found = [path for path in found if _shared(path, file) == depth]
        if len(found) > 1:
            found = [path for path in found if _IMAGES.fullmatch(path.parent.name)] or found
        if len(found) > 1:
            raise self._ambiguous(found, file.relative_to(self._root).as_posix())
        return found[0] if found else None

    def missing(self, stem: str, named_in: str) -> DataError:
        """Return the error for an image that is not there; it names the nearest one."""
        where = self._folder.relative_to(self._root).as_posix()
        close = misspelled(stem, self._by_stem)
        hint = self._by_stem[close][0].relative_to(self._root).as_posix() if close else ""
        return DataError(
            f"{named_in}: the image {stem} is not there{'' if where == '.' else f' in {where}'}",
            remedy=f"the nearest is {hint}" if hint else "copy the images there",
            kind="missing-image",
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


class ListedImages:
    """Image files that a file of annotations lists by name, wherever it means them to lie.

    Args:
        root: The data set, which no name may lead out of.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[str, set[str]] = {}
        self._used: dict[str, set[str]] = {}

    def find(self, file: Path, split: str | None, names: Sequence[str]) -> list[str]:
        """Return the path of every image, relative to the data set.

        Args:
            file: The file of annotations.
            split: The split that it is of.
            names: The names that the file has for its images.

        Raises:
            DataError: One is not there, or two are of one file; the message names it.
        """
        shown = file.relative_to(self._root).as_posix()
        folders = self._folders(file, split)
        found: dict[str, str] = {}
        missing = list[str]()
        for name in names:
            path = self._path(name, folders)
            if path is None:
                missing.append(name)
            elif path in found:
                raise DataError(f"{shown}: the images {found[path]} and {name} are both of the file {path}")
            else:
                found[path] = name
        if missing:
            raise self._missing(shown, missing, len(names), folders)
        for path in found:
            folder, _, name = path.rpartition("/")
            self._used.setdefault(folder, set()).add(name)
        return list(found)

    def unlisted(self) -> Iterator[IgnoredFile]:
        """Yield the folders that listed images lie in and others, too."""
        for folder, used in self._used.items():
            others = sorted(name for name in self._files[folder] - used if is_image_name(name))
            if others:
                count = "1 image file is" if len(others) == 1 else f"{len(others):,} image files are"
                yield IgnoredFile(
                    f"{folder}/{others[0]}" if len(others) == 1 else f"{folder or '.'}/",
                    f"{count} in no list of images" + ("" if len(others) == 1 else f", as {others[0]}"),
                )

    def _folders(self, file: Path, split: str | None) -> list[str]:
        """Return the folders that names may start from, the likeliest first, relative to the data set."""
        own = file.parent.relative_to(self._root).as_posix()
        own = "" if own == "." else own
        above = own.rpartition("/")[0]
        # instances_train2017.json lists what lies in train2017/.
        word = re.sub("^(instances|person_keypoints|annotations?)_", "", file.stem)
        words = dict.fromkeys([word, *(split_folders(self._root, split) if split else [])])
        bases = dict.fromkeys([own, above, ""])
        inner = [
            "",
            "images",
            *words,
            *(f"images/{one}" for one in words),
            *(f"{one}/images" for one in words),
        ]
        inner += ["JPEGImages", "data"]
        return list(dict.fromkeys("/".join(filter(None, (base, one))) for base in bases for one in inner))

    def _path(self, name: str, folders: list[str]) -> str | None:
        """Return the path of the file that a name means; ``None``: there is none."""
        for attempt in dict.fromkeys(_spellings(name)):
            for position, folder in enumerate(folders):
                path = posixpath.normpath(posixpath.join(folder, attempt))
                if self._exists(path):
                    if position:  # where one lies, the next one will
                        folders.insert(0, folders.pop(position))
                    return path
        return None

    def _exists(self, path: str) -> bool:
        if path.startswith(("/", "../")):
            return False
        folder, _, name = path.rpartition("/")
        if folder not in self._files:
            place = self._root / folder
            self._files[folder] = set(list_folder(place).files) if place.is_dir() else set()
        return name in self._files[folder]

    def _missing(self, shown: str, missing: list[str], count: int, folders: list[str]) -> DataError:
        name = missing[0].replace("\\", "/").rsplit("/", 1)[-1]
        there = {
            file: folder for folder, files in self._files.items() for file in files if is_image_name(file)
        }
        close = misspelled(name, there)
        many = f", and {len(missing) - 1:,} more of {count:,}" if len(missing) > 1 else ""
        looked = [folder or "." for folder in folders if self._files.get(folder)]
        if close:
            remedy = f"the nearest is {'/'.join(filter(None, (there[close], close)))}"
        else:
            remedy = (
                f"copy the images beside it; looked in {listed(looked, 5)}"
                if looked
                else "copy them beside it"
            )
        found = f"{shown}: the image {missing[0]} is not there{many}"
        told = DataError(found, remedy=remedy, kind="missing-image")
        each = [DataError(f"{shown}: the image {one} is not there", kind="missing-image") for one in missing]
        return AnnotationsError(told, each) if len(missing) > 1 else told


def _spellings(name: str) -> Iterator[str]:
    """Yield what a file may be called that annotations name, the likeliest first.

    Label Studio serves files of a folder as ``/data/local-files/?d=PATH``, encodes what stands in addresses,
    and puts eight digits and a hyphen before the name of what was uploaded.
    """
    name = name.replace("\\", "/")
    yield name
    yield name.rsplit("/", 1)[-1]
    plain = unquote(name.partition("?d=")[2] or name.partition("?")[0])
    yield plain
    yield plain.rsplit("/", 1)[-1]
    yield _UPLOADED.sub("", plain.rsplit("/", 1)[-1])


_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")


def split_folders(root: Path, split: str) -> list[str]:
    """Return the folders at the top, or in ``images``, whose names say a split."""
    found = []
    for place in (root, root / "images"):
        if place.is_dir():
            found += [name for name in list_folder(place).folders if split_in_name(name) == split]
    return found


def walk_linked(folder: Path) -> Iterator[Listing]:
    """Yield the listings below a folder, and of folders elsewhere that links at its top lead to.

    Links further down are not followed, nor one that leads back up, so that no loop can hang the walk.
    """
    here = folder.resolve()
    for listing in walk(folder):
        yield listing
        if listing.folder == folder:
            for name in listing.links:
                if not here.is_relative_to((folder / name).resolve()):
                    yield from walk(folder / name)


def split_of_folders(path: Path, root: Path) -> str | None:
    """Return the split that the nearest folder between a file and ``root`` says; ``None``: none does."""
    names = [parent.name for parent in path.parents if root in parent.parents]
    exact = next((split for name in names if (split := canonical_split(name))), None)
    return exact or next((split for name in names if (split := split_in_name(name))), None)
