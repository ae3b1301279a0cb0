"""``cifar10:PATH`` and ``cifar100:PATH``: CIFAR, the paper's section 4.2, from the official files.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009: 50,000 training and 10,000 test
images of 32×32 pixels, in 10 or (fine labels) 100 classes. PATH is an official archive, in its Python or
its binary version, or a folder that holds it or the files that were in it. Nothing is downloaded.

Every file is verified by its published checksum before a byte of it is interpreted. The Python version is
made of pickles, which may name what makes a numpy array and nothing else. Archives are read in memory;
nothing is written to the disk.

Both versions hold the same images in the same order, and give the same samples: pixels stay in one array,
which worker processes share, and a sample becomes a BMP file when it is read, so that it goes the way of
every other image.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.source.base import EncodedSample, LabelledSplit, SampleSource, check_class_names
from deepresidual.errors import DataError
from deepresidual.runtime.git_lfs import FOUND, REMEDY, is_pointer

CHECKSUMS = {
    # Archives, MD5: https://www.cs.toronto.edu/~kriz/cifar.html
    "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
    "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
    "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
    "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
    # Files of the Python versions, MD5: torchvision 0.29, datasets/cifar.py
    "cifar-10-batches-py/data_batch_1": "c99cafc152244af753f735de768cd75f",
    "cifar-10-batches-py/data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "cifar-10-batches-py/data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "cifar-10-batches-py/data_batch_4": "634d18415352ddfa80567beed471001a",
    "cifar-10-batches-py/data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
    "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
    "cifar-100-python/train": "16019d7e3df5f24257cddd939b257f8d",
    "cifar-100-python/test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "cifar-100-python/meta": "7973b15100ade9c7d40fb424638fde48",
    # Files of the binary versions, SHA-1: Apache MXNet 1.9, gluon/data/vision/datasets.py. Nobody publishes
    # any for the lists of class names; those are checked for their number only.
    "cifar-10-batches-bin/data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "cifar-10-batches-bin/data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "cifar-10-batches-bin/data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "cifar-10-batches-bin/data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "cifar-10-batches-bin/data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "cifar-10-batches-bin/test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
    "cifar-100-binary/train.bin": "e207cd2e05b73b1393c74c7f5e7bea451d63e08e",
    "cifar-100-binary/test.bin": "8fb6623e830365ff53cf14adec797474f5478006",
}
"""Name of every official file → its published MD5 (32 digits) or SHA-1 (40 digits)."""

_SIDE = 32
_PIXEL_BYTES = 3 * _SIDE * _SIDE

# The largest official archive has 169 MB, 9 members, and one of 155 MB.
_MAX_ARCHIVE_BYTES = 256_000_000
_MAX_MEMBER_BYTES = 256_000_000
_MAX_MEMBERS = 64


@dataclass(frozen=True)
class _Edition:
    """One official version of one data set.

    Attributes:
        archive: Name of the archive.
        folder: Name of the folder in it.
        train: Files with the training images, in order.
        test: File with the test images.
        names: File with the class names.
        label: Key of the labels in the Python version; offset of the label in a row of the binary one.
        names_key: Key of the class names in the Python version.
        num_label_bytes: Bytes before the pixels in a row of the binary version.
    """

    archive: str
    folder: str
    train: tuple[str, ...]
    test: str
    names: str
    label: str | int
    names_key: str = ""
    num_label_bytes: int = 0

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, self.names)


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))

_EDITIONS: dict[str, tuple[_Edition, ...]] = {
    "cifar10": (
        _Edition(
            *("cifar-10-python.tar.gz", "cifar-10-batches-py", _BATCHES, "test_batch", "batches.meta"),
            label="labels",
            names_key="label_names",
        ),
        _Edition(
            *("cifar-10-binary.tar.gz", "cifar-10-batches-bin", tuple(f"{name}.bin" for name in _BATCHES)),
            *("test_batch.bin", "batches.meta.txt"),
            label=0,
            num_label_bytes=1,
        ),
    ),
    "cifar100": (
        _Edition(
            *("cifar-100-python.tar.gz", "cifar-100-python", ("train",), "test", "meta"),
            label="fine_labels",
            names_key="fine_label_names",
        ),
        _Edition(
            *("cifar-100-binary.tar.gz", "cifar-100-binary", ("train.bin",)),
            *("test.bin", "fine_label_names.txt"),
            label=1,  # before it stands the coarse label
            num_label_bytes=2,
        ),
    ),
}

_NUM_CLASSES = {"cifar10": 10, "cifar100": 100}


def open_cifar(name: Literal["cifar10", "cifar100"], path: Path) -> SampleSource:
    """Open CIFAR-10 or CIFAR-100.

    Args:
        name: Which of the two; CIFAR-100 has its 100 fine labels.
        path: An official archive, the folder that was in it, or a folder that holds one of these.

    Raises:
        DataError: There are no official files, or one is not what its checksum says.
    """
    edition, contents = _find(name, path)
    classes = _class_names(edition, contents[edition.names], path)
    if len(classes) != _NUM_CLASSES[name]:
        raise DataError(
            f"{path}: {edition.names} has {len(classes)} class names", expected=str(_NUM_CLASSES[name])
        )
    check_class_names(path, classes, remedy="unpack the archive again")
    splits = {}
    for split, files in (("train", edition.train), ("test", (edition.test,))):
        rows = [_read_rows(edition, file, contents[file], path, len(classes)) for file in files]
        splits[split] = CifarSplit(
            split,
            np.concatenate([pixels for pixels, _ in rows]),
            np.concatenate([labels for _, labels in rows]),
        )
    return SampleSource(name, classes, splits, is_permuted=True)


class CifarSplit(LabelledSplit):
    """Images of one split: ``(N, 3072)`` uint8, the red, green and blue plane of each."""

    def __init__(self, name: str, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> None:
        super().__init__(labels)
        self._name = name
        self._pixels = pixels

    def key(self, index: int) -> str:
        """Return the number of image ``index`` within its split."""
        return f"{self._name}/{index:05d}"

    def read(self, index: int) -> EncodedSample:
        """Return image ``index`` as a BMP file."""
        return EncodedSample(self.key(index), _bmp(self._pixels[index]), int(self._labels[index]))

    def _contents(self) -> Iterable[int]:
        return (zlib.crc32(row.tobytes()) for row in self._pixels)


# The header of a BMP file of 32×32 pixels with 24 bits (BITMAPFILEHEADER and BITMAPINFOHEADER).
_BMP_HEADER = struct.pack(
    "<2sIHHI IiiHHIIiiII",
    *(b"BM", 54 + _PIXEL_BYTES, 0, 0, 54),
    *(40, _SIDE, _SIDE, 1, 24, 0, _PIXEL_BYTES, 0, 0, 0, 0),
)


def _bmp(planes: NDArray[np.uint8]) -> bytes:
    # BMP because it is cheapest: 9 µs to make and 90 µs to decode, where PNG takes 140 µs to decode.
    # Its rows run from the bottom up, its pixels are blue, green, red; 96 bytes a row need no padding.
    return _BMP_HEADER + planes.reshape(3, _SIDE, _SIDE)[::-1, ::-1].transpose(1, 2, 0).tobytes()


def _find(name: str, path: Path) -> tuple[_Edition, Mapping[str, bytes]]:
    """Return the edition that lies at ``path``, and the verified contents of its files by name."""
    editions = _EDITIONS[name]
    if path.is_file():
        return _read_archive(editions, path)
    for edition in editions:
        for folder in (path / edition.folder, path):
            if (folder / edition.train[0]).is_file():
                return edition, _read_folder(edition, folder)
    for edition in editions:
        if (path / edition.archive).is_file():
            return _read_archive(editions, path / edition.archive)
    wanted = [edition.archive for edition in editions] + [f"{edition.folder}/" for edition in editions]
    raise DataError(
        f"{path} holds no official files of {name}" if path.exists() else f"{path} does not exist",
        expected=" or ".join(wanted),
    )


def _read_folder(edition: _Edition, folder: Path) -> dict[str, bytes]:
    contents = {}
    for name in edition.files:
        file = folder / name
        content = _read(file)
        expected = CHECKSUMS.get(f"{edition.folder}/{name}")
        if expected is not None:
            _verify(file, content, {expected: edition})
        contents[name] = content
    return contents


def _read_archive(editions: tuple[_Edition, ...], file: Path) -> tuple[_Edition, dict[str, bytes]]:
    content = _read(file)
    edition = _verify(file, content, {CHECKSUMS[edition.archive]: edition for edition in editions})
    return edition, _unpack(edition, file, content)


def _read(file: Path) -> bytes:
    """Return the content of a file, up to the size that an official one can have."""
    try:
        if not file.is_file():
            raise DataError(f"{file} is missing", remedy="unpack the archive again")
        with file.open("rb") as stream:
            content = stream.read(_MAX_ARCHIVE_BYTES + 1)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from error
    if is_pointer(content):
        raise DataError(f"{file} is {FOUND}", remedy=REMEDY)
    if len(content) > _MAX_ARCHIVE_BYTES:
        raise DataError(
            f"{file} has more than {_MAX_ARCHIVE_BYTES / 1e6:.0f} MB", expected="an official file"
        )
    return content


def _verify(file: Path, content: bytes, allowed: Mapping[str, _Edition]) -> _Edition:
    """Return the edition to which the content belongs by its checksum."""
    kind = "sha1" if all(len(checksum) == 40 for checksum in allowed) else "md5"
    found = hashlib.new(kind, content, usedforsecurity=False).hexdigest()
    if found not in allowed:
        raise DataError(
            f"{file} has the {kind.upper()} {found} ({len(content):,} bytes)",
            expected=f"the official {' or '.join(allowed)}",
            remedy="download it again",
        )
    return allowed[found]


def _unpack(edition: _Edition, file: Path, content: bytes) -> dict[str, bytes]:
    """Return the files of an edition out of its archive, in memory."""
    contents: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            for number, member in enumerate(archive):
                _check_member(file, member, number)
                folder, _, name = member.name.rpartition("/")
                if folder == edition.folder and name in edition.files:
                    stream = archive.extractfile(member)
                    contents[name] = stream.read(_MAX_MEMBER_BYTES) if stream is not None else b""
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{file} is damaged ({' '.join(str(error).split())[:120]})") from error
    for name in edition.files:
        if name not in contents:
            raise DataError(f"{file} does not hold {edition.folder}/{name}")
    return contents


def _check_member(file: Path, member: tarfile.TarInfo, number: int) -> None:
    parts = member.name.split("/")
    if member.name.startswith("/") or ".." in parts:
        raise DataError(f"{file}: member {member.name!r} leads out of the archive", expected="plain names")
    if not (member.isfile() or member.isdir()):
        raise DataError(f"{file}: member {member.name!r} is neither a file nor a folder")
    if not 0 <= member.size <= _MAX_MEMBER_BYTES:
        raise DataError(
            f"{file}: member {member.name!r} has {member.size:,} bytes",
            expected=f"at most {_MAX_MEMBER_BYTES:,}",
        )
    if number >= _MAX_MEMBERS:
        raise DataError(f"{file} has more than {_MAX_MEMBERS} members")


def _class_names(edition: _Edition, content: bytes, path: Path) -> tuple[str, ...]:
    if not edition.names_key:
        try:
            return tuple(line for line in content.decode("ascii").splitlines() if line)
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: {edition.names} is not plain text") from error
    names = _document(edition.names, content, path).get(edition.names_key)
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise DataError(f"{path}: {edition.names} has no list of class names")
    return tuple(names)


def _read_rows(
    edition: _Edition, file: str, content: bytes, path: Path, num_classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the pixels ``(N, 3072)`` and labels ``(N,)`` of one file."""
    if isinstance(edition.label, int):
        width = edition.num_label_bytes + _PIXEL_BYTES
        if not content or len(content) % width:
            raise DataError(f"{path}: {file} has {len(content):,} bytes", expected=f"a multiple of {width:,}")
        rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, width)
        pixels = np.ascontiguousarray(rows[:, edition.num_label_bytes :])
        labels = rows[:, edition.label].tolist()
    else:
        document = _document(file, content, path)
        pixels, labels = _images_in(file, document.get("data"), path), document.get(edition.label)
        if not (isinstance(labels, list) and all(type(label) is int for label in labels)):
            raise DataError(f"{path}: {file} has no list of labels")
    if len(labels) != len(pixels):
        raise DataError(f"{path}: {file} has {len(pixels):,} images and {len(labels):,} labels")
    if len(labels) == 0 or min(labels) < 0 or max(labels) >= num_classes:
        raise DataError(f"{path}: {file} has labels out of range", expected=f"0 to {num_classes - 1}")
    return pixels, np.array(labels, dtype=np.int64)


def _images_in(file: str, found: object, path: Path) -> NDArray[np.uint8]:
    if not (
        isinstance(found, np.ndarray)
        and found.dtype == np.uint8
        and found.ndim == 2
        and found.shape[1] == _PIXEL_BYTES
    ):
        raise DataError(f"{path}: {file} holds no images", expected=f"rows of {_PIXEL_BYTES:,} bytes")
    return np.ascontiguousarray(found)


class _ArrayUnpickler(pickle.Unpickler):
    """Reads numbers, text, lists, dictionaries and arrays; no other name in a pickle is looked up."""

    # By the names of Python 2, which wrote the official files.
    _NAMES: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._NAMES:
            raise DataError(
                f"the pickle asks for {module}.{name}"[:120],
                expected="nothing but numpy arrays of bytes, lists, numbers and text",
            )
        return self._NAMES[module, name]


def _document(file: str, content: bytes, path: Path) -> dict[Any, Any]:
    try:
        document = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except DataError as error:
        raise DataError(f"{path}: {file}: {error}") from error
    # What a damaged program raises is no more certain than this (`pickle.UnpicklingError` in the manual).
    except (pickle.UnpicklingError, ValueError, LookupError, TypeError, AttributeError, EOFError) as error:
        raise DataError(f"{path}: {file}: a damaged pickle ({type(error).__name__})") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: {file} holds no dictionary")
    return document
