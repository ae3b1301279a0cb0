"""Files of a data set: which lie below a folder, which split their names say, and whether any is missing.

Hidden files and the litter of operating systems are passed over alike for every kind of data. What cannot be
read is an error that names it, because the data set would be smaller without a word.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deepresidual.data.source.archive import Folder, folder_inside
from deepresidual.data.source.base import IgnoredFile, canonical_split, listed
from deepresidual.errors import DataError
from deepresidual.runtime.git_lfs import refuse_pointer

# What systems and tools leave in every folder. Names that begin with a dot are hidden anyway.
_LITTER = frozenset({"thumbs.db", "desktop.ini", "__macosx", "__pycache__", "lost+found"})
# Hidden folders that no user fills by hand: copies in them are no part of a data set, and not worth a word.
_CACHES = frozenset({".cache", ".git", ".ipynb_checkpoints", ".thumbnails", ".trash", ".trashes"})
# A link that leads nowhere or in a circle; any other failure hides data.
_BROKEN = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


@dataclass(frozen=True)
class Listing:
    """Sorted entries of one folder, without hidden files and litter.

    Attributes:
        folder: The folder.
        files: Regular files, and links to such.
        folders: Folders, without links to such.
        links: Links to folders.
        others: Pipes, sockets, devices, and links that lead nowhere or in a circle.
        hidden: Hidden folders, without those of well-known tools.
    """

    folder: Path
    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)


def list_folder(folder: Path) -> Listing:
    """List a folder, an archive, or a folder in one.

    Raises:
        DataError: It cannot be read; the message names it.
    """
    if (inside := folder_inside(folder)) is not None:
        return _listing_inside(folder, inside)
    listing = Listing(folder)
    places = {
        "file": listing.files,
        "folder": listing.folders,
        "link": listing.links,
        "other": listing.others,
    }
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not _is_passed_over(entry.name):
                    places[_kind_of(entry)].append(entry.name)
                elif entry.name.casefold() not in _CACHES | _LITTER and entry.is_dir(follow_symlinks=False):
                    listing.hidden.append(entry.name)
    except OSError as error:
        raise _unreadable(error.filename or folder, error) from error
    return listing


def _listing_inside(folder: Path, inside: Folder) -> Listing:
    """Return the listing of a folder of an archive."""
    seen = {name for name in inside.folders if not _is_passed_over(name)}
    return Listing(
        folder,
        files=sorted(name for name in inside.files if not _is_passed_over(name)),
        folders=sorted(seen),
        others=sorted(name for name in inside.others if not _is_passed_over(name)),
        hidden=sorted(name for name in inside.folders - seen if name.casefold() not in _CACHES | _LITTER),
    )


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _LITTER


def walk(folder: Path) -> Iterator[Listing]:
    """Yield the listing of ``folder`` and of every folder below it, each before those in it.

    Links to folders are not followed, so that a loop of links cannot hang the walk.

    Raises:
        DataError: A folder cannot be read; the message names it.
    """
    waiting = [folder]
    while waiting:
        listing = list_folder(waiting.pop())
        yield listing
        waiting += [listing.folder / name for name in reversed(listing.folders)]


def data_files(root: Path, endings: tuple[str, ...], ignored: list[IgnoredFile]) -> list[Path]:
    """Return every file below ``root`` whose name has one of ``endings`` in any case, sorted.

    Args:
        root: A folder.
        endings: Ends of names, in small letters.
        ignored: What is not used and may be missed is added to this list.

    Raises:
        DataError: A folder cannot be read; the message names it.
    """
    found: list[Path] = []
    for listing in walk(root):
        found += [listing.folder / name for name in listing.files if name.casefold().endswith(endings)]
        place = listing.folder.relative_to(root)
        ignored += [
            IgnoredFile(f"{(place / name).as_posix()}/", "a link to a folder, which is not followed")
            for name in listing.links
        ]
        ignored += [
            IgnoredFile((place / name).as_posix(), "not a regular file")
            for name in listing.others
            if name.casefold().endswith(endings)
        ]
        ignored += hidden_folders(root, listing, endings)
    return sorted(found)


def hidden_folders(root: Path, listing: Listing, endings: tuple[str, ...]) -> Iterator[IgnoredFile]:
    """Yield the hidden folders of a listing in which there are files with one of ``endings``."""
    for name in listing.hidden:
        hidden = listing.folder / name
        try:
            holds_data = any(
                file.casefold().endswith(endings) for below in walk(hidden) for file in below.files
            )
        except DataError:
            continue  # what a system keeps to itself, such as .Trash-0
        if holds_data:
            place = hidden.relative_to(root).as_posix()
            yield IgnoredFile(f"{place}/", "a hidden folder; rename it to use what is in it")


def _kind_of(entry: os.DirEntry[str]) -> Literal["file", "folder", "link", "other"]:
    try:
        if entry.is_dir():
            return "link" if entry.is_symlink() else "folder"
        return "file" if entry.is_file() else "other"
    except OSError as error:
        if error.errno in _BROKEN:
            return "other"
        raise _unreadable(entry.path, error) from error


def _unreadable(path: str | Path, error: OSError) -> DataError:
    forbidden = isinstance(error, PermissionError)
    return DataError(
        f"{path} cannot be read ({error.strerror or error})",
        remedy="give yourself the right to read it, or move it out of the data" if forbidden else "",
    )


# -- splits -----------------------------------------------------------------------------------------------


def split_in_name(name: str) -> str | None:
    """Return the split that a word of ``name`` says, ``None`` where none does.

    A word ends at anything but a letter: ``imagenet-val-0001.tar``, ``train2017``; not ``retraining.tar``.
    A split at the beginning counts before all others.

    Raises:
        DataError: Words in it say different splits.
    """
    words = [canonical_split(word) for word in re.findall(r"[^\W\d_]+", name)]
    said = [split for split in words if split is not None]
    if said and words[0] is None and len(set(said)) > 1:
        raise DataError(
            f"the name {name!r} says both {said[0]} and {next(split for split in said if split != said[0])}",
            remedy="rename it, so that it begins with the split that it belongs to",
        )
    return said[0] if said else None


def split_of_file(file: Path, root: Path) -> str | None:
    """Return the split that a file's name or the nearest folder between it and ``root`` says.

    Raises:
        DataError: The names say different splits.
    """
    folders = [parent.name for parent in file.parents if root in parent.parents]
    above = next((split for name in folders if (split := canonical_split(name))), None) or next(
        (split for name in folders if (split := split_in_name(name))), None
    )
    within = split_in_name(file.name)
    if within and above and within != above and canonical_split(re.split(r"[-_.]", file.name)[0]) is None:
        raise DataError(
            f"{file} says {within} in its name and lies in a folder for {above}", remedy="rename or move it"
        )
    return within or above


def files_by_split(
    root: Path, files: Sequence[Path], ignored: list[IgnoredFile], *, complete: bool
) -> dict[str | None, list[Path]]:
    """Sort files into the splits that their names say; under ``None`` where no name says any.

    Args:
        root: The data set: a folder, or the only file.
        files: Its files, sorted.
        ignored: A file that is reached twice counts once; the second name is added to this list.
        complete: Whether all files of the data set ought to be among them.

    Raises:
        DataError: Some names say a split and others do not, a file says two, a part of several files is
            missing, or a file is a pointer of Git LFS.
    """
    parts: dict[str | None, list[Path]] = {}
    seen: dict[tuple[str | None, str], Path] = {}
    for file in files:
        refuse_pointer(file, DataError)
        split = split_of_file(file, root)
        first = seen.setdefault((split, os.path.realpath(file)), file)
        if first is file:
            parts.setdefault(split, []).append(file)
        else:
            ignored.append(
                IgnoredFile(_below(root, file), f"the same file as {_below(root, first)}, which counts once")
            )
    if None in parts and len(parts) > 1:
        known = next(file for split, group in parts.items() if split for file in group)
        raise DataError(
            f"{parts[None][0]} does not say which split it belongs to, and {known.name} does",
            expected="the word train, val or test in every name or in none",
            remedy="rename it",
        )
    if complete:
        _check_parts(root, [file for group in parts.values() for file in group])
    return parts


def _below(root: Path, file: Path) -> str:
    return file.relative_to(root).as_posix() if root in file.parents else file.name


# train-00001-of-00003-0a1b2c3d.parquet: what stands behind may differ from part to part.
_PART = re.compile(r"(.*?)([0-9]{1,9})([-_. ]?of[-_. ]?)([0-9]{1,9})(?![0-9])", re.IGNORECASE)


def _check_parts(root: Path, files: Iterable[Path]) -> None:
    """Refuse data of which the names ``00001-of-00003`` say that some is not there."""
    groups: dict[tuple[Path, str, str], list[tuple[int, int, Path, re.Match[str]]]] = {}
    for file in files:
        if found := _PART.match(file.name):
            key = (file.parent, found[1], file.suffix.casefold())
            groups.setdefault(key, []).append((int(found[2]), int(found[4]), file, found))
    for parts in groups.values():
        parts.sort(key=lambda part: part[:2])
        number, total, file, found = parts[0]
        for other_number, other_total, other, _ in parts[1:]:
            if other_total != total:
                raise DataError(
                    f"{root} has parts of {total} and of {other_total} ({file.name}, {other.name})",
                    remedy="keep the parts that belong together",
                )
            if other_number == number:
                raise DataError(
                    f"{root} has part {number} of {total} twice ({file.name}, {other.name})",
                    remedy="keep one",
                )
            number, file = other_number, other
        there = {part[0] for part in parts}
        # Parts are counted from 0; where there is a last one by the count from 1, from 1.
        first = 1 if total in there and 0 not in there else 0
        if beyond := sorted(number for number in there if not first <= number < first + total):
            raise DataError(
                f"{root}: {parts[-1][2].name} says that it is part {beyond[-1]} of {total}",
                expected=f"parts {first} to {first + total - 1}",
                remedy="rename it",
            )
        num_missing = total - len(there)
        if num_missing:
            missing = (number for number in range(first, first + total) if number not in there)
            names = [
                f"{found[1]}{number:0{len(found[2])}d}{found[3]}{found[4]}"
                for number, _ in zip(missing, range(9), strict=False)
            ]
            raise DataError(
                f"{parts[0][2].parent} lacks {num_missing} of {total} parts ({listed(names)})",
                remedy="copy what is missing, or rename the files if these are all that is wanted",
            )
