"""Zip and tar files as folders: the same data set as unpacked, and nothing that one says is believed."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deepresidual.backends import find_images
from deepresidual.data.check import check
from deepresidual.data.decode import read_file
from deepresidual.data.source import SampleSource, archive, open_source
from deepresidual.errors import DataError
from tests.data.pictures import encode, noise

_CLASSES = ("ant", "bee")


def _contents(num_images: int = 12) -> dict[str, bytes]:
    """Return pictures by the path that they have in a folder of classes."""
    return {
        f"{name}/{number}.png": encode(noise(20, 20, seed=100 * place + number), "PNG")
        for place, name in enumerate(_CLASSES)
        for number in range(num_images)
    }


def _zipped(file: Path, contents: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as target:
        for name, content in contents.items():
            target.writestr(name, content)
    return file


def _tarred(file: Path, contents: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as target:
        for name, content in contents.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            target.addfile(header, io.BytesIO(content))
    return file


def _unpacked(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def _rows(source: SampleSource) -> dict[str, list[tuple[str, int, int]]]:
    return {name: list(split.rows()) for name, split in source.splits.items()}


_PACKERS = {
    "deflated": lambda file, contents: _zipped(file.with_suffix(".zip"), contents),
    "stored": lambda file, contents: _zipped(file.with_suffix(".ZIP"), contents, zipfile.ZIP_STORED),
    "tar": lambda file, contents: _tarred(file.with_suffix(".tar"), contents),
}


@pytest.mark.parametrize("packer", _PACKERS)
@pytest.mark.parametrize("above", ["", "photos/", "./", "my photos/2024/"])
def test_an_archive_is_the_data_set_that_was_packed(tmp_path: Path, packer: str, above: str) -> None:
    contents = _contents()
    folder = open_source(_unpacked(tmp_path / "photos", contents))
    (tmp_path / "packed").mkdir()
    packed = _PACKERS[packer](
        tmp_path / "packed" / "photos", {f"{above}{name}": content for name, content in contents.items()}
    )
    source = open_source(packed)
    assert source.classes == folder.classes
    assert _rows(source) == _rows(folder)  # so a run on one goes on with the other
    for name, split in source.splits.items():
        for index in range(len(split)):
            assert split.read(index) == folder.split(name).read(index)


@pytest.mark.parametrize("packer", _PACKERS)
def test_splits_in_an_archive_are_found(tmp_path: Path, packer: str) -> None:
    contents = {
        f"photos/{split}/{name}": data for split in ("train", "val") for name, data in _contents(2).items()
    }
    source = open_source(_PACKERS[packer](tmp_path / "photos", contents))
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 4, "val": 4}
    only = {name.removeprefix("photos/"): data for name, data in contents.items() if "/train/" in name}
    assert list(open_source(_PACKERS[packer](tmp_path / "only", only)).splits) == ["train"]


def test_the_litter_of_macs_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    contents = _contents() | {
        "__MACOSX/ant/._1.png": b"x",
        ".DS_Store": b"x",
        "ant/.DS_Store": b"x",
        "ant/notes.txt": b"remember the milk",
        "bee/.cache/x.png": b"x",
        "bee/.mine/x.png": b"x",
    }
    source = open_source(_zipped(tmp_path / "photos.zip", contents))
    assert source.classes == _CLASSES
    assert {file.path: file.reason for file in source.ignored} == {
        "ant/notes.txt": "no image (text)",
        "bee/.mine/": "a hidden folder; rename it to use what is in it",
    }


def test_a_folder_in_an_archive_is_data(tmp_path: Path) -> None:
    file = _zipped(tmp_path / "all.zip", {f"a/b/{name}": data for name, data in _contents().items()})
    assert open_source(file / "a" / "b").classes == _CLASSES
    with pytest.raises(DataError, match=r"nowhere does not exist; did you mean .*all\.zip\?$"):
        open_source(file / "nowhere")


def test_a_tar_with_labels_beside_its_images_stays_a_shard(tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for number in range(20):
        members[f"train/{number}.png"] = encode(noise(20, 20, seed=number), "PNG")
        members[f"train/{number}.cls"] = str(number % 2).encode()
    source = open_source(_tarred(tmp_path / "samples.tar", members))
    assert source.classes == ("0", "1")
    assert {type(split).__name__ for split in source.splits.values()} == {"Subset"}
    # So does one without labels and folders: what is missing is said as before.
    with pytest.raises(DataError, match=r"sample '0' has an image and no label; expected 0\.cls or 0\.json"):
        open_source(_tarred(tmp_path / "bare.tar", {"0.png": b"", "1.png": b""}))


def test_check_reads_an_archive_in_worker_processes(tmp_path: Path) -> None:
    contents = _contents() | {"ant/cut.png": _contents(1)["ant/0.png"][:60]}
    found = check(_zipped(tmp_path / "photos.zip", contents), num_workers=2)
    assert {finding.key for finding in found.findings if finding.kind == "corrupt"} | {
        finding.key for finding in found.findings if finding.kind == "truncated"
    } == {"ant/cut.png"}
    assert sum(found.num_samples.values()) == 25


def test_a_split_of_an_archive_travels_between_processes_and_is_read_by_threads(tmp_path: Path) -> None:
    contents = _contents()
    split = pickle.loads(  # noqa: S301  # made on this line
        pickle.dumps(open_source(_zipped(tmp_path / "photos.zip", contents)).split("train"))
    )
    with ThreadPoolExecutor(4) as threads:
        for sample in threads.map(split.read, [*range(len(split))] * 20):
            assert sample.content == contents[sample.key]


def test_images_of_an_archive_are_found_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    contents = _contents(2)
    _zipped(tmp_path / "photos.zip", contents)
    found = find_images(["photos.zip"])
    assert found.files == [f"photos.zip/{name}" for name in sorted(contents)]
    assert [read_file(file) for file in found.files] == [contents[name] for name in sorted(contents)]
    assert find_images(["photos.zip/ant", "photos.zip/bee/1.png"]).files == [
        *("photos.zip/ant/0.png", "photos.zip/ant/1.png", "photos.zip/bee/1.png")
    ]
    with pytest.raises(DataError, match=r"^photos\.zip/none\.png does not exist"):
        find_images(["photos.zip/none.png"])


def test_an_archive_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    file = _zipped(tmp_path / "photos.zip", {"a.png": b"first"})
    assert read_file(file / "a.png") == b"first"
    _zipped(file, {"a.png": b"second!"})
    assert read_file(file / "a.png") == b"second!"


def test_names_of_macs_and_of_windows_are_read(tmp_path: Path) -> None:
    file = _zipped(tmp_path / "photos.zip", {"cafe\u0301/1.png": b"1", "b\\1.png": b"2"})
    content = file.read_bytes()
    # Without the flag that says UTF-8, as the Finder writes it.
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(signature) + place
        content = content[:at] + struct.pack("<H", 0) + content[at + 2 :]
    file.write_bytes(content)
    assert read_file(file / "cafe\u0301" / "1.png") == b"1"
    assert read_file(file / "b" / "1.png") == b"2"


def test_a_table_may_name_images_in_an_archive_with_backslashes(tmp_path: Path) -> None:
    contents = _contents()
    _zipped(tmp_path / "photos.zip", contents)
    rows = [f"photos.zip\\{name.replace('/', chr(92))},{name[:3]},train" for name in contents]
    (tmp_path / "labels.csv").write_text("path,label,split\n" + "\n".join(rows) + "\n")
    split = open_source(tmp_path / "labels.csv").split("train")
    assert split.read(0).content == contents["ant/0.png"]


# -- archives that are wrong, on purpose or not ----------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png"]
)
def test_names_that_lead_out_are_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    file = _zipped(tmp_path / "in" / "photos.zip", _contents(1) | {name: b"x"})
    with pytest.raises(DataError, match=r"leads out of the archive; expected names of files in it"):
        open_source(file)
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "photos.zip"]


def test_a_link_in_a_zip_is_not_followed(tmp_path: Path) -> None:
    file = _zipped(tmp_path / "photos.zip", _contents())
    with zipfile.ZipFile(file, "a") as target:
        link = zipfile.ZipInfo("ant/passwd.png")
        link.external_attr = 0o120777 << 16
        target.writestr(link, "/etc/passwd")
    (ignored,) = open_source(file).ignored
    assert str(ignored) == "ant/passwd.png is not used: not a regular file"
    with pytest.raises(DataError, match="cannot be read"):
        read_file(file / "ant" / "passwd.png")


def test_a_bomb_is_given_no_more_memory_than_it_declares(tmp_path: Path) -> None:
    file = _zipped(tmp_path / "bomb.zip", {"a.png": bytes(50_000_000)})
    content = bytearray(file.read_bytes())
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<I", 1000)  # it says that it unpacks to 1,000 bytes
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"^a\.png is damaged in its archive; make the archive again$"):
        read_file(file / "a.png")
    content[at : at + 4] = struct.pack("<I", 2_000_000_000)
    file.write_bytes(content + b" ")
    with pytest.raises(DataError, match=r"^a\.png has 2,000,000,000 bytes; expected at most 1,000,000,000"):
        read_file(file / "a.png")


def test_a_flipped_bit_is_named_with_its_member(tmp_path: Path) -> None:
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = _zipped(tmp_path / f"{compression}.zip", {"ant/a.png": noise(40, 40).tobytes()}, compression)
        content = bytearray(file.read_bytes())
        content[1000] ^= 1
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"^ant/a\.png is damaged in its archive"):
            read_file(file / "ant" / "a.png")


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9])
def test_an_archive_that_ends_early_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    pack = _zipped if suffix == ".zip" else _tarred
    content = pack(tmp_path / f"whole{suffix}", _contents()).read_bytes()
    file = tmp_path / f"cut{suffix}"
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(
        DataError, match=r"^.*cut\.\w+ is damaged or no (zip|tar) \(.+\); copy or make it again$"
    ):
        open_source(file)


def test_hostile_directories_raise_nothing_else(tmp_path: Path) -> None:
    content = _zipped(tmp_path / "whole.zip", _contents(3)).read_bytes()
    start = content.index(b"PK\x01\x02")
    random = np.random.default_rng(0)
    for number in range(150):
        changed = bytearray(content)
        for place in random.integers(start, len(content), 4):
            changed[place] = int(random.integers(0, 256))
        file = tmp_path / f"{number}.zip"
        file.write_bytes(changed)
        try:
            found = find_images([str(file)]).files
        except DataError:
            continue
        for path in found:
            try:
                read_file(path)
            except DataError:
                continue


def test_an_encrypted_zip_and_an_odd_compression_are_refused(tmp_path: Path) -> None:
    file = _zipped(tmp_path / "photos.zip", _contents(1))
    content = bytearray(file.read_bytes())
    at = content.index(b"PK\x01\x02") + 8
    content[at] |= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"photos\.zip is encrypted; unpack it$"):
        open_source(file)
    packed = _zipped(tmp_path / "lzma.zip", _contents(1), zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match=r"ant/0\.png is compressed by method 14; expected deflate"):
        open_source(packed)


def test_more_members_than_are_sensible_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_MAX_MEMBERS", 10)
    with pytest.raises(DataError, match=r"photos\.zip has 24 members; expected at most 10$"):
        open_source(_zipped(tmp_path / "photos.zip", _contents()))


def test_a_compressed_tar_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "photos.tar.gz").write_bytes(b"\x1f\x8b" + bytes(50))
    with pytest.raises(DataError, match=r"photos\.tar\.gz is compressed, .*; unpack it, as with gunzip$"):
        open_source(tmp_path / "photos.tar.gz")
