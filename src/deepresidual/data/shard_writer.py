"""Writing a data set as shards: tar files in the layout of WebDataset, which :mod:`.source.shards` reads.

::

    OUT/classes.json
    OUT/train-000000.tar    00000000-cat17.jpg 00000000-cat17.cls 00000001-dog4.jpg 00000001-dog4.cls …
    OUT/test-000000.tar

The bytes of the images are those of the data set. The same data set and options give the same bytes on every
machine: no times, owners or host names are written. Samples are shuffled, because programs that read shards
as a stream see little more than their order.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Self

from deepresidual.data.formats import ACCEPTED, EXPECTED, sniff, suffix_of
from deepresidual.data.source import EncodedSample, SampleSource
from deepresidual.data.source.base import TAUGHT
from deepresidual.data.source.shards.classes import CLASSES_FILE
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.fields import check_seed
from deepresidual.runtime.files import atomic_folder, expanded, refuse_filled, write_json
from deepresidual.runtime.random import order_of_epoch


@dataclass(frozen=True)
class Shard:
    """One tar that was written.

    Attributes:
        name: Name of the file.
        num_samples: Samples in it.
        num_bytes: Its size.
    """

    name: str
    num_samples: int
    num_bytes: int


def write_shards(
    source: SampleSource,
    destination: Path,
    *,
    max_samples: int = 10_000,
    max_mb: int = 1_000,
    seed: int | None = 0,
    on_sample: Callable[[int], None] | None = None,
) -> list[Shard]:
    """Write every split of a data set as shards.

    The folder comes to be whole or not at all.

    Args:
        source: The data set.
        destination: Folder to write; it must not exist, or be empty.
        max_samples: Samples in a shard at most.
        max_mb: Megabytes (10⁶ bytes) in a shard at most; a sample larger than that has one for itself.
        seed: Decides the order of the samples; ``None`` keeps theirs.
        on_sample: Called with the number of samples that are written.

    Returns:
        The shards, in order.

    Raises:
        ConfigurationError: An option is out of range, or the destination holds something.
        DataError: A sample cannot be read or is not an image; the message names it. Or samples have something
            else than one class each.
        RunError: Something cannot be written.
    """
    for name, value in (("max_samples", max_samples), ("max_mb", max_mb)):
        if type(value) is not int or value < 1:
            raise ConfigurationError(f"{name} is {value!r}", expected="a whole number from 1 on")
    if seed is not None:
        check_seed(seed)
    if source.task != "classification":
        raise DataError(
            f"{source.name} has {TAUGHT[source.task]}",
            expected="one class an image, which is all that shards hold",
        )
    destination = expanded(destination)
    refuse_filled(destination)
    shards: list[Shard] = []
    num_written = 0
    with atomic_folder(destination) as folder:
        write_json(folder / CLASSES_FILE, list(source.classes))
        for name, split in source.splits.items():
            with _SplitWriter(folder, name, max_samples, max_mb * 1_000_000, shards) as writer:
                for number, index in enumerate(_order(len(split), seed)):
                    writer.add(number, split.read(index))
                    num_written += 1
                    if on_sample is not None:
                        on_sample(num_written)
    return shards


def _order(num_samples: int, seed: int | None) -> Iterable[int]:
    if seed is None:
        return range(num_samples)
    return (int(index) for index in order_of_epoch(seed, 0, num_samples))


class _SplitWriter:
    """The tars of one split, one after the other."""

    def __init__(
        self, folder: Path, split: str, max_samples: int, max_bytes: int, shards: list[Shard]
    ) -> None:
        self._folder, self._split = folder, split
        self._max_samples, self._max_bytes = max_samples, max_bytes
        self._shards = shards
        self._archive: tarfile.TarFile | None = None
        self._path = folder
        self._num_tars = self._num_samples = self._num_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def add(self, number: int, sample: EncodedSample) -> None:
        """Append a sample; begin another tar first if it would not fit."""
        found = sniff(sample.content)
        if found not in ACCEPTED:
            raise DataError(
                f"{sample.key} is not an image that can be used (found {found})",
                expected=EXPECTED,
                remedy="see 'residual check'",
            )
        members = (
            (f"{_member_name(number, sample.key)}.{suffix_of(found)}", sample.content),
            (f"{_member_name(number, sample.key)}.cls", str(sample.target).encode()),
        )
        num_bytes = sum(_bytes_in_tar(len(content)) for _, content in members)
        if self._archive is not None and (
            self._num_samples == self._max_samples
            or self._num_bytes + num_bytes + _END_BYTES > self._max_bytes
        ):
            self._close()
        archive = self._archive or self._open()
        for name, content in members:
            header = tarfile.TarInfo(name)  # its times and owners are 0 unless set
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
        archive.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
        self._num_samples += 1
        self._num_bytes += num_bytes

    def _open(self) -> tarfile.TarFile:
        self._path = self._folder / f"{self._split}-{self._num_tars:06d}.tar"
        self._archive = tarfile.open(self._path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115  # see _close
        self._num_tars += 1
        self._num_samples = self._num_bytes = 0
        return self._archive

    def _close(self) -> None:
        if self._archive is None:
            return
        self._archive.close()
        self._archive = None
        self._shards.append(Shard(self._path.name, self._num_samples, self._path.stat().st_size))


# A tar ends with two empty blocks, and is filled up to a whole record.
_END_BYTES = 2 * tarfile.BLOCKSIZE + tarfile.RECORDSIZE


def _bytes_in_tar(size: int) -> int:
    return tarfile.BLOCKSIZE * (1 + -(-size // tarfile.BLOCKSIZE))


def _member_name(number: int, key: str) -> str:
    """Return a name without a dot, so that the sample's own name ends where WebDataset thinks it does.

    The number makes it unique; what can be kept of the file name tells a reader where it came from.
    """
    stem = PurePosixPath(key).stem
    return f"{number:08d}-{re.sub(r'[^A-Za-z0-9_-]', '_', stem)[:64]}"
