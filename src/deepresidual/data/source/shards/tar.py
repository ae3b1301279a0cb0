"""Read the headers of a tar that may be hostile."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from deepresidual.errors import DataError

COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4")
"""Ends of names of compressed tars."""

_COMPRESSION_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")

# Far above what is sensible (a shard of WebDataset has some 10,000 samples), far below what hurts.
_MAX_MEMBERS = 1_000_000
_MAX_NAME_BYTES = 1024
# Long names and other extensions travel in headers of their own, which tarfile reads into memory whole.
_MAX_HEADER_BYTES = 16_384
_EXTENSIONS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)


class Member(NamedTuple):
    """A plain file in a tar: its name, where it begins, its bytes."""

    name: str
    offset: int
    size: int


class _Header(tarfile.TarInfo):
    """A header that is checked before tarfile acts on it.

    Earlier patch releases of Python follow a negative size backwards for ever (CVE-2025-8194) and search a
    long extended header in quadratic time (CVE-2024-6232).
    """

    def _proc_member(self, archive: tarfile.TarFile) -> Self:
        if self.size < 0 or (self.type in _EXTENSIONS and self.size > _MAX_HEADER_BYTES):
            raise tarfile.ReadError(f"a header declares {self.size:,} bytes")
        # The documented place to step in, though typeshed does not know it.
        header: Self = super()._proc_member(archive)  # type: ignore[misc]
        return header


def compressed_tar(file: Path) -> DataError:
    """Return the error for a compressed tar."""
    return DataError(
        f"{file} is compressed, so that nothing in it can be found without unpacking what is before",
        expected="plain .tar files",
        remedy="unpack it, as with gunzip",
    )


def members_of(file: Path, stream: BinaryIO) -> Iterator[Member]:
    """Yield the plain files in a tar, in their order; between two of them the stream may be read elsewhere.

    Raises:
        DataError: The tar is damaged, truncated or compressed, or a member is refused.
    """
    try:
        size = os.fstat(stream.fileno()).st_size
        if stream.read(8).startswith(_COMPRESSION_MAGIC):
            raise compressed_tar(file)
        stream.seek(0)
        with tarfile.open(fileobj=stream, mode="r:", tarinfo=_Header, encoding="utf-8") as archive:
            yield from _checked(file, size, archive)
            _check_end(stream, archive.offset)
    # Beside its own errors tarfile lets through what int() and its recursion raise on hostile headers.
    except (tarfile.TarError, ValueError, IndexError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{file} is damaged or no tar ({reason})", remedy="copy or make it again") from error


def _checked(file: Path, size: int, archive: tarfile.TarFile) -> Iterator[Member]:
    count, position = 0, 0
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
        count += 1
        if count > _MAX_MEMBERS:
            raise DataError(f"{file} has more than {_MAX_MEMBERS:,} members", remedy="make smaller shards")
        _check_member(file, member)
        if member.size < 0 or member.offset_data + member.size > size:
            raise tarfile.ReadError(f"{member.name[:80]!r} goes on behind the end of the file")
        if member.offset < position:
            raise tarfile.ReadError(f"the header of {member.name[:80]!r} leads backwards")
        position = member.offset_data
        if member.isfile():
            yield Member(member.name, member.offset_data, member.size)


def _check_member(file: Path, member: tarfile.TarInfo) -> None:
    """Refuse what a tar of samples never holds and what would be dangerous to unpack."""
    if member.name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", member.name) or "\0" in member.name:
        kind = "leads out of the archive"
    elif not (member.isfile() or member.isdir()):
        kind = (
            "is a link" if member.issym() or member.islnk() else "is a device, a pipe or of an unknown kind"
        )
    elif member.issparse():
        kind = "is stored with holes"
    elif len(os.fsencode(member.name)) > _MAX_NAME_BYTES:
        kind = f"has a name of more than {_MAX_NAME_BYTES:,} bytes"
    else:
        return
    raise DataError(
        f"{file}: member {member.name[:80]!r} {kind}", expected="plain files", remedy="make the tar again"
    )


def _check_end(stream: BinaryIO, position: int) -> None:
    """Make sure that the tar ends where its headers end; tarfile takes any nonsense there for the end."""
    stream.seek(position)
    block = stream.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it ends early, without the mark of its end")
    if block.strip(b"\0"):
        raise tarfile.ReadError(f"no header, and not the end, at byte {position:,}")
    while block := stream.read(1 << 20):
        if block.strip(b"\0"):
            raise tarfile.ReadError("data follow its end, as where two tars were joined")
