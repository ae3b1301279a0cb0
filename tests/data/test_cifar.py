"""CIFAR's official files: two versions of two data sets, verified, read without running anything."""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import pickle
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from deepresidual.data.decode import decode
from deepresidual.data.formats import sniff
from deepresidual.data.source import cifar, open_source
from deepresidual.data.source.base import fingerprint_of
from deepresidual.data.source.cifar import CHECKSUMS
from deepresidual.errors import ConfigurationError, DataError
from tests.data.cifar_files import (
    ARCHIVES,
    FOLDERS,
    NAMES,
    archive_of,
    declare_official,
    images,
    official_files,
    python2_pickle,
    write_folder,
)

if TYPE_CHECKING:
    from pathlib import Path

    from deepresidual.data.source import SampleSource

_VERSIONS = list(FOLDERS)
_PYTHON10 = ("cifar10", "python")


def _lay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: tuple[str, str], files: dict[str, bytes]
) -> Path:
    """Write the files as an official folder, and have their checksums be the official ones."""
    declare_official(monkeypatch, FOLDERS[kind], files)
    return write_folder(tmp_path / FOLDERS[kind], files)


def _pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: tuple[str, str], content: bytes) -> Path:
    """Write an archive, and have its checksum be the official one."""
    path = tmp_path / ARCHIVES[kind]
    path.write_bytes(content)
    declare_official(monkeypatch, FOLDERS[kind], {}, (path.name, content))
    return path


def _check(source: SampleSource, name: str, per_file: int = 4) -> None:
    assert source.name == name
    assert source.classes == tuple(NAMES[name])
    seeds = {"train": range(1, 6) if name == "cifar10" else [1], "test": [6]}
    assert list(source.splits) == ["train", "test"]
    for split_name, split in source.splits.items():
        parts = [images(name, per_file, seed) for seed in seeds[split_name]]
        planes = np.concatenate([part[0] for part in parts])
        assert len(split) == len(planes)
        assert split.labels == [label for part in parts for label in part[1]]
        for index in range(len(split)):
            sample = split.read(index)
            assert sample.key == split.key(index) == f"{split_name}/{index:05d}"
            assert sample.target == split.labels[index]
            assert sniff(sample.content) == "BMP"
            expected = planes[index].reshape(3, 32, 32).transpose(1, 2, 0)
            np.testing.assert_array_equal(decode(sample.content), expected)


@pytest.mark.parametrize("kind", _VERSIONS)
@pytest.mark.parametrize("where", ["the folder", "above it", "the archive", "above the archive"])
def test_every_form_gives_the_very_pixels_labels_and_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: tuple[str, str], where: str
) -> None:
    files = official_files(*kind)
    if "archive" in where:
        path = _pack(tmp_path, monkeypatch, kind, archive_of(FOLDERS[kind], files))
    else:
        path = _lay(tmp_path, monkeypatch, kind, files)
    source = open_source(f"{kind[0]}:{path.parent if 'above' in where else path}")
    _check(source, kind[0])


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_both_versions_have_the_same_fingerprint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    sources = [
        open_source(f"{name}:{_lay(tmp_path, monkeypatch, (name, version), official_files(name, version))}")
        for version in ("python", "binary")
    ]
    for split in ("train", "test"):
        assert fingerprint_of(sources[0].splits[split]) == fingerprint_of(sources[1].splits[split])
    assert fingerprint_of(sources[0].splits["train"]) != fingerprint_of(sources[0].splits["test"])


def test_an_archive_may_have_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = archive_of(FOLDERS[_PYTHON10], official_files(*_PYTHON10))
    _pack(tmp_path, monkeypatch, _PYTHON10, content).rename(tmp_path / "cifar.tgz")
    _check(open_source(f"cifar10:{tmp_path / 'cifar.tgz'}"), "cifar10")


def test_a_split_reads_the_same_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _lay(tmp_path, monkeypatch, _PYTHON10, official_files(*_PYTHON10))
    split = open_source(f"cifar10:{path}").splits["train"]
    copy = pickle.loads(pickle.dumps(split))  # noqa: S301  # made on this line; what `spawn` does
    assert [copy.read(index) for index in range(20)] == [split.read(index) for index in range(20)]


# -- checksums -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CIFAR10", "CIFAR100"])
def test_the_checksums_of_the_python_versions_are_those_of_torchvision(name: str) -> None:
    theirs: Any = getattr(importlib.import_module("torchvision.datasets"), name)
    assert CHECKSUMS[theirs.filename] == theirs.tgz_md5
    listed = dict([*theirs.train_list, *theirs.test_list])
    listed[theirs.meta["filename"]] = theirs.meta["md5"]
    ours = {
        name.removeprefix(f"{theirs.base_folder}/"): checksum
        for name, checksum in CHECKSUMS.items()
        if name.startswith(f"{theirs.base_folder}/")
    }
    assert ours == listed


def test_every_official_file_with_images_has_a_checksum() -> None:
    for editions in cifar._EDITIONS.values():
        for edition in editions:
            assert edition.archive in CHECKSUMS
            for file in (*edition.train, edition.test):
                assert len(CHECKSUMS[f"{edition.folder}/{file}"]) in (32, 40)


@pytest.mark.parametrize("kind", _VERSIONS)
def test_an_archive_that_is_not_the_official_one_is_refused(tmp_path: Path, kind: tuple[str, str]) -> None:
    content = archive_of(FOLDERS[kind], official_files(*kind))
    path = tmp_path / ARCHIVES[kind]
    path.write_bytes(content)
    found = hashlib.md5(content).hexdigest()  # noqa: S324  # as published
    wanted = " or ".join(CHECKSUMS[ARCHIVES[kind[0], version]] for version in ("python", "binary"))
    with pytest.raises(
        DataError,
        match=rf"^{path} has the MD5 {found} \({len(content):,} bytes\); expected the official {wanted}; ",
    ):
        open_source(f"{kind[0]}:{path}")


@pytest.mark.parametrize("kind", _VERSIONS)
def test_a_changed_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: tuple[str, str]
) -> None:
    path = _lay(tmp_path, monkeypatch, kind, official_files(*kind))
    file = path / {"cifar10": "test_batch", "cifar100": "test"}[kind[0]]
    file = file if kind[1] == "python" else file.with_name(f"{file.name}.bin")
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        DataError,
        match=rf"^{file} has the (MD5|SHA1) [0-9a-f]+ \([\d,]+ bytes\); expected the official [0-9a-f]",
    ):
        open_source(f"{kind[0]}:{path}")


def test_nothing_is_interpreted_before_it_is_verified(tmp_path: Path) -> None:
    files = official_files(*_PYTHON10) | {"data_batch_1": b"cposix\nsystem\n(S'true'\ntR."}
    folder = write_folder(tmp_path / FOLDERS[_PYTHON10], files)
    with pytest.raises(
        DataError, match=r"data_batch_1 has the MD5 [0-9a-f]{32} \(\d+ bytes\); expected the o"
    ):
        open_source(f"cifar10:{folder}")


# -- hostile and damaged files ---------------------------------------------------------------------------


class _Call:
    """Pickles as a call that would create a file."""

    def __init__(self, marker: Path) -> None:
        self.command = f"touch {marker}"

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_hostile_pickle_with_the_right_checksum_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, packed: bool
) -> None:
    marker = tmp_path / "marker"
    hostile = pickle.dumps({"data": _Call(marker), "labels": [1], "label_names": ["a"]}, 2)
    files = official_files(*_PYTHON10) | {file: hostile}
    if packed:
        path = _pack(tmp_path, monkeypatch, _PYTHON10, archive_of(FOLDERS[_PYTHON10], files))
    else:
        path = _lay(tmp_path, monkeypatch, _PYTHON10, files)
    with pytest.raises(
        DataError, match=rf"{file}: the pickle asks for posix\.system; expected nothing but num"
    ):
        open_source(f"cifar10:{path}")
    assert not marker.exists()


def _hostile_archive(*members: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return stream.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, target, size
    return member


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (_member("../outside"), r"member '\.\./outside' leads out of the archive; expected plain names"),
        (_member("a/../../outside"), r"member 'a/\.\./\.\./outside' leads out of the archive"),
        (_member("/etc/outside"), r"member '/etc/outside' leads out of the archive"),
        (_member("link", tarfile.SYMTYPE, "/etc"), r"member 'link' is neither a file nor a folder"),
        (_member("hard", tarfile.LNKTYPE, "link"), r"member 'hard' is neither a file nor a folder"),
        (_member("null", tarfile.CHRTYPE), r"member 'null' is neither a file nor a folder"),
        (_member("pipe", tarfile.FIFOTYPE), r"member 'pipe' is neither a file nor a folder"),
        (_member("big", size=5_000), r"member 'big' has 5,000 bytes; expected at most 4,000"),
    ],
)
def test_hostile_members_are_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: tarfile.TarInfo, message: str
) -> None:
    monkeypatch.setattr(cifar, "_MAX_MEMBER_BYTES", 4_000)
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    path = _pack(tmp_path / "in", monkeypatch, _PYTHON10, _hostile_archive(_member("readme"), member))
    with pytest.raises(DataError, match=message):
        open_source(f"cifar10:{path}")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "in", path]


def test_an_archive_of_too_many_members_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = _hostile_archive(*(_member(f"{number}") for number in range(80)))
    path = _pack(tmp_path, monkeypatch, _PYTHON10, content)
    with pytest.raises(DataError, match=r"has more than 64 members$"):
        open_source(f"cifar10:{path}")


def test_a_file_that_is_too_large_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "_MAX_ARCHIVE_BYTES", 1_000_000)
    (tmp_path / "big.tar.gz").write_bytes(bytes(1_000_001))
    with pytest.raises(DataError, match=r"big\.tar\.gz has more than 1 MB; expected an official file"):
        open_source(f"cifar10:{tmp_path / 'big.tar.gz'}")


@pytest.mark.parametrize("keep", [0, 10, 2_000])
def test_a_damaged_archive_is_a_data_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    content = archive_of(FOLDERS[_PYTHON10], official_files(*_PYTHON10))
    path = _pack(tmp_path, monkeypatch, _PYTHON10, content[:keep])
    with pytest.raises(DataError, match=rf"^{path} is damaged \(.+\)$"):
        open_source(f"cifar10:{path}")


def test_an_archive_without_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = official_files(*_PYTHON10)
    del files["data_batch_4"]
    path = _pack(tmp_path, monkeypatch, _PYTHON10, archive_of(FOLDERS[_PYTHON10], files))
    with pytest.raises(DataError, match=r"does not hold cifar-10-batches-py/data_batch_4$"):
        open_source(f"cifar10:{path}")


def test_a_folder_without_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _lay(tmp_path, monkeypatch, _PYTHON10, official_files(*_PYTHON10))
    (path / "test_batch").unlink()
    with pytest.raises(DataError, match=r"test_batch is missing; unpack the archive again$"):
        open_source(f"cifar10:{path}")


_PLANES, _LABELS = images("cifar10", 4, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (python2_pickle({"labels": _LABELS}), r"data_batch_1 holds no images; expected rows of 3,072 bytes"),
        (python2_pickle({"data": _PLANES[:, :3000], "labels": _LABELS}), r"data_batch_1 holds no images"),
        (python2_pickle({"data": _PLANES}), r"data_batch_1 has no list of labels"),
        (python2_pickle({"data": _PLANES, "labels": ["a"]}), r"data_batch_1 has no list of labels"),
        (python2_pickle({"data": _PLANES, "labels": [1]}), r"data_batch_1 has 4 images and 1 labels"),
        (
            python2_pickle({"data": _PLANES, "labels": [0, 1, 2, 10]}),
            r"has labels out of range; expected 0 to 9",
        ),
        (python2_pickle({"data": _PLANES[:0], "labels": []}), r"has labels out of range; expected 0 to 9"),
        (b"\x80\x02]q\x01.", r"data_batch_1 holds no dictionary"),
        (
            python2_pickle({"data": _PLANES, "labels": _LABELS})[:-3],
            r"data_batch_1: a damaged pickle \(EOFErr",
        ),
        (b"\xff\xd8\xff", r"data_batch_1: a damaged pickle \(UnpicklingError\)"),
        (b"\x80\x02h\x07.", r"data_batch_1: a damaged pickle \(UnpicklingError\)"),
        (b"\x80\x02t.", r"data_batch_1: a damaged pickle \(UnpicklingError\)"),
        (b"(iposix\nsystem\n.", r"asks for posix\.system; expected nothing but numpy arrays"),
        (b"\x80\x02(cbuiltins\neval\no.", r"asks for builtins\.eval"),
        (b"\x80\x02cnumpy\nload\n.", r"asks for numpy\.load"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", r"asks for os\.system"),
        (b"\x80\x02\x82\x01.", r"a damaged pickle \(ValueError\)"),  # an extension's code
        (b"Pname\n.", r"a damaged pickle \(UnpicklingError\)"),  # an object kept elsewhere
    ],
)
def test_wrong_content_of_the_python_version_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    path = _lay(tmp_path, monkeypatch, _PYTHON10, official_files(*_PYTHON10) | {"data_batch_1": content})
    with pytest.raises(DataError, match=message):
        open_source(f"cifar10:{path}")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("data_batch_1.bin", bytes(3072), r"data_batch_1\.bin has 3,072 bytes; expected a multiple of 3,073"),
        ("data_batch_1.bin", b"", r"data_batch_1\.bin has 0 bytes; expected a multiple of 3,073"),
        (
            "data_batch_1.bin",
            b"\x0a" + bytes(3072),
            r"data_batch_1\.bin has labels out of range; expected 0 to",
        ),
        ("batches.meta.txt", b"cat\ndog\n", r"batches\.meta\.txt has 2 class names; expected 10"),
        ("batches.meta.txt", b"cat\n" * 10, r"classes 'cat' and 'cat' differ only in case or Unicode form"),
        ("batches.meta.txt", b"\xff\xfe", r"batches\.meta\.txt is not plain text"),
    ],
)
def test_wrong_content_of_the_binary_version_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: bytes, message: str
) -> None:
    kind = ("cifar10", "binary")
    path = _lay(tmp_path, monkeypatch, kind, official_files(*kind) | {file: content})
    with pytest.raises(DataError, match=message):
        open_source(f"cifar10:{path}")


def test_class_names_that_are_no_list_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = official_files(*_PYTHON10) | {"batches.meta": python2_pickle({"label_names": "airplane"})}
    path = _lay(tmp_path, monkeypatch, _PYTHON10, files)
    with pytest.raises(DataError, match=r"batches\.meta has no list of class names$"):
        open_source(f"cifar10:{path}")


# -- what is not there -----------------------------------------------------------------------------------


def test_a_path_that_does_not_exist_is_named_with_what_it_may_be(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"gone does not exist; expected cifar-10-python\.tar\.gz or cifar-10-binary\.tar\.gz or cif",
    ):
        open_source(f"cifar10:{tmp_path / 'gone'}")


def test_a_folder_of_other_things_is_named(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").touch()
    with pytest.raises(
        DataError, match=r"holds no official files of cifar100; expected cifar-100-python\.tar"
    ):
        open_source(f"cifar100:{tmp_path}")


def test_nothing_behind_the_colon(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^nothing stands behind 'cifar10:'; expected cifar10:PATH$"
    ):
        open_source("cifar10:")
