"""Image folders: ``train|val|test/class/*`` or plain ``class/*``.

Class names are the folder names, sorted; labels follow from them, never from a count of folders, so a
class that is missing in one split cannot shift the others. Without split folders a fixed fifth is held
out by the hash of the file name. Every file that is not used is named.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from residual.data.decode import ACCEPTED, EXTENSIONS, sniff
from residual.data.source.base import (
    HELD_OUT,
    TRAIN,
    EncodedSample,
    IgnoredFile,
    SampleSource,
    canonical_split,
    check_class_names,
    divide_by_name,
    listed,
)
from residual.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from residual.data.source.base import Row

__all__ = ["FolderSplit", "list_images", "open_folder"]


def open_folder(root: Path) -> SampleSource:
    """Open a folder of images.

    Raises:
        DataError: There are no classes, only one, one without images, or splits whose classes differ.
    """
    ignored: list[IgnoredFile] = []
    folders = _subfolders(root)
    # A class may be called "train" (a vehicle); a split is a folder of that name that holds folders.
    parts: dict[str, Path] = {}
    for folder in folders:
        name = canonical_split(folder.name)
        if name is None or not _subfolders(folder):
            continue
        if name in parts:
            raise DataError(
                f"{root} has two {name} splits ({parts[name].name}, {folder.name})", remedy="keep one"
            )
        parts[name] = folder
    if not parts:
        return _open_unsplit(root, folders, ignored)
    ignored += [
        IgnoredFile(f"{folder.name}/", "not a split: neither train, val nor test")
        for folder in folders
        if folder not in parts.values()
    ]
    splits: dict[str, FolderSplit] = {}
    classes: tuple[str, ...] = ()
    first = ""
    for name, folder in sorted(parts.items(), key=lambda part: part[0] != TRAIN):
        names, files, labels = _read_classes(root, folder, ignored)
        if not splits:
            classes, first = names, folder.name
        elif names != classes:
            raise DataError(
                f"{root}: the classes of {first} and {folder.name} differ "
                f"(only in {first}: {listed(set(classes) - set(names))}; "
                f"only in {folder.name}: {listed(set(names) - set(classes))})",
                remedy="give both the same class folders",
            )
        splits[name] = FolderSplit(root, files, labels)
    check_class_names(root, classes, remedy="add a folder for another class")
    return SampleSource(_name_of(root), classes, splits, tuple(ignored))


def _open_unsplit(root: Path, folders: list[Path], ignored: list[IgnoredFile]) -> SampleSource:
    if not folders:
        raise DataError(
            f"{root} has no class folders",
            expected="train/CLASS/IMAGE and val/CLASS/IMAGE, or CLASS/IMAGE",
            remedy="sort the images into one folder a class",
        )
    classes, files, labels = _read_classes(root, root, ignored)
    check_class_names(root, classes, remedy="add a folder for another class")
    rows = divide_by_name(root, files, labels, classes, remedy="sort them into train/ and test/ yourself")
    splits = {
        name: FolderSplit(root, [files[index] for index in chosen], [labels[index] for index in chosen])
        for name, chosen in rows.items()
    }
    return SampleSource(
        _name_of(root),
        classes,
        splits,
        tuple(ignored),
        held_out=HELD_OUT,
    )


class FolderSplit:
    """Files of one split. Paths lie in one numpy array, which worker processes share without copying."""

    def __init__(self, root: Path, files: list[str], labels: list[int]) -> None:
        self._root = os.fsencode(root)
        self._files = np.array([os.fsencode(file) for file in files], dtype=np.bytes_)
        self._labels = np.array(labels, dtype=np.int64)

    @property
    def labels(self) -> list[int]:
        """The label of every file."""
        return [int(label) for label in self._labels]

    def __len__(self) -> int:
        return len(self._files)

    def key(self, index: int) -> str:
        """Return the path of file ``index``, relative to the root."""
        return os.fsdecode(bytes(self._files[index]))

    def read(self, index: int) -> EncodedSample:
        """Return file ``index``."""
        key = self.key(index)
        try:
            content = Path(os.fsdecode(self._root), key).read_bytes()
        except OSError as error:
            raise DataError(f"{key} cannot be read ({error.strerror})") from error
        return EncodedSample(key, content, int(self._labels[index]))

    def rows(self) -> Iterator[Row]:
        """Yield path, label and size of every file."""
        root = os.fsdecode(self._root)
        keys = [self.key(index) for index in range(len(self))]
        try:
            sizes = [Path(root, key).stat().st_size for key in keys]
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read ({error.strerror})") from error
        yield from zip(keys, self.labels, sizes, strict=True)


def list_images(folder: Path, ignored: list[IgnoredFile], root: Path) -> Iterator[str]:
    """Yield every image file below ``folder``, sorted, as a path relative to ``root`` with ``/``.

    Files of other kinds are added to ``ignored``; hidden files and operating-system litter are passed
    over. Links to folders are not followed, so a loop of links cannot hang the walk.
    """
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if Path(parent, name).is_symlink():
                link = Path(parent, name).relative_to(root).as_posix()
                ignored.append(IgnoredFile(f"{link}/", "a link to a folder inside a class"))
        for name in sorted(files):
            if name.startswith(".") or name.casefold() in ("thumbs.db", "desktop.ini"):
                continue
            path = Path(parent, name)
            relative = path.relative_to(root).as_posix()
            if not path.is_file():
                ignored.append(IgnoredFile(relative, "not a regular file"))
            elif path.suffix.casefold() in EXTENSIONS:
                yield relative
            else:
                ignored.append(IgnoredFile(relative, _why_not(path)))


def _why_not(path: Path) -> str:
    try:
        with path.open("rb") as file:
            found = sniff(file.read(512))
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if found in ACCEPTED:
        return f"{found} under the name {path.suffix or 'without an extension'}; rename it to use it"
    kind = "an unknown format" if found == "unknown" else found
    return f"{kind}; only JPEG, PNG, WebP and BMP are used"


def _read_classes(
    root: Path, folder: Path, ignored: list[IgnoredFile]
) -> tuple[tuple[str, ...], list[str], list[int]]:
    """Return the class names of ``folder``, its image files relative to ``root``, and their labels."""
    classes = _subfolders(folder)
    if not classes:
        raise DataError(
            f"{folder} has no class folders",
            expected="CLASS/IMAGE in it",
            remedy="sort the images into one folder a class",
        )
    ignored.extend(
        IgnoredFile(path.relative_to(root).as_posix(), "lies outside the class folders")
        for path in sorted(folder.iterdir())
        if path.is_file() and path.suffix.casefold() in EXTENSIONS
    )
    files: list[str] = []
    labels: list[int] = []
    for label, class_folder in enumerate(classes):
        found = list(list_images(class_folder, ignored, root))
        if not found:
            prefix = f"{class_folder.relative_to(root).as_posix()}/"
            others = [file.path for file in ignored if file.path.startswith(prefix)]
            raise DataError(
                f"class {class_folder.name!r} has no images in {class_folder}"
                + (f" ({len(others)} files of other kinds)" if others else ""),
                remedy="add JPEG, PNG, WebP or BMP files or remove the folder",
            )
        files += found
        labels += [label] * len(found)
    return tuple(class_folder.name for class_folder in classes), files, labels


def _subfolders(folder: Path) -> list[Path]:
    # A link to a folder elsewhere may be a class; one that leads back up would be a class of everything.
    here = folder.resolve()
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith((".", "__")) and not here.is_relative_to(path.resolve())
    )


def _name_of(root: Path) -> str:
    return root.resolve().name or "folder"
