"""Image folders: ``train|val|test/class/*`` or plain ``class/*``.

Class names are the folder names, sorted; labels follow from them, never from a count of folders, so a
class that is missing in one split cannot shift the others. Every file that is not used is named.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from deepresidual.data.formats import (
    ACCEPTED,
    EXTENSIONS,
    HEIC_MISSING,
    HEIC_REMEDY,
    RAW_EXTENSIONS,
    is_heic_name,
    reads_heic,
    sniff,
)
from deepresidual.data.source.archive import SUFFIXES, read_bytes, size_of, stamp_of
from deepresidual.data.source.base import (
    TRAIN,
    EncodedSample,
    IgnoredFile,
    LabelledSplit,
    SampleSource,
    canonical_split,
    check_class_names,
    class_of_spelling,
    listed,
    told_apart,
)
from deepresidual.data.source.files import hidden_folders, list_folder, split_in_name, walk
from deepresidual.errors import DataError

_EXPECTED = (
    "train/CLASS/IMAGE and val/CLASS/IMAGE, or CLASS/IMAGE; or images with boxes, annotated as COCO JSON, "
    "Pascal VOC XML or YOLO text, or by LabelMe, Label Studio, CVAT or Create ML"
)


def open_folder(root: Path) -> SampleSource:
    """Open a folder of images, or such a folder in an archive.

    Raises:
        DataError: There are no classes, only one, one without images, splits whose classes differ, or a
            folder that cannot be read.
    """
    ignored: list[IgnoredFile] = []
    folders = _subfolders(root)
    parts = _splits_among(root, folders)
    if not parts:
        return _open_unsplit(root, folders, ignored)
    ignored += [
        IgnoredFile(f"{folder.name}/", _why_no_split(folder))
        for folder in folders
        if folder not in parts.values()
    ]
    ignored += _no_folders(root, root)
    classes = _agreed_classes(root, parts)
    splits: dict[str, FolderSplit] = {}
    for name, folder in parts.items():
        files, labels = _read_classes(root, folder, classes, ignored)
        splits[name] = FolderSplit(root, files, labels)
    names = tuple(sorted(set(classes.values())))
    check_class_names(root, names, remedy="add a folder for another class")
    return SampleSource(_name_of(root), names, splits, _heic_together(ignored))


def top_folder(path: Path) -> Path:
    """Return the folder of an archive that holds its classes or splits.

    Archives are often made of one folder, which then is all that lies at the top.
    """
    while True:
        listing = list_folder(path)
        if len(listing.folders) != 1 or canonical_split(listing.folders[0]):
            return path
        if any(Path(name).suffix.casefold() in EXTENSIONS for name in listing.files):
            return path
        below = path / listing.folders[0]
        if not list_folder(below).folders:
            return path
        path = below


def _splits_among(root: Path, folders: list[Path]) -> dict[str, Path]:
    """Return the folders that are splits, the one for training first; none where all are classes."""
    # A class may be called "train" (a vehicle); a split is a folder of that name that holds folders.
    named = {folder: canonical_split(folder.name) for folder in folders}
    splits = {folder: split for folder, split in named.items() if split and _subfolders(folder)}
    if not splits and len(folders) > 1 and all(named.values()) and any(map(_num_images, folders)):
        raise DataError(
            f"{root} has no class folders in {listed(folder.name for folder in folders)}",
            expected=f"{folders[0].name}/CLASS/IMAGE, or annotations of boxes (COCO, Pascal VOC, YOLO)",
            remedy="sort the images into one folder a class, or give a .csv table of path and label",
        )
    if not any(named.values()):
        # imagenet-train/ and imagenet-val/, where there is nothing else.
        within = {folder: split_in_name(folder.name) for folder in folders}
        if all(within.values()) and len(set(within.values())) > 1 and all(map(_subfolders, folders)):
            splits = {folder: split for folder, split in within.items() if split}
    parts: dict[str, Path] = {}
    for folder, split in splits.items():
        if split in parts:
            raise DataError(
                f"{root} has two {split} splits ({parts[split].name}, {folder.name})", remedy="keep one"
            )
        parts[split] = folder
    return dict(sorted(parts.items(), key=lambda part: part[0] != TRAIN))


def _why_no_split(folder: Path) -> str:
    if canonical_split(folder.name) is None:
        return "not a split: neither train, val nor test"
    num_images = _num_images(folder)
    images = f"{num_images:,} image{'' if num_images == 1 else 's'}"
    return f"{images} without class folders" if num_images else "it has no class folders"


def _num_images(folder: Path) -> int:
    return sum(Path(name).suffix.casefold() in EXTENSIONS for name in list_folder(folder).files)


def _agreed_classes(root: Path, parts: dict[str, Path]) -> dict[str, str]:
    """Return the class of every class folder of every split, by the folder's name."""
    names = {folder.name: [path.name for path in _class_folders(folder)] for folder in parts.values()}
    classes = class_of_spelling(root, names.values())
    (first, here), *others = (
        (split, {classes[name] for name in folders}) for split, folders in names.items()
    )
    for other, there in others:
        if here != there:
            missing, added = here - there, there - here
            raise DataError(
                f"{root}: the classes of {first} and {other} differ "
                f"(only in {first}: {listed(told_apart(missing, added))}; "
                f"only in {other}: {listed(told_apart(added, missing))})",
                remedy="give both the same class folders"
                + (f", or move {other} away if its images have no classes" if len(there) == 1 else ""),
            )
    return classes


def _open_unsplit(root: Path, folders: list[Path], ignored: list[IgnoredFile]) -> SampleSource:
    if not folders:
        tables = [name for name in list_folder(root).files if name.casefold().endswith(".csv")]
        if not tables and not _num_images(root):
            raise DataError(f"{root} holds no images", expected=_EXPECTED)
        raise DataError(
            f"{root} has no class folders",
            expected=_EXPECTED,
            remedy=f"unpack it, and give the table {tables[0]}"
            if tables and not root.is_dir()
            else f"give the table itself: {root / tables[0]}"
            if tables
            else "sort the images into one folder a class",
        )
    # Two spellings of one name, which a split of its own is not, are refused.
    classes = class_of_spelling(root, [[folder.name for folder in folders]])
    files, labels = _read_classes(root, root, classes, ignored)
    names = tuple(classes)
    check_class_names(root, names, remedy="add a folder for another class")
    whole = FolderSplit(root, files, labels)
    return SampleSource(_name_of(root), names, {}, _heic_together(ignored), whole=whole)


class FolderSplit(LabelledSplit):
    """Files of one split. Paths lie in one numpy array, which worker processes share without copying."""

    def __init__(self, root: Path, files: list[str], labels: list[int]) -> None:
        super().__init__(np.array(labels, dtype=np.int64))
        self._root = os.fsencode(root)
        self._files = np.array([os.fsencode(file) for file in files], dtype=np.bytes_)

    def key(self, index: int) -> str:
        """Return the path of file ``index``, relative to the root."""
        return os.fsdecode(bytes(self._files[index]))

    def read(self, index: int) -> EncodedSample:
        """Return file ``index``."""
        key = self.key(index)
        try:
            content = read_bytes(Path(os.fsdecode(self._root), key))
        except OSError as error:
            raise DataError(f"{key} cannot be read ({error.strerror})") from error
        return EncodedSample(key, content, int(self._labels[index]))

    def stamps(self) -> list[bytes] | None:
        """Return a stamp of every file; ``None`` where one cannot be had."""
        root = os.fsdecode(self._root)
        try:
            return [stamp_of(Path(root, self.key(index))) for index in range(len(self))]
        except OSError:
            return None

    def _contents(self) -> list[int]:
        root = os.fsdecode(self._root)
        try:
            return [size_of(Path(root, self.key(index))) for index in range(len(self))]
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read ({error.strerror})") from error


def list_images(
    folder: Path, ignored: list[IgnoredFile], root: Path, *, by_content: bool = False
) -> Iterator[str]:
    """Yield every image file below ``folder``, sorted, as a path relative to ``root`` with ``/``.

    Files of other kinds are added to ``ignored``, and so are hidden folders with images in them; hidden files
    and operating-system litter are passed over. Links to folders are not followed, so a loop of links cannot
    hang the walk.

    Args:
        folder: The folder to search.
        ignored: What is not used is added to this list.
        root: The folder that paths start from.
        by_content: Whether files count as well whose content alone says that they are images, and whatever
            has the name of an image, such as a link that leads nowhere.

    Raises:
        DataError: A folder cannot be read; the message names it.
    """
    for listing in walk(folder):
        place = listing.folder.relative_to(root)
        ignored += [
            IgnoredFile(f"{(place / name).as_posix()}/", "a link to a folder inside a class")
            for name in listing.links
        ]
        ignored += hidden_folders(root, listing, _ENDINGS)
        files = set(listing.files)
        for name in sorted((*listing.files, *listing.others)):
            relative = (place / name).as_posix()
            is_named = Path(name).suffix.casefold() in EXTENSIONS
            if is_named and (by_content or name in files):
                yield relative
            elif name not in files:
                ignored.append(IgnoredFile(relative, "not a regular file"))
            elif by_content and _is_image(listing.folder / name):
                yield relative
            else:
                ignored.append(IgnoredFile(relative, _why_not(listing.folder / name)))


_ENDINGS = tuple(sorted(EXTENSIONS))
_NO_HEIC = f"{HEIC_MISSING}; {HEIC_REMEDY}"


def _heic_together(ignored: list[IgnoredFile]) -> tuple[IgnoredFile, ...]:
    """Return the ignored files with one line for all HEIC photos, of which a phone may bring thousands."""
    first, *more = [file.path for file in ignored if file.reason == _NO_HEIC] or [""]
    if not more:
        return tuple(ignored)
    others = [file for file in ignored if file.reason != _NO_HEIC]
    return (*others, IgnoredFile(f"{first} and {len(more):,} more HEIC", _NO_HEIC))


def _is_image(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return sniff(read_bytes(path, 512)) in ACCEPTED
    return False


def _why_not(path: Path) -> str:
    try:
        found = sniff(read_bytes(path, 512))
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if path.suffix.casefold() in RAW_EXTENSIONS:
        return "a camera's raw file; export it as JPEG or TIFF"
    if found in ACCEPTED:
        return f"{found} under the name {path.suffix or 'without an extension'}; rename it to use it"
    if found == "ZIP":
        return "a zip file among images; give it by itself, or unpack it"
    return f"no image ({'an unknown format' if found == 'unknown' else found})"


def _read_classes(
    root: Path, folder: Path, classes: Mapping[str, str], ignored: list[IgnoredFile]
) -> tuple[list[str], list[int]]:
    """Return the image files of ``folder`` relative to ``root``, and their labels.

    Args:
        root: The data set.
        folder: A split, or the data set itself.
        classes: The class of every class folder.
        ignored: Files and folders that are not used are added to this list.
    """
    listing = list_folder(folder)
    ignored += hidden_folders(root, listing, _ENDINGS)
    ignored += _no_folders(root, folder)
    ignored.extend(
        IgnoredFile((folder / name).relative_to(root).as_posix(), "lies outside the class folders")
        for name in listing.files
        if Path(name).suffix.casefold() in EXTENSIONS
    )
    numbers = {name: number for number, name in enumerate(sorted(set(classes.values())))}
    files: list[str] = []
    labels: list[int] = []
    for class_folder in _class_folders(folder):
        found = list(list_images(class_folder, ignored, root))
        if not reads_heic() and (heic := [file for file in found if is_heic_name(file)]):
            found = [file for file in found if not is_heic_name(file)]
            ignored += [IgnoredFile(file, _NO_HEIC) for file in heic]
            if not found:
                raise DataError(
                    f"class {class_folder.name!r} has no images but HEIC photos, as iPhones take them "
                    f"({len(heic):,})",
                    remedy=HEIC_REMEDY,
                )
        if not found:
            prefix = f"{class_folder.relative_to(root).as_posix()}/"
            others = [file.path for file in ignored if file.path.startswith(prefix)]
            raise DataError(
                f"class {class_folder.name!r} has no images in {class_folder}"
                + (f" ({len(others)} files of other kinds)" if others else ""),
                remedy="add images or remove the folder",
            )
        files += found
        labels += [numbers[classes[class_folder.name]]] * len(found)
    return files, labels


def _no_folders(root: Path, folder: Path) -> Iterator[IgnoredFile]:
    """Yield names in ``folder`` that may have been meant as folders of images."""
    for name in list_folder(folder).others:
        place = (folder / name).relative_to(root).as_posix()
        yield IgnoredFile(place, "neither a folder nor a regular file")


def _class_folders(folder: Path) -> list[Path]:
    folders = _subfolders(folder)
    if not folders:
        raise DataError(
            f"{folder} has no class folders",
            expected="CLASS/IMAGE in it",
            remedy="sort the images into one folder a class",
        )
    return folders


def _subfolders(folder: Path) -> list[Path]:
    """Return the folders in ``folder``, sorted, without hidden ones."""
    listing = list_folder(folder)
    # A link to a folder elsewhere may be a class; one that leads back up would be a class of everything.
    here = folder.resolve()
    links = [name for name in listing.links if not here.is_relative_to((folder / name).resolve())]
    return [folder / name for name in sorted((*listing.folders, *links))]


def _name_of(root: Path) -> str:
    name = root.resolve().name
    return (Path(name).stem if name.casefold().endswith(SUFFIXES) else name) or "folder"
