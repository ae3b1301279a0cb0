"""CIFAR's official files in small: made as their authors made them, with few images."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from numpy.typing import NDArray

NAMES = {
    "cifar10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    "cifar100": [f"thing_{number:02d}" for number in range(100)],
}
FOLDERS = {
    ("cifar10", "python"): "cifar-10-batches-py",
    ("cifar10", "binary"): "cifar-10-batches-bin",
    ("cifar100", "python"): "cifar-100-python",
    ("cifar100", "binary"): "cifar-100-binary",
}
ARCHIVES = {
    ("cifar10", "python"): "cifar-10-python.tar.gz",
    ("cifar10", "binary"): "cifar-10-binary.tar.gz",
    ("cifar100", "python"): "cifar-100-python.tar.gz",
    ("cifar100", "binary"): "cifar-100-binary.tar.gz",
}

Value = str | int | list[int] | list[str] | np.ndarray


def images(name: str, count: int, seed: int) -> tuple[NDArray[np.uint8], list[int]]:
    """Return random planes ``(count, 3072)`` and labels."""
    generator = np.random.default_rng(seed)
    planes = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
    return planes, generator.integers(0, len(NAMES[name]), count).tolist()


def python2_pickle(entries: dict[str, Value]) -> bytes:
    """Return a dictionary as cPickle of Python 2 writes it with protocol 2."""
    body = b"".join(_string(key) + _value(value) for key, value in entries.items())
    return b"\x80\x02}q\x01(" + body + b"u."


def python2_text_pickle(entries: dict[str, int | list[str]]) -> bytes:
    """Return a dictionary as pickle of Python 2 writes it with protocol 0, the text protocol."""
    parts, memo = [b"(dp1\n"], 1
    for key, value in entries.items():
        memo += 1
        parts.append(b"S'%s'\np%d\n" % (key.encode(), memo))
        if isinstance(value, int):
            parts.append(b"I%d\ns" % value)
        else:
            memo += 1
            parts.append(b"(lp%d\n" % memo)
            parts += [b"S'%s'\na" % item.encode() for item in value]
            parts.append(b"s")
    return b"".join(parts) + b"."


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int):
        return b"M" + struct.pack("<H", value)
    if isinstance(value, list):
        items = b"".join(_string(item) if isinstance(item, str) else b"K%c" % item for item in value)
        return b"]q\x05(" + items + b"e"
    rows, columns = value.shape
    raw = value.tobytes()
    parts = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x06cnumpy\nndarray\nq\x07",
        b"K\x00\x85q\x08U\x01bq\x09\x87q\x0aRq\x0b",
        b"(K\x01M%sM%s\x86q\x0c" % (struct.pack("<H", rows), struct.pack("<H", columns)),
        b"cnumpy\ndtype\nq\x0dU\x02u1q\x0eK\x00K\x01\x87q\x0fRq\x10",
        b"(K\x03U\x01|q\x11NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x12b",
        b"\x89T%s%sq\x13tq\x14b" % (struct.pack("<I", len(raw)), raw),
    )
    return b"".join(parts)


def _string(text: str) -> bytes:
    return b"U%c" % len(text) + text.encode("latin-1")


def official_files(name: str, version: str, per_file: int = 4) -> dict[str, bytes]:
    """Return the files of one version, by name, with ``per_file`` images each."""
    names = NAMES[name]
    parts = (
        {f"data_batch_{number}": number for number in range(1, 6)} | {"test_batch": 6}
        if name == "cifar10"
        else {"train": 1, "test": 6}
    )
    files: dict[str, bytes] = {}
    for file, seed in parts.items():
        planes, labels = images(name, per_file, seed)
        if version == "binary":
            coarse = np.full((per_file, 1 if name == "cifar100" else 0), 7, dtype=np.uint8)
            rows = np.hstack([coarse, np.array(labels, dtype=np.uint8)[:, None], planes])
            files[f"{file}.bin"] = rows.tobytes()
        elif name == "cifar10":
            files[file] = python2_pickle({"batch_label": "training batch", "labels": labels, "data": planes})
        else:
            entries: dict[str, Value] = {
                "data": planes,
                "coarse_labels": [7] * per_file,
                "fine_labels": labels,
            }
            files[file] = python2_pickle(entries)
    if version == "binary":
        file = "batches.meta.txt" if name == "cifar10" else "fine_label_names.txt"
        files[file] = "".join(f"{class_name}\n" for class_name in [*names, ""]).encode()
    elif name == "cifar10":
        files["batches.meta"] = python2_text_pickle(
            {"num_cases_per_batch": 10000, "label_names": names, "num_vis": 3072}
        )
    else:
        files["meta"] = python2_pickle({"fine_label_names": names, "coarse_label_names": ["a", "b"]})
    return files


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """Write the files into a folder."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def archive_of(folder: str, files: dict[str, bytes]) -> bytes:
    """Return the archive of a folder with the files, and a readme, as the official ones have."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        directory = tarfile.TarInfo(folder)
        directory.type = tarfile.DIRTYPE
        archive.addfile(directory)
        for name, content in {**files, "readme.html": b"<html>"}.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def declare_official(
    monkeypatch: pytest.MonkeyPatch,
    folder: str,
    files: dict[str, bytes],
    archive: tuple[str, bytes] | None = None,
) -> None:
    """Put the checksums of made-up files into the table of official ones, with the hash used there."""
    from deepresidual.data.source.cifar import CHECKSUMS

    for name, content in files.items():
        if (entry := f"{folder}/{name}") in CHECKSUMS:
            kind = "sha1" if len(CHECKSUMS[entry]) == 40 else "md5"
            monkeypatch.setitem(CHECKSUMS, entry, hashlib.new(kind, content).hexdigest())
    if archive is not None:
        monkeypatch.setitem(CHECKSUMS, archive[0], hashlib.md5(archive[1]).hexdigest())  # noqa: S324  # as published
