r"""Zip and tar files as folders: ``photos.zip/cats/1.jpg`` is a member, read from its place in the archive.

Nothing is ever extracted, so no member can be written anywhere, and memory is taken for one member at a time,
never for more than the member declares. The directory of an archive is read once a process; a member is read
through an open file of its own, so any number of threads and processes may read.

Names that lead out of the archive, encrypted members and unusual compression are refused; links are passed
over as among files. A tar that holds labels beside its images is a shard (:mod:`.shards`) and no folder.

Example:
    >>> read_bytes(Path("photos.zip/cats/1.jpg"))[:3]
    b'\xff\xd8\xff'
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from deepresidual.data.formats import EXTENSIONS
from deepresidual.data.source.shards.tar import members_of
from deepresidual.errors import DataError
from deepresidual.runtime.git_lfs import refuse_pointer

SUFFIXES = (".zip", ".tar")
"""Suffixes of archives that are read as folders, in small letters."""

_MAY_BE_INSIDE = re.compile(r"\.(?:zip|tar)(?:[/\\]|$)", re.IGNORECASE)
_MAX_MEMBERS = 1_000_000
# 128 megapixels of three 16-bit samples, the largest image that is decoded, take 768 MB.
_MAX_MEMBER_BYTES = 1_000_000_000
# Members that are looked at to tell a shard from a folder; a label stands beside the first image.
_LOOKED_AT = 200
_UTF8_NAME = 0x800
_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True)
class _Member:
    """Where a file lies in an archive.

    Attributes:
        offset: Where it begins; in a zip its local header.
        size: Its size in bytes.
        stored: The bytes that it takes in the archive.
        method: How a zip compresses it: ``ZIP_STORED`` or ``ZIP_DEFLATED``; -1 in a tar.
        checksum: CRC-32 of a member of a zip.
    """

    offset: int
    size: int
    stored: int
    method: int = -1
    checksum: int = 0


@dataclass
class Folder:
    """Names in one folder of an archive, unsorted.

    Attributes:
        files: Regular files.
        folders: Folders.
        others: Links and the like.
    """

    files: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Archive:
    """Directory of an archive: its files by name, and its folders, ``""`` being the top."""

    members: dict[str, _Member] = field(default_factory=dict)
    folders: dict[str, Folder] = field(default_factory=lambda: {"": Folder()})

    def folder(self, name: str) -> Folder:
        """Return the folder ``name``, made with all above it where it is new."""
        if name not in self.folders:
            above, _, last = name.rpartition("/")
            self.folder(above).folders.add(last)
            self.folders[name] = Folder()
        return self.folders[name]

    def add(self, name: str, member: _Member | None) -> None:
        """Add a file, or where ``member`` is ``None`` something that is no regular file."""
        above, _, last = name.rpartition("/")
        if member is None:
            self.folder(above).others.add(last)
        else:
            self.folder(above).files.add(last)
            self.members[name] = member


# -- paths that may lead into an archive -----------------------------------------------------------------


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder, an archive, or a folder in one.

    Raises:
        DataError: The archive is damaged or refused.
    """
    if path.is_dir():
        return True
    place = _inside(path)
    return place is not None and (place[1] == "" or place[1] in _opened(place[0]).folders)


def exists(path: Path) -> bool:
    """Return whether there is something at a path, be it a broken link, or a member of an archive."""
    if path.exists() or path.is_symlink():
        return True
    place = _inside(path)
    if place is None:
        return False
    archive = _opened(place[0])
    return place[1] in archive.members or place[1] in archive.folders


def folder_inside(path: Path) -> Folder | None:
    """Return the folder of an archive that a path leads to, ``None`` where it leads into none.

    Raises:
        DataError: The archive is damaged or refused, or has no such folder.
    """
    place = _inside(path)
    if place is None or path.is_dir():
        return None
    folder = _opened(place[0]).folders.get(place[1])
    if folder is None:
        raise DataError(f"{place[0]} holds no folder {place[1]}")
    return folder


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """Return the content of a file, or of a member of an archive.

    Args:
        path: The file.
        most: Read no more than so many bytes from its beginning.

    Raises:
        OSError: The file cannot be read.
        DataError: The archive is damaged or refused, or the member is.
    """
    try:
        with path.open("rb") as file:
            return file.read(-1 if most is None else most)
    except (FileNotFoundError, NotADirectoryError):
        place = _inside(path)
        member = None if place is None else _opened(place[0]).members.get(place[1])
        if place is None or member is None:
            raise
    content = _read(place[0], place[1], member)
    return content if most is None else content[:most]


def size_of(path: Path) -> int:
    """Return the size in bytes of a file, or of a member of an archive.

    Raises:
        OSError: There is no such file.
    """
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        place = _inside(path)
        member = None if place is None else _opened(place[0]).members.get(place[1])
        if member is None:
            raise
        return member.size


def stamp_of(path: Path) -> bytes:
    """Return what changes when a file, or the archive that it lies in, is changed; nothing is read.

    Raises:
        OSError: There is none.
    """
    inside = _inside(path)
    status = (inside[0] if inside is not None else path).stat()
    parts = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return hashlib.sha256(f"{path.absolute()}\0{parts}".encode(errors="surrogateescape")).digest()[:16]


def is_shard(file: Path) -> bool:
    """Return whether a tar is a shard of WebDataset: a label beside an image, or images in no folder.

    Raises:
        DataError: It is damaged or refused.
        OSError: It cannot be read.
    """
    images: set[str] = set()
    labels: set[str] = set()
    is_sorted = False
    refuse_pointer(file, DataError)
    with file.open("rb") as stream:
        for member in itertools.islice(members_of(file, stream), _LOOKED_AT):
            folder, _, base = member.name.rpartition("/")
            stem, _, suffix = base.partition(".")
            name = f"{folder}/{stem}"
            if f".{suffix.casefold()}" in EXTENSIONS:
                images.add(name)
                is_sorted |= bool(folder.removeprefix("."))
            elif suffix.casefold() in ("cls", "json"):
                labels.add(name)
    return bool(images & labels) or not is_sorted


def _inside(path: Path) -> tuple[Path, str] | None:
    """Return the archive that a path leads into, and the name of what it leads to; ``""`` for the archive."""
    if not _MAY_BE_INSIDE.search(str(path)):
        return None
    for place in (path, *path.parents):
        if place.suffix.casefold() in SUFFIXES and place.is_file():
            name = path.relative_to(place).as_posix()
            return place, "" if name == "." else name
    return None


# -- directories of archives -----------------------------------------------------------------------------


def _opened(file: Path) -> _Archive:
    status = file.stat()
    return _directory_of(file, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4)
def _directory_of(file: Path, modified_ns: int, size: int) -> _Archive:
    """Read the directory of an archive; time and size tell a file that was written anew."""
    del modified_ns, size
    archive = _Archive()
    refuse_pointer(file, DataError)
    try:
        if file.suffix.casefold() == ".tar":
            with file.open("rb") as stream:
                for member in members_of(file, stream):
                    name = _checked_name(file, member.name)
                    archive.add(name, _Member(member.offset, member.size, member.size))
        else:
            _read_zip_directory(file, archive)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error})") from error
    return archive


def _read_zip_directory(file: Path, archive: _Archive) -> None:
    for info in _zip_entries(file):
        name = _checked_name(file, _name_in_zip(info))
        kind = stat.S_IFMT(info.external_attr >> 16)
        if info.is_dir():
            archive.folder(name)
        elif kind not in (0, stat.S_IFREG):
            archive.add(name, None)
        elif info.flag_bits & _ENCRYPTED:
            raise DataError(f"{file} is encrypted", remedy="unpack it")
        elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(
                f"{file}: {name[:200]} is compressed by method {info.compress_type}",
                expected="deflate, the usual one, or none",
                remedy="unpack it",
            )
        else:
            place = (info.header_offset, info.file_size, info.compress_size, info.compress_type, info.CRC)
            archive.add(name, _Member(*place))


def _zip_entries(file: Path) -> Iterator[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    # Beside its own errors zipfile lets through what struct and codecs raise on hostile directories.
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        struct.error,
        EOFError,
        OverflowError,
    ) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{file} is damaged or no zip ({reason})", remedy="copy or make it again") from error
    if len(entries) > _MAX_MEMBERS:
        raise DataError(f"{file} has {len(entries):,} members", expected=f"at most {_MAX_MEMBERS:,}")
    yield from entries


def _name_in_zip(info: zipfile.ZipInfo) -> str:
    """Return a name with ``/``, in UTF-8 where it is: Macs write it and do not say so."""
    name = info.orig_filename.partition("\0")[0]
    if not info.flag_bits & _UTF8_NAME:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _checked_name(file: Path, name: str) -> str:
    """Return a name without ``./`` and the like; refuse one that leads out of the archive."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", name) or "\0" in name:
        raise DataError(
            f"{file}: member {name[:80]!r} leads out of the archive",
            expected="names of files in it",
            remedy="make it again",
        )
    return "/".join(parts)


# -- members ---------------------------------------------------------------------------------------------


def _read(file: Path, name: str, member: _Member) -> bytes:
    if member.size > _MAX_MEMBER_BYTES:
        raise DataError(
            f"{name[:200]} has {member.size:,} bytes",
            expected=f"at most {_MAX_MEMBER_BYTES:,} for an image in an archive",
            kind="too-large",
        )
    try:
        with file.open("rb") as stream:
            content = _content(stream, member)
    except zlib.error as error:
        raise _damaged(name) from error
    if len(content) != member.size or (member.method >= 0 and zlib.crc32(content) != member.checksum):
        raise _damaged(name)
    return content


def _content(stream: BinaryIO, member: _Member) -> bytes:
    stream.seek(member.offset)
    if member.method >= 0:
        # The lengths of name and extra field may differ from those in the directory (APPNOTE 4.3.7).
        header = stream.read(30)
        if len(header) < 30 or not header.startswith(b"PK\x03\x04"):
            return b""
        stream.seek(sum(struct.unpack("<HH", header[26:30])), 1)
    stored = stream.read(member.stored)
    if member.method != zipfile.ZIP_DEFLATED:
        return stored
    # One byte more than is declared shows a bomb, and is all that it gets.
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(stored, member.size + 1)


def _damaged(name: str) -> DataError:
    return DataError(
        f"{name[:200]} is damaged in its archive", remedy="make the archive again", kind="corrupt"
    )
